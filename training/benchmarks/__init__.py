"""Benchmark of speed and memory: binder-ner, its bare encoder, and other packages for named-entity recognition."""
