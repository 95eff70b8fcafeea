"""A corpus that was written for this project; each text lists the types that it was annotated for."""
