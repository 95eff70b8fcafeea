"""Texts for the tests of the spaCy component, and a function that shortens its results."""

# spaCy and the model split these texts into the same words.
TEXTS = ["the gene in the cells", "cells of the gene", "the promoter of the gene in cells", "of the in"]
HANDWRITTEN = "no-such-folder"  # model name of components that get their entities from a test


def spans(group):
    return [(span.text, span.label_) for span in group]
