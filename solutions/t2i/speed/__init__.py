"""How fast our networks are, and how much work they do."""
