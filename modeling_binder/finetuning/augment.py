"""Data augmentation: convert texts into lower case or capitals, or replace spaces by line breaks.

The number of characters never changes, so the offsets of mentions remain valid.
"""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from .data import Document

BREAKS = 0.2  # share of the spaces that "breaks" replaces by line breaks, see `reshaped`


def augmented(document: Document, shares: Mapping[str, float], seed: str) -> Document:
    """Change the text of a document at random, or return the document unchanged.

    Args:
        document: the document.
        shares: name of a change ("lower", "upper" or "breaks", see `reshaped`) -> its probability. The probabilities
            sum to at most 1; the rest is the probability of no change.
        seed: seed of the random choice. The same seed gives the same change for a document.
    """
    random = Random(f"{seed}/{document.id}")
    drawn = random.random()
    for shape, share in shares.items():
        if drawn < share:
            return replace(document, text=reshaped(document.text, shape, random))
        drawn -= share
    return document


def reshaped(text: str, shape: str, random: Random) -> str:
    """Return a text in lower case ("lower"), in capitals ("upper"), or with some spaces as line breaks ("breaks")."""
    if shape == "breaks":
        return "".join("\n" if c == " " and random.random() < BREAKS else c for c in text)
    changed = (c.lower() if shape == "lower" else c.upper() for c in text)
    # Keep characters that would become two characters ("ß" in capitals, "İ" in lower case): offsets must stay valid.
    return "".join(new if len(new) == 1 else old for old, new in zip(text, changed, strict=True))
