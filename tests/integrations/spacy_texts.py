"""Texts for the tests of the spaCy component, and a function that shortens its results."""

# spaCy and the model split these texts into the same words.
TEXTS = ["the gene in the cells", "cells of the gene", "the promoter of the gene in cells", "of the in"]
HANDWRITTEN = "no-such-folder"  # the model of components that need none, because tests give them entities


def spans(group):
    return [(span.text, span.label_) for span in group]
