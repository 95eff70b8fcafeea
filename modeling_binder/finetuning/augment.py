"""Texts in other shapes: in lower case, in capitals, with line breaks in place of blanks.

Every change keeps the number of characters, so that offsets stay right.
"""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from .data import Document

BREAKS = 0.2  # share of the blanks of a text that become line breaks


def augmented(document: Document, shares: Mapping[str, float], seed: str) -> Document:
    """Return a document in one of the shapes, or unchanged.

    Args:
        document: the document.
        shares: probabilities of "lower", "upper" and "breaks".
        seed: the same seed gives the same shape for a document.
    """
    random = Random(f"{seed}/{document.id}")
    drawn = random.random()
    for shape, share in shares.items():
        if drawn < share:
            return replace(document, text=reshaped(document.text, shape, random))
        drawn -= share
    return document


def reshaped(text: str, shape: str, random: Random) -> str:
    """Return a text in lower case ("lower"), in capitals ("upper") or with some line breaks ("breaks")."""
    if shape == "breaks":
        return "".join("\n" if c == " " and random.random() < BREAKS else c for c in text)
    changed = (c.lower() if shape == "lower" else c.upper() for c in text)
    # Characters that become two ("ß" in capitals, "İ" in lower case) stay as they are.
    return "".join(new if len(new) == 1 else old for old, new in zip(text, changed, strict=True))
