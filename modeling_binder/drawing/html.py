"""Draw nested and crossing entities as labelled bars under the text, with HTML and CSS and without JavaScript.

Each entity is an inline element around its characters. The padding below the characters has a background image, which
is the bar. Inline padding and backgrounds do not move the text. If an element continues on the next line, the browser
draws a part of its background on each line. So the bars have the correct length at any page width.

If a label is longer than its bar, it ends with an ellipsis. Kerning and ligatures do not work
across the edges of elements. They are off, so that elements do not change the distances between letters.
"""

import html
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from .colors import colors_of
from .lanes import Bar, Entities, all_labels, groups

_BAR, _STEP = 16, 18  # in pixels: height of a bar, distance between lanes (see `lanes`)
# Text colour: the variable of Gradio, the variable of Jupyter, or the colour of the surrounding element
_INK = "var(--body-text-color, var(--jp-content-font-color1, currentColor))"

# Jupyter sets margins and bullets for all lists. "!important" overrides these.
CSS = f"""
.bn-text {{ font-size: 1rem; line-height: 1.6; white-space: pre-wrap; overflow-wrap: anywhere;
  color: {_INK}; font-kerning: none; font-variant-ligatures: none; }}
.bn-entity {{ background-repeat: no-repeat; background-position: left bottom; background-size: 100% {_BAR}px; }}
.bn-entity:focus {{ outline: 2px solid {_INK}; outline-offset: 1px; }}
.bn-entity[data-tip] {{ position: relative; }}
.bn-entity[data-tip]:focus::after {{ content: attr(data-tip); position: absolute; left: 0; top: 100%; z-index: 20;
  background: #111; color: #fff; padding: .3rem .5rem; border-radius: 4px; font-size: .75rem; line-height: 1.2;
  white-space: normal; width: max-content; max-width: min(16rem, 60vw); }}
.bn-room {{ line-height: 0; }}
.bn-legend {{ display: flex; flex-wrap: wrap; gap: .4rem; margin: 0 0 .6rem !important; padding: 0 !important;
  list-style: none !important; }}
.bn-legend li {{ border-radius: 4px; padding: 0 .4rem; font-size: .8rem; margin: 0; overflow-wrap: anywhere; }}
.bn-hidden {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }}
.bn-note {{ font-size: .85rem; opacity: .85; margin: .4rem 0; color: {_INK}; }}
"""
# Parts of a text within which no line ends. A part is white space, or one Chinese, Japanese or Korean character, or 8
# characters of a longer word, or a whole word.
_CJK = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
_RUNS = re.compile(rf"\s+|{_CJK}[\u3099\u309a\ufe00-\ufe0f]*|[!-~]{{8}}(?=[!-~])|(?:(?![!-~]{{9}}|{_CJK})\S)+")
_LABEL_CSS = (
    f"box-sizing:border-box;height:{_BAR}px;padding:0 4px;font:11px/{_BAR}px system-ui,sans-serif;"
    "white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
)


class Piece(NamedTuple):
    """A part of a bar. If two pieces overlap, one is inside the other. HTML elements must be nested in this way."""

    start: int
    end: int
    bar: Bar


def margin(score: float) -> float:
    """Return the margin of a span, which is its raw score minus its threshold. `score` is the sigmoid of the margin."""
    return math.log(score / (1 - score)) if 0 < score < 1 else math.copysign(math.inf, score - 0.5)


def pieces(bars: Sequence[Bar]) -> list[Piece]:
    """Cut bars where they cross longer bars, so that no two pieces cross. Outer pieces come before inner pieces."""
    order = sorted(bars, key=lambda bar: (bar.start - bar.end, bar.start, -bar.lane))
    cut: list[Piece] = []
    for index, bar in enumerate(order):
        edges = {bar.start, bar.end}
        for longer in order[:index]:
            if longer.start < bar.end and bar.start < longer.end:
                edges |= {edge for edge in (longer.start, longer.end) if bar.start < edge < bar.end}
        cut += [Piece(start, end, bar) for start, end in itertools.pairwise(sorted(edges))]
    return sorted(cut, key=lambda piece: (piece.start, -piece.end, -piece.bar.lane))


def describe(bar: Bar, text: str, group: Sequence[Bar]) -> str:
    """Return a description of an entity for screen readers and tooltips."""
    around = [other for other in group if other[:2] != bar[:2] and other.start <= bar.start and bar.end <= other.end]
    inside = f", inside {text[around[-1].start : around[-1].end]}" if around else ""
    score = "" if bar.score is None else f"score {bar.score:.2f}, {margin(bar.score):+.1f} over its threshold, "
    return f"{text[bar.start : bar.end]}, {bar.label}, {score}characters {bar.start} to {bar.end}{inside}"


