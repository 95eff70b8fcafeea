"""Measurements of quality: benchmark results, ablations, new entity types and comparisons."""
