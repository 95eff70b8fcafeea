"""Draw entities in the terminal, as labelled bars under the text. Inner entities are closest to the text."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from .colors import colors_of
from .lanes import all_labels, assign_lanes, label_of

# Replace control characters by blanks, because they could move the cursor or change the settings of the terminal.
CONTROLS = dict.fromkeys([*range(32), *range(127, 160)], " ")


class _Bar(NamedTuple):
    """The bar under the part of an entity that is in one line.

    `left` and `right` are columns of the line, and `right` is exclusive. `is_start` and `is_end` are true if the entity
    starts or ends in this line.
    """

    left: int
    right: int
    label: str
    is_start: bool
    is_end: bool

    @property
    def label_end(self) -> int:
        return self.right + cell_len(self.label) + 2

    def __str__(self) -> str:
        size = self.right - self.left
        if size < 2:
            return "┴"
        return ("└" if self.is_start else "╌") + "─" * (size - 2) + ("┘" if self.is_end else "╌")


def draw_entities(
    text: str, entities: Sequence[Mapping[str, Any]], width: int = 100, labels: Sequence[str] | None = None
) -> Text:
    """Draw a text in lines, with a labelled bar under each entity.

    Args:
        text: a text of any length.
        entities: entities as the pipeline returns them. They may be nested or cross each other.
        width: width of the drawing in columns.
        labels: names of all entity types, whose order determines the colours. Defaults to the labels of the entities.

    Example:
        Expression of the IL-2 gene promoter
                          └──┘ protein
                          └────────────────┘ DNA region
    """
    labels = all_labels(entities, labels)
    colors = colors_of(labels)
    drawing = Text(no_wrap=True)
    room = max((cell_len(label) + 2 for label in labels), default=0)  # space for a label at the end of a line
    for begin, stop in _lines(text, max(width - room, 10)):
        line = text[begin:stop].translate(CONTROLS)
        drawing.append(line.rstrip() + "\n", style="bold")
        here = [entity for entity in entities if entity["start"] < stop and entity["end"] > begin]
        for row in _rows(here, text, begin, stop):
            cursor = 0
            for bar in row:
                label = f" {bar.label} " if bar.is_end else " "
                drawing.append(" " * (bar.left - cursor))
                drawing.append(f"{bar}{label}", style=colors[bar.label][0])
                cursor = bar.left + cell_len(f"{bar}{label}")
            drawing.append("\n")
    return drawing


def _lines(text: str, width: int) -> list[tuple[int, int]]:
    """Divide a text into lines of at most `width` columns, and return the start and end of each line in characters.

    A line ends at a blank if possible.
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


def _rows(entities: Sequence[Mapping[str, Any]], text: str, begin: int, stop: int) -> list[list[_Bar]]:
    """Return the bars of a line in rows from top to bottom. No bar covers another bar or its label.

    Args:
        entities: entities that are in the line, at least in part.
        text: the whole text.
        begin, stop: start and end of the line in the text, in characters.
    """
    bars = [
        _Bar(
            left=cell_len(text[begin : max(entity["start"], begin)]),
            right=cell_len(text[begin : min(entity["end"], stop)]),
            label=label_of(entity),
            is_start=entity["start"] >= begin,
            is_end=entity["end"] <= stop,
        )
        for entity in entities
    ]

    def collide(one: int, other: int) -> bool:
        return bars[one].left < bars[other].label_end and bars[other].left < bars[one].label_end

    lanes = assign_lanes([(entity["start"], entity["end"]) for entity in entities], collide)
    rows: list[list[_Bar]] = [[] for _ in range(max(lanes, default=-1) + 1)]
    for bar, lane in zip(bars, lanes, strict=True):
        rows[lane].append(bar)
    return [sorted(row) for row in rows]
