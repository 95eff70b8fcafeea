"""Limits of the demo page, and checks of its inputs."""

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

MAX_CHARACTERS = 20_000  # in a text
MAX_TYPES = 50
MAX_NAME = 60  # characters in the name of a type
MAX_DESCRIPTION = 500  # characters in the description of a type
MAX_FILE_BYTES = 2_000_000
MAX_RECORDS = 2_000  # texts in a file
MAX_QUEUE = 32  # waiting requests
DELETE_CACHE = (600, 3600)  # every 600 seconds, Gradio deletes files of the page that are older than 3600 seconds


class Refused(gr.Error):
    """The page does not accept an input; `reason` says why and what to do.

    Gradio shows the message of an error as HTML. The reason may quote the input of the user, so it is escaped.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(html.escape(reason), print_exception=False)
        self.reason = reason


def check_text(text: str) -> str:
    """Return the text, or raise `Refused` if it is empty or too long."""
    if len(text) > MAX_CHARACTERS:
        raise Refused(f"The text has {len(text):,} characters; this page accepts {MAX_CHARACTERS:,}.")
    if not text.strip():
        raise Refused("There is no text yet: type some, or choose an example.")
    return text


def check_types(rows: Sequence[Sequence[Any]]) -> tuple[dict[str, str], dict[str, float]]:
    """Return the description of each type, and the threshold of each type that has one, from the rows of the table.

    A row contains name, description and threshold. Rows without a name are skipped. The description defaults to the
    name.

    Raises:
        Refused: a name appears twice, a name or a description is too long, a threshold is not a number between 0 and
            1, or there are no types or too many.
    """
    types: dict[str, str] = {}
    thresholds: dict[str, float] = {}
    for row in rows:
        name, description, threshold = (["" if cell is None else str(cell).strip() for cell in row] + [""] * 3)[:3]
        if not name:
            continue
        if name in types:
            raise Refused(f"The type {name!r} appears twice: give one of them another name.")
        if len(name) > MAX_NAME or len(description) > MAX_DESCRIPTION:
            raise Refused(
                f"The type {name[:MAX_NAME]!r} is too long: a name has up to {MAX_NAME} characters, a description "
                f"up to {MAX_DESCRIPTION}."
            )
        types[name] = description or name
        if threshold and threshold != "nan":
            thresholds[name] = check_threshold(threshold, name)
    if not types:
        raise Refused("There are no entity types: write a name into the table, or choose an example.")
    if len(types) > MAX_TYPES:
        raise Refused(f"There are {len(types)} types; this page accepts at most {MAX_TYPES}.")
    return types, thresholds


def check_threshold(value: Any, name: str) -> float:
    """Return a threshold as a number, or raise `Refused` if it is not a number between 0 and 1."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= 1:
        raise Refused(f"The threshold of {name!r} is {str(value)[:20]!r}; it must be a number between 0 and 1.")
    return number
