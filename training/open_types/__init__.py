"""A corpus of texts with types of their own, written for this project."""
