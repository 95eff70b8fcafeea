"""Nested and crossing entities as stacked, labelled bars under the words: HTML without a script.

Every run of characters in which no entity begins or ends is a column: its text, and below it a lane for each entity
that covers it. Columns flow like words, so the drawing wraps wherever the screen ends and bars stay under their words.
"""

import html
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# Okabe and Ito's colours, apart for people with colour blindness too; and the ink that is readable on each
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

CSS = """
.bn-text { line-height: 1.5; overflow-wrap: anywhere; color: var(--body-text-color); }
.bn-word { display: inline-block; max-width: 100%; vertical-align: top; margin-bottom: .35rem; }
.bn-col { display: inline-block; vertical-align: top; position: relative; max-width: 100%; }
.bn-col > .bn-chars { display: block; white-space: break-spaces; }
.bn-lane { display: block; height: 1.05rem; margin-top: 2px; }
.bn-bar { display: block; height: 1.05rem; font-size: .68rem; line-height: 1.05rem; white-space: nowrap;
  position: relative; }
.bn-bar.bn-first { border-radius: 4px 0 0 4px; padding: 0 .3rem; }
.bn-bar.bn-last { border-radius: 0 4px 4px 0; }
.bn-bar.bn-first.bn-last { border-radius: 4px; }
.bn-bar[data-tip]:hover::after, .bn-bar[data-tip]:focus::after { content: attr(data-tip); position: absolute; left: 0;
  top: 1.25rem; z-index: 20; background: #111; color: #fff; padding: .3rem .5rem; border-radius: 4px; font-size: .75rem;
  line-height: 1.2; white-space: normal; width: max-content; max-width: min(16rem, 60vw); }
.bn-bar:focus { outline: 2px solid var(--body-text-color); outline-offset: 1px; }
.bn-legend { display: flex; flex-wrap: wrap; gap: .4rem; margin-bottom: .6rem; padding: 0; list-style: none; }
.bn-legend li { border-radius: 4px; padding: 0 .4rem; font-size: .8rem; margin: 0; }
.bn-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.bn-scroll { overflow-x: auto; max-width: 100%; }
.bn-map { border-collapse: collapse; font-size: .7rem; }
.bn-map th { font-weight: 500; padding: 1px 3px; white-space: nowrap; color: var(--body-text-color); }
.bn-map thead th span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 7rem; overflow: hidden; }
.bn-map td { width: 2.2rem; min-width: 2.2rem; height: 1.5rem; text-align: center; border: 1px solid #8884; }
.bn-map td.bn-found { outline: 2px solid var(--body-text-color); outline-offset: -2px; font-weight: 700; }
.bn-margins { display: grid; grid-template-columns: max-content 1fr max-content; gap: .25rem .5rem; align-items: center;
  font-size: .8rem; color: var(--body-text-color); max-width: 34rem; }
.bn-track { position: relative; height: .9rem; background: #8883; }
.bn-track i { position: absolute; top: 0; bottom: 0; }
.bn-track::before { content: ""; position: absolute; left: 50%; top: -2px; bottom: -2px; width: 1px;
  background: var(--body-text-color); }
.bn-note { font-size: .85rem; opacity: .85; margin: .4rem 0; color: var(--body-text-color); }
"""


class Entity(NamedTuple):
    """An entity as the pipeline gives it, with its lane: 0 is next to the text."""

    start: int
    end: int
    kind: str
    score: float
    lane: int = 0


def margin(score: float) -> float:
    """How far a score clears its dynamic threshold: the score is the sigmoid of the margin."""
    return math.log(score / (1 - score)) if 0 < score < 1 else math.copysign(math.inf, score - 0.5)


def lanes(entities: Sequence[Mapping[str, Any]]) -> list[Entity]:
    """Entities with lanes, in which no two overlap and an outer entity lies below the inner ones."""
    rows = [Entity(e["start"], e["end"], e["entity_group"], e["score"]) for e in entities]
    placed: list[Entity] = []
    for row in sorted(rows, key=lambda row: (row.end - row.start, row.start)):
        taken = [other.lane for other in placed if other.start < row.end and row.start < other.end]
        placed.append(row._replace(lane=max(taken, default=-1) + 1))
    return sorted(placed, key=lambda row: (row.start, -row.end, row.lane))