def draw_html(text: str, entities: Entities, labels: Sequence[str] | None = None) -> str:
    """Return a text with its entities as HTML. The page must contain `CSS`. The text and the labels are escaped.

    Args:
        text: a text of any length.
        entities: the entities in the text, as the pipeline returns them, or as in a corpus (with `label`, without
            `score`).
        labels: names of all entity types, whose order determines the colours. Defaults to the labels of the entities.
    """
    labels = all_labels(entities, labels)
    palette = colors_of(labels)
    bars = list(groups(entities))
    counts = Counter(bar.label for group in bars for bar in group)
    legend = "".join(
        f'<li style="background:{palette[label][0]};color:{palette[label][1]}">{html.escape(label)} '
        f"({counts[label]})</li>"
        for label in labels
        if counts[label]
    )
    listed = "".join(f"<li>{html.escape(describe(bar, text, group))}</li>" for group in bars for bar in group)
    nothing = "" if bars else '<p class="bn-note">Nothing was found. A lower threshold finds more.</p>'
    return (
        f'<ul class="bn-legend" aria-label="Types found">{legend}</ul>{nothing}'
        f'<div class="bn-text" dir="auto">{"".join(_body(text, bars, palette))}</div>'
        f'<ul class="bn-hidden" aria-label="Entities">{listed}</ul>'
    )


def _body(text: str, bars: Sequence[Sequence[Bar]], palette: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Yield the text as HTML, with a start tag and an end tag for each piece of a bar."""
    open_pieces: list[Piece] = []
    position = 0

    def advance(end: int) -> Iterator[str]:
        """Yield the text up to the position `end`, and the end tags of all pieces that end there or before."""
        nonlocal position
        while open_pieces and open_pieces[-1].end <= end:
            yield from _characters(text, position, open_pieces[-1].end, open_pieces)
            position = open_pieces.pop().end
            yield "</span>"
        yield from _characters(text, position, end, open_pieces)
        position = end

    for group in bars:
        cut = pieces(group)
        # Only the longest piece of a bar shows the label.
        labelled = {piece.bar: piece for piece in sorted(cut, key=lambda piece: piece.end - piece.start)}
        for piece in cut:
            yield from advance(piece.start)
            yield _tag(piece, text, group, palette, labelled[piece.bar] is piece)
            open_pieces.append(piece)
    yield from advance(len(text))


def _characters(text: str, start: int, end: int, open_pieces: Sequence[Piece]) -> Iterator[str]:
    """Yield a part of the text, with space for the bars below each line.

    The space comes from an empty inline element, which is as low as the lowest bar. Every line with a part of an entity
    needs this element. A line may end after each match of `_RUNS`, so the element follows each match.
    """
    if not open_pieces:
        yield html.escape(text[start:end])
        return
    depth = _STEP * (1 + max(piece.bar.lane for piece in open_pieces))
    room = f'<i class="bn-room" style="vertical-align:calc(-{depth}px - .5em)"></i>'
    for run in _RUNS.findall(text[start:end]):
        yield html.escape(run) if run.isspace() else html.escape(run) + room


def _tag(piece: Piece, text: str, group: Sequence[Bar], palette: Mapping[str, tuple[str, str]], has_label: bool) -> str:
    bar = piece.bar
    background, ink = palette[bar.label]
    first, last = piece.start == bar.start, piece.end == bar.end
    corners = f"{4 * first}px {4 * last}px {4 * last}px {4 * first}px"
    image = _image(bar.label if has_label else "", f"background:{background};color:{ink};border-radius:{corners}")
    description = html.escape(describe(bar, text, group), quote=True)
    focus = f' tabindex="0" role="note" aria-label="{description}" data-tip="{description}"' if first else ""
    return (
        f'<span class="bn-entity" data-span="{bar.start}-{bar.end}-{bar.lane}" title="{description}"{focus} '
        f'style="padding-bottom:{_STEP * (1 + bar.lane)}px;background-image:url({image})">'
    )


def _image(label: str, style: str) -> str:
    """Return the data URL of an SVG image of a bar. The image fills the background of an element."""
    shown = html.escape("".join(letter if letter.isprintable() else " " for letter in label))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="100%"><foreignObject width="100%" height="100%">'
        f'<div xmlns="http://www.w3.org/1999/xhtml" dir="auto" style="{_LABEL_CSS};{style}">{shown}</div>'
        "</foreignObject></svg>"
    )
    return f"data:image/svg+xml,{quote(svg, errors='replace')}"
