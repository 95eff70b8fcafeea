"""Texts for the tests of the spaCy component, and how they read its results."""

# spaCy and the model split these texts into the same words.
TEXTS = ["the gene in the cells", "cells of the gene", "the promoter of the gene in cells", "of the in"]
HANDWRITTEN = "no-such-folder"  # no model, for components that get handwritten entities


def spans(group):
    return [(span.text, span.label_) for span in group]
