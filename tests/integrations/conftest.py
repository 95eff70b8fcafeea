"""A fixture that builds a spaCy pipeline with the tiny model."""

import pytest


@pytest.fixture
def build(checkpoint):
    """Return a function that builds a spaCy pipeline with the tiny model."""

    import spacy

    def build(language="en", **config):
        nlp = spacy.blank(language)
        nlp.add_pipe("binder_ner", config={"model": str(checkpoint), **config})
        return nlp

    return build
