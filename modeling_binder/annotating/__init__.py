"""Annotate tables of any size: read a table in chunks, find the entities of its texts, and write the chunks."""
