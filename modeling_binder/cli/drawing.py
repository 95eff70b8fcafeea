"""Draw entities in the terminal: a labelled bar under the text for each entity, inner entities closest to the text."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

# The palette of Okabe and Ito, whose colours readers with colour blindness can distinguish
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#f0e442", "#999999")

# Control characters, because a text must not move the cursor or change the settings of the terminal
CONTROLS = dict.fromkeys([*range(32), *range(127, 160)], " ")


def draw_entities(
    text: str, entities: Sequence[Mapping[str, Any]], width: int = 100, labels: Sequence[str] | None = None
) -> Text:
    """Draw a text in lines, with a labelled bar under each entity.

    Args:
        text: a text of any length.
        entities: entities as the pipeline returns them; they may be nested or cross each other.
        width: width of the drawing in columns.
        labels: all entity types, so that a type has the same colour in several drawings; defaults to the labels of
            the entities.

    Example:
        Expression of the IL-2 gene promoter
                          └──┘ protein
                          └────────────────┘ DNA region
    """
    labels = labels or sorted({entity["entity_group"] for entity in entities})
    colours = {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(labels)}
    drawing = Text(no_wrap=True)
    room = max((cell_len(label) + 2 for label in labels), default=0)  # for the label after the last bar
    for begin, stop in _lines(text, max(width - room, 10)):
        line = text[begin:stop].translate(CONTROLS)
        drawing.append(line.rstrip() + "\n", style="bold")
        here = [entity for entity in entities if entity["start"] < stop and entity["end"] > begin]
        for row in _rows(here, text, begin, stop):
            cursor = 0
            for left, right, entity in row:
                drawing.append(" " * (left - cursor))
                opened = entity["start"] >= begin
                closed = entity["end"] <= stop
                size = right - left
                bar = "─" * size if size > 1 else "┴"
                if size > 1:
                    bar = ("└" if opened else "╌") + bar[2:] + ("┘" if closed else "╌")
                label = f" {entity['entity_group']} " if closed else " "
                drawing.append(bar + label, style=colours[entity["entity_group"]])
                cursor = right + cell_len(label)
            drawing.append("\n")
    return drawing


def _lines(text: str, width: int) -> list[tuple[int, int]]:
    """Divide a text into lines of at most `width` columns and return their character spans.

    Lines break at blanks if possible.
    """
    lines = []
    begin = 0
    while begin < len(text):
        stop, columns = begin, 0
        while stop < len(text) and columns + cell_len(text[stop]) <= width and text[stop] != "\n":
            columns += cell_len(text[stop])
            stop += 1
        if stop < len(text) and text[stop] != "\n":
            blank = text.rfind(" ", begin + 1, stop)
            stop = blank + 1 if blank > begin else max(stop, begin + 1)
        elif stop < len(text):
            stop += 1
        lines.append((begin, stop))
        begin = stop
    return lines


def _rows(
    entities: Sequence[Mapping[str, Any]], text: str, begin: int, stop: int
) -> list[list[tuple[int, int, Mapping[str, Any]]]]:
    """Place a bar for each entity in rows. A bar is below all shorter bars that it overlaps. No bar covers a label.

    Args:
        entities: entities that have a part between `begin` and `stop`.
        text: the whole text.
        begin, stop: span of the line, in characters.

    Returns:
        The rows from top to bottom, each a list of bars (first column, last column + 1, entity).
    """
    rows: list[list[tuple[int, int, Mapping[str, Any]]]] = []
    placed: list[tuple[Mapping[str, Any], int]] = []

    def reach(right: int, entity: Mapping[str, Any]) -> int:
        return right + cell_len(entity["entity_group"]) + 2

    for entity in sorted(entities, key=lambda entity: (entity["end"] - entity["start"], entity["start"])):
        left = cell_len(text[begin : max(entity["start"], begin)])
        right = cell_len(text[begin : min(entity["end"], stop)])
        below = 1 + max(
            (row for other, row in placed if other["start"] < entity["end"] and entity["start"] < other["end"]),
            default=-1,
        )
        row = below
        while row < len(rows) and any(
            left < reach(other_right, other) and other_left < reach(right, entity)
            for other_left, other_right, other in rows[row]
        ):
            row += 1
        while len(rows) <= row:
            rows.append([])
        rows[row].append((left, right, entity))
        placed.append((entity, row))
    return [sorted(row, key=lambda bar: bar[0]) for row in rows]
