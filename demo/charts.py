"""Charts that explain predictions: a heat map and bars of margins, as HTML without JavaScript.

The margin of a span for a type is its span score minus the threshold of the type. The model finds the span if the
margin is above 0.
"""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from .drawing import colors_of

CSS = """
.bn-scroll { overflow-x: auto; max-width: 100%; }
.bn-map { border-collapse: collapse; font-size: .7rem; }
.bn-map th { font-weight: 500; padding: 1px 3px; white-space: nowrap; color: var(--body-text-color); }
.bn-map thead th span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 7rem; overflow: hidden; }
.bn-map td { width: 2.2rem; min-width: 2.2rem; height: 1.5rem; text-align: center; border: 1px solid #8884; }
.bn-map td.bn-found { outline: 2px solid var(--body-text-color); outline-offset: -2px; font-weight: 700; }
.bn-margins { display: grid; grid-template-columns: minmax(0, max-content) minmax(6rem, 1fr) max-content;
  gap: .25rem .5rem; align-items: center; font-size: .8rem; color: var(--body-text-color); max-width: 34rem;
  overflow-wrap: anywhere; }
.bn-track { position: relative; height: .9rem; background: #8883; }
.bn-track i { position: absolute; top: 0; bottom: 0; }
.bn-track::before { content: ""; position: absolute; left: 50%; top: -2px; bottom: -2px; width: 1px;
  background: var(--body-text-color); }
"""


def heat_map(text: str, words: Sequence[tuple[int, int]], matrix: Any, label: str) -> str:
    """Return a table with the margins of one type. A cell shows the span from its row's word to its column's word.

    Args:
        text: the text.
        words: start and end of each of N words.
        matrix: margins [N, N] by first and last word. NaN means that the span is not a candidate.
        label: the entity type.
    """
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
        f'<p class="bn-note">{html.escape(label)}: the margins of all spans (span score minus threshold). A '
        "span begins at the word on the left and ends at the word above. Blue spans are above the threshold; orange "
        "spans are below. A deeper orange means closer to the threshold.</p>"
        f'<div class="bn-scroll" tabindex="0" role="region" aria-label="Heat map"><table class="bn-map">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def margin_bars(span: str, margins: Mapping[str, float], types: Sequence[str]) -> str:
    """Return bars with the margin of each type for one span. Bars to the right of the line are positive."""
    palette = colors_of(types)
    largest = max([1.0, *(abs(value) for value in margins.values() if math.isfinite(value))])
    rows = []
    for label, value in sorted(margins.items(), key=lambda item: -item[1]):
        width = 50 * min(abs(value) / largest, 1)
        left = 50 if value > 0 else 50 - width
        rows.append(
            f"<span>{html.escape(label)}</span><span class='bn-track' role='img' aria-label='{value:+.2f}'>"
            f"<i style='left:{left:.1f}%;width:{width:.1f}%;background:{palette[label][0]}'></i></span>"
            f"<span>{value:+.2f}</span>"
        )
    return (
        f'<p class="bn-note">Margins of “{html.escape(span)}” for all types. If a bar is to the right of the line, the '
        "span is above the threshold of this type.</p>"
        f'<div class="bn-margins">{"".join(rows)}</div>'
    )
