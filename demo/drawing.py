"""Draw nested and crossing entities as labelled bars under the text, with HTML and CSS and without JavaScript.

Each entity is an inline element around its characters, and its bar is a background image in the padding below these
characters. Inline padding and backgrounds do not move the text. If an element continues on the next line, the browser
draws a part of its background on each line, so bars follow the text at any page width. A label that is longer than its
bar ends with an ellipsis. Kerning and ligatures are off, because they stop at the edges of elements and would move the
text.
"""

import html
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

# Colours of bars (by Okabe and Ito; people with colour blindness can distinguish them) and of the labels on them
PALETTE = (
    ("#E69F00", "#000"),
    ("#56B4E9", "#000"),
    ("#009E73", "#000"),
    ("#F0E442", "#000"),
    ("#0072B2", "#fff"),
    ("#D55E00", "#000"),
    ("#CC79A7", "#000"),
    ("#BBBBBB", "#000"),
)
# Overlapping entities have bars at different heights, called lanes. In pixels: height of a bar, distance between lanes
_BAR, _STEP = 16, 18

CSS = f"""
.bn-text {{ font-size: 1rem; line-height: 1.6; white-space: pre-wrap; overflow-wrap: anywhere;
  color: var(--body-text-color); font-kerning: none; font-variant-ligatures: none; }}
.bn-entity {{ background-repeat: no-repeat; background-position: left bottom; background-size: 100% {_BAR}px; }}
.bn-entity:focus {{ outline: 2px solid var(--body-text-color); outline-offset: 1px; }}
.bn-entity[data-tip] {{ position: relative; }}
.bn-entity[data-tip]:focus::after {{ content: attr(data-tip); position: absolute; left: 0; top: 100%; z-index: 20;
  background: #111; color: #fff; padding: .3rem .5rem; border-radius: 4px; font-size: .75rem; line-height: 1.2;
  white-space: normal; width: max-content; max-width: min(16rem, 60vw); }}
.bn-room {{ line-height: 0; }}
.bn-legend {{ display: flex; flex-wrap: wrap; gap: .4rem; margin-bottom: .6rem; padding: 0; list-style: none; }}
.bn-legend li {{ border-radius: 4px; padding: 0 .4rem; font-size: .8rem; margin: 0; overflow-wrap: anywhere; }}
.bn-hidden {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }}
.bn-note {{ font-size: .85rem; opacity: .85; margin: .4rem 0; color: var(--body-text-color); }}
"""
# Runs of characters that a browser does not break across lines. The alternatives: white space; a Chinese, Japanese or
# Korean character, after which a line may end; 8 characters of a long word; a word
_CJK = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
_RUNS = re.compile(rf"\s+|{_CJK}[\u3099\u309a\ufe00-\ufe0f]*|[!-~]{{8}}(?=[!-~])|(?:(?![!-~]{{9}}|{_CJK})\S)+")
_LABEL_CSS = (
    f"box-sizing:border-box;height:{_BAR}px;padding:0 4px;font:11px/{_BAR}px system-ui,sans-serif;"
    "white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
)


class Entity(NamedTuple):
    """An entity with the lane of its bar. Lane 0 is directly under the text."""

    start: int
    end: int
    label: str
    score: float
    lane: int = 0


class Piece(NamedTuple):
    """A part of an entity. Two pieces never cross: one lies inside the other, or they do not overlap."""

    start: int
    end: int
    entity: Entity


def margin(score: float) -> float:
    """Return by how much a span exceeds its dynamic threshold; the score is the sigmoid of this margin."""
    return math.log(score / (1 - score)) if 0 < score < 1 else math.copysign(math.inf, score - 0.5)


def lanes(entities: Sequence[Mapping[str, Any]]) -> list[Entity]:
    """Assign a lane to each entity. Overlapping entities have different lanes; longer entities get lower lanes.

    A lower lane is farther from the text and has a larger number.
    """
    rows = [Entity(e["start"], e["end"], e["entity_group"], e["score"]) for e in entities]
    placed: list[Entity] = []
    for row in sorted(rows, key=lambda row: (row.end - row.start, row.start)):
        taken = [other.lane for other in placed if other.start < row.end and row.start < other.end]
        placed.append(row._replace(lane=max(taken, default=-1) + 1))
    return sorted(placed, key=lambda row: (row.start, -row.end, -row.lane))


def pieces(entities: Sequence[Entity]) -> list[Piece]:
    """Cut entities where they cross longer entities, so that no two pieces cross. Outer pieces come first."""
    order = sorted(entities, key=lambda entity: (entity.start - entity.end, entity.start, -entity.lane))
    cut: list[Piece] = []
    for index, entity in enumerate(order):
        edges = {entity.start, entity.end}
        for longer in order[:index]:
            if longer.start < entity.end and entity.start < longer.end:
                edges |= {edge for edge in (longer.start, longer.end) if entity.start < edge < entity.end}
        bounds = sorted(edges)
        cut += [Piece(start, end, entity) for start, end in itertools.pairwise(bounds)]
    return sorted(cut, key=lambda piece: (piece.start, -piece.end, -piece.entity.lane))