def colors(types: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Background and ink of each type; after eight types colours come again, and the label tells them apart."""
    return {kind: PALETTE[index % len(PALETTE)] for index, kind in enumerate(types)}


def describe(entity: Entity, text: str, entities: Sequence[Entity]) -> str:
    """An entity in words, for a screen reader and for the hint."""
    around = [
        other
        for other in entities
        if other != entity and other.start <= entity.start and entity.end <= other.end and other[:2] != entity[:2]
    ]
    inside = f", inside {text[around[-1].start : around[-1].end]}" if around else ""
    return (
        f"{text[entity.start : entity.end]}, {entity.kind}, score {entity.score:.2f}, "
        f"{margin(entity.score):+.1f} over its threshold, characters {entity.start} to {entity.end}{inside}"
    )


def draw(text: str, found: Sequence[Mapping[str, Any]], types: Sequence[str]) -> str:
    """The text with its entities, as HTML; everything that a person typed is escaped."""
    entities = lanes(found)
    palette = colors(types)
    legend = "".join(
        f'<li style="background:{palette[kind][0]};color:{palette[kind][1]}">{html.escape(kind)} '
        f"({sum(entity.kind == kind for entity in entities)})</li>"
        for kind in types
        if any(entity.kind == kind for entity in entities)
    )
    listed = "".join(f"<li>{html.escape(describe(entity, text, entities))}</li>" for entity in entities)
    edges = sorted({0, len(text)} | {edge for entity in entities for edge in (entity.start, entity.end)})
    body = []
    # A word with the blanks behind it stays together; line breaks are the text's own.
    for match in re.finditer(r"\n|[^\S\n]+|\S+[^\S\n]*", text):
        if match.group() == "\n":
            body.append("<br>")
            continue
        inner = [match.start(), *(edge for edge in edges if match.start() < edge < match.end()), match.end()]
        columns = [_column(text, start, end, entities, palette) for start, end in itertools.pairwise(inner)]
        body.append(f'<span class="bn-word">{"".join(columns)}</span>')
    nothing = "" if entities else '<p class="bn-note">Nothing was found. A lower threshold finds more.</p>'
    return (
        f'<ul class="bn-legend" aria-label="Types found">{legend}</ul>{nothing}'
        f'<div class="bn-text" dir="auto">{"".join(body)}</div>'
        f'<ul class="bn-hidden" aria-label="Entities">{listed}</ul>'
    )


def _column(text: str, start: int, end: int, entities: Sequence[Entity], palette: Mapping[str, tuple[str, str]]) -> str:
    covering = {entity.lane: entity for entity in entities if entity.start <= start and end <= entity.end}
    bars = []
    for lane in range(max(covering, default=-1) + 1):
        if lane not in covering:
            bars.append('<span class="bn-lane"></span>')
            continue
        entity = covering[lane]
        background, ink = palette[entity.kind]
        first, last = entity.start == start, end >= entity.end
        said = html.escape(describe(entity, text, entities), quote=True)
        extra = f' tabindex="0" role="note" aria-label="{said}" data-tip="{said}"' if first else f' title="{said}"'
        label = html.escape(entity.kind) if first else ""
        classes = f"bn-bar{' bn-first' if first else ''}{' bn-last' if last else ''}"
        bars.append(
            f'<span class="bn-lane"><span class="{classes}" data-span="{entity.start}-{entity.end}-{entity.lane}" '
            f'style="background:{background};color:{ink}"{extra}>{label}</span></span>'
        )
    return f'<span class="bn-col"><span class="bn-chars">{html.escape(text[start:end])}</span>{"".join(bars)}</span>'


def heat_map(text: str, words: Sequence[tuple[int, int]], matrix: Any, kind: str) -> str:
    """Margins [N, N] of the spans from a word (row) to a word (column) of one type, as a table."""
    shown = [html.escape(text[start:end]) for start, end in words]
    head = "".join(f'<th scope="col"><span>{word}</span></th>' for word in shown)
    rows = []
    for i, word in enumerate(shown):
        cells = []
        for j in range(len(shown)):
            value = float(matrix[i][j])
            if math.isnan(value):
                cells.append("<td></td>")
                continue
            strength = min(abs(value) / 8, 1) * 0.85
            color = f"rgba(0,114,178,{strength:.2f})" if value > 0 else f"rgba(213,94,0,{(0.85 - strength) * 0.8:.2f})"
            hint = html.escape(f"{text[words[i][0] : words[j][1]]}: {value:+.2f}", quote=True)
            found = ' class="bn-found"' if value > 0 else ""
            cells.append(f'<td{found} style="background:{color}" title="{hint}">{value:+.1f}</td>')
        rows.append(f'<tr><th scope="row">{word}</th>{"".join(cells)}</tr>')
    return (
        f'<p class="bn-note">{html.escape(kind)}: how far the span from the word on the left to the word above clears '
        "its threshold. Blue and framed: above it. The deeper the orange, the nearer it was.</p>"
        f'<div class="bn-scroll" tabindex="0" role="region" aria-label="Heat map"><table class="bn-map">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def margin_bars(span: str, margins: Mapping[str, float], types: Sequence[str]) -> str:
    """Each type's margin for one span, as bars to both sides of the threshold."""
    palette = colors(types)
    largest = max([1.0, *(abs(value) for value in margins.values() if math.isfinite(value))])
    rows = []
    for kind, value in sorted(margins.items(), key=lambda item: -item[1]):
        width = 50 * min(abs(value) / largest, 1)
        left = 50 if value > 0 else 50 - width
        rows.append(
            f"<span>{html.escape(kind)}</span><span class='bn-track' role='img' aria-label='{value:+.2f}'>"
            f"<i style='left:{left:.1f}%;width:{width:.1f}%;background:{palette[kind][0]}'></i></span>"
            f"<span>{value:+.2f}</span>"
        )
    return (
        f'<p class="bn-note">Margins of “{html.escape(span)}”: right of the line it is a mention of the type.</p>'
        f'<div class="bn-margins">{"".join(rows)}</div>'
    )
