"""Annotate tables of any size: read them in chunks, find the entities of their texts, and write the chunks."""
