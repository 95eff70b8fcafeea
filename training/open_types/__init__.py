"""A corpus that was written for this project. Each text lists the entity types that it was annotated for."""
