"""What the page accepts, and sentences for what it does not."""

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

MAX_CHARACTERS = 20_000
MAX_TYPES = 50
MAX_NAME = 60
MAX_DESCRIPTION = 500
MAX_FILE_BYTES = 2_000_000
MAX_RECORDS = 2_000
QUEUE = 32  # requests that wait


class Refused(gr.Error):
    """Something cannot be done; the message says why, and what can.

    Gradio shows an error's text as HTML, and it may quote what a person typed: it is escaped here, once.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(html.escape(sentence), print_exception=False)
        self.sentence = sentence


def check_text(text: str) -> str:
    """The text, if it is one that the page reads."""
    if len(text) > MAX_CHARACTERS:
        raise Refused(f"The text has {len(text):,} characters; this page reads up to {MAX_CHARACTERS:,}.")
    if not text.strip():
        raise Refused("There is no text yet: type some, or take one of the examples.")
    return text


def check_types(rows: Sequence[Sequence[Any]]) -> tuple[dict[str, str], dict[str, float]]:
    """Descriptions and thresholds by name, from the rows of the table: name, description, threshold.

    Rows without a name are skipped; a type without a description is described by its name; without a threshold it has
    the common one.
    """
    types: dict[str, str] = {}
    thresholds: dict[str, float] = {}
    for row in rows:
        name, description, threshold = (["" if cell is None else str(cell).strip() for cell in row] + [""] * 3)[:3]
        if not name:
            continue
        if name in types:
            raise Refused(f"The type {name!r} is there twice: give one of them another name.")
        if len(name) > MAX_NAME or len(description) > MAX_DESCRIPTION:
            raise Refused(
                f"The type {name[:MAX_NAME]!r} is too long: a name has up to {MAX_NAME} characters, a description "
                f"up to {MAX_DESCRIPTION}."
            )
        types[name] = description or name
        if threshold and threshold != "nan":
            thresholds[name] = check_threshold(threshold, name)
    if not types:
        raise Refused("There are no entity types: write a name into the table, or take the model's own.")
    if len(types) > MAX_TYPES:
        raise Refused(f"There are {len(types)} types; this page looks for up to {MAX_TYPES} at once.")
    return types, thresholds


def check_threshold(value: Any, name: str) -> float:
    """A threshold as a number in 0..1."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= 1:
        raise Refused(f"The threshold of {name!r} is {str(value)[:20]!r}; it must be a number between 0 and 1.")
    return number
