"""Files that are whole or absent: weights, figures, pictures, shards."""
