"""The little world that lessons 6 to 10 paint: digits and shapes, and what is said of them."""