def colors(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the colours of bar and text for each label. The colours repeat after eight labels."""
    return {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(labels)}


def describe(entity: Entity, text: str, entities: Sequence[Entity]) -> str:
    """Return a description of an entity for screen readers and tooltips."""
    around = [
        other
        for other in entities
        if other[:2] != entity[:2] and other.start <= entity.start and entity.end <= other.end
    ]
    inside = f", inside {text[around[-1].start : around[-1].end]}" if around else ""
    return (
        f"{text[entity.start : entity.end]}, {entity.label}, score {entity.score:.2f}, "
        f"{margin(entity.score):+.1f} over its threshold, characters {entity.start} to {entity.end}{inside}"
    )


def draw(text: str, found: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> str:
    """Return a text with its entities as HTML; all text is escaped.

    Args:
        text: the text.
        found: the entities in the text, as the pipeline returns them.
        labels: all entity types; their order determines the colours.
    """
    entities = lanes(found)
    palette = colors(labels)
    counts = {label: sum(entity.label == label for entity in entities) for label in labels}
    legend = "".join(
        f'<li style="background:{palette[label][0]};color:{palette[label][1]}">{html.escape(label)} ({count})</li>'
        for label, count in counts.items()
        if count
    )
    listed = "".join(f"<li>{html.escape(describe(entity, text, entities))}</li>" for entity in entities)
    nothing = "" if entities else '<p class="bn-note">Nothing was found. A lower threshold finds more.</p>'
    return (
        f'<ul class="bn-legend" aria-label="Types found">{legend}</ul>{nothing}'
        f'<div class="bn-text" dir="auto">{"".join(_body(text, entities, palette))}</div>'
        f'<ul class="bn-hidden" aria-label="Entities">{listed}</ul>'
    )


def _body(text: str, entities: Sequence[Entity], palette: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Yield HTML: the text, with the start and end tags of the pieces of entities."""
    all_pieces = pieces(entities)
    # The longest piece of an entity shows its label.
    labelled = {piece.entity: piece for piece in sorted(all_pieces, key=lambda piece: piece.end - piece.start)}
    open_pieces: list[Piece] = []
    position = 0

    def advance(end: int) -> Iterator[str]:
        """Yield the text up to the position `end`, and the end tags of pieces that end at or before it."""
        nonlocal position
        while open_pieces and open_pieces[-1].end <= end:
            yield from _characters(text, position, open_pieces[-1].end, open_pieces)
            position = open_pieces.pop().end
            yield "</span>"
        yield from _characters(text, position, end, open_pieces)
        position = end

    for piece in all_pieces:
        yield from advance(piece.start)
        yield _tag(piece, text, entities, palette, labelled[piece.entity] is piece)
        open_pieces.append(piece)
    yield from advance(len(text))


def _characters(text: str, start: int, end: int, open_pieces: Sequence[Piece]) -> Iterator[str]:
    """Yield a part of the text, with space for the bars below each line.

    An empty inline element that extends down to the lowest bar makes the space. A line can break after any run of
    `_RUNS`, so this element follows each run; then every line with a part of an entity contains it.
    """
    if not open_pieces:
        yield html.escape(text[start:end])
        return
    depth = _STEP * (1 + max(piece.entity.lane for piece in open_pieces))
    room = f'<i class="bn-room" style="vertical-align:calc(-{depth}px - .5em)"></i>'
    for run in _RUNS.findall(text[start:end]):
        yield html.escape(run) if run.isspace() else html.escape(run) + room


def _tag(
    piece: Piece, text: str, entities: Sequence[Entity], palette: Mapping[str, tuple[str, str]], has_label: bool
) -> str:
    entity = piece.entity
    background, ink = palette[entity.label]
    first, last = piece.start == entity.start, piece.end == entity.end
    corners = f"{4 * first}px {4 * last}px {4 * last}px {4 * first}px"
    image = _bar(entity.label if has_label else "", f"background:{background};color:{ink};border-radius:{corners}")
    description = html.escape(describe(entity, text, entities), quote=True)
    focus = f' tabindex="0" role="note" aria-label="{description}" data-tip="{description}"' if first else ""
    return (
        f'<span class="bn-entity" data-span="{entity.start}-{entity.end}-{entity.lane}" title="{description}"{focus} '
        f'style="padding-bottom:{_STEP * (1 + entity.lane)}px;background-image:url({image})">'
    )


def _bar(label: str, style: str) -> str:
    """Return the data URL of an SVG image of a bar; the image fills the background of an element."""
    shown = html.escape("".join(letter if letter.isprintable() else " " for letter in label))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="100%"><foreignObject width="100%" height="100%">'
        f'<div xmlns="http://www.w3.org/1999/xhtml" dir="auto" style="{_LABEL_CSS};{style}">{shown}</div>'
        "</foreignObject></svg>"
    )
    return f"data:image/svg+xml,{quote(svg, errors='replace')}"
