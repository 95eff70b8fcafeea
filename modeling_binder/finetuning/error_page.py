"""Write an error analysis as an HTML file: scores, a confusion matrix of the types, and each error in its text."""

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..drawing.colors import colors_of
from ..drawing.html import CSS as DRAWING_CSS
from ..drawing.html import draw_html
from .error_analysis import ErrorAnalysis, ErrorKind, MentionError
from .files import written_whole
from .metrics import SchemeMetrics, compute_scheme_metrics
from .schemes import SCHEMES
from .scores import Score, Span

_CONTEXT = 80  # characters shown on each side of an error
_MAX_PASSAGE = 800  # characters of the longest passage
_MAX_TYPES = 30  # rows and columns of the confusion matrix

_HEADINGS = {
    ErrorKind.TYPE: ("Wrong type", "The span is correct, and the type is not."),
    ErrorKind.BOUNDARY: ("Wrong boundaries", "The type is correct. The spans overlap, but are not equal."),
    ErrorKind.BOTH: ("Wrong type and boundaries", "The spans overlap, but are not equal. The types differ."),
    ErrorKind.MISSED: ("Missed", "No prediction belongs to the gold mention."),
    ErrorKind.SPURIOUS: ("Spurious", "No gold mention belongs to the prediction."),
}
_DEFINITIONS = {
    "strict": "span and type are equal",
    "boundary": "the spans are equal",
    "partial": "the spans are equal; an overlap counts one half",
    "type": "the spans overlap, and the types are equal",
}

_CSS = (
    DRAWING_CSS
    + """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { margin-top: 2.5rem; font-size: 1.2rem; }
nav ul { padding-left: 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; overflow-wrap: normal; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, .words { text-align: left; }
td.words { font-size: .85rem; opacity: .85; min-width: 15rem; }
.confusion th { max-width: 10rem; font-weight: normal; overflow-wrap: break-word; }
.confusion td.equal { outline: 1px solid #8888; outline-offset: -2px; }
article { border-top: 1px solid #8886; padding: .6rem 0 1rem; }
article header { font-size: .95rem; margin-bottom: .4rem; }
article .where { opacity: .75; font-size: .85rem; }
.side { display: grid; grid-template-columns: 5.5rem minmax(0, 1fr); align-items: start; margin-top: .3rem; }
.side > span { font-size: .8rem; opacity: .75; line-height: 1.6rem; }
.side .bn-legend { display: none; }
.label { border-radius: 4px; padding: 0 .4rem; font-size: .85rem; }
@media (max-width: 30rem) { .side { grid-template-columns: minmax(0, 1fr); } }
"""
)


def write_error_page(
    path: str | Path,
    analysis: ErrorAnalysis,
    *,
    title: str = "Errors",
    labels: Iterable[str] | None = None,
    max_errors: int = 100,
) -> None:
    """Write the page of an error analysis to an HTML file. A browser can show the file without network access.

    Args:
        path: the file, such as errors.html.
        analysis: the result of `analyse_errors`.
        title: heading of the page.
        labels: names of the entity types, in the order of the tables; other labels follow.
        max_errors: maximum number of errors of each kind. If there are more, the page shows evenly spaced errors from
            the list, and their total number.

    Raises:
        ValueError: `max_errors` is less than 1.
    """
    if max_errors < 1:
        raise ValueError(f"max_errors must be at least 1, got {max_errors}.")
    with written_whole(path) as file:
        file.writelines(f"{part}\n" for part in _page(analysis, title, labels, max_errors))


def _page(analysis: ErrorAnalysis, title: str, names: Iterable[str] | None, max_errors: int) -> Iterator[str]:
    metrics = compute_scheme_metrics(analysis.documents, [list(spans) for spans in analysis.predicted], names)
    labels = list(metrics.strict.per_type)
    heading = html.escape(title)
    yield (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{heading}</title><style>{_CSS}</style></head><body><main>\n<h1>{heading}</h1>"
    )
    yield from _summary(analysis, metrics)
    yield from _confusion(analysis, labels)
    for kind in ErrorKind:
        yield from _section(analysis, kind, labels, max_errors)
    yield "</main></body></html>"


def _summary(analysis: ErrorAnalysis, metrics: SchemeMetrics) -> Iterator[str]:
    strict = metrics.strict.micro
    yield (
        f"<p>{_counted(len(analysis.documents), 'document')}, {_counted(strict.gold, 'gold mention')}, "
        f"{_counted(strict.predicted, 'prediction')}, "
        f"{analysis.correct:,} of them correct. Tooltips count characters from "
        'the start of the passage that is shown.</p><nav aria-label="Errors"><ul>'
    )
    for kind, count in analysis.counts().items():
        heading, meaning = _HEADINGS[kind]
        yield f'<li><a href="#{_anchor(kind)}">{heading}</a>: {count:,}. {meaning}</li>'
    yield "</ul></nav><h2>Scores</h2>"
    rows = [
        [scheme, *_ratios(scores.micro), f"{100 * scores.macro_f1:.2f}", _DEFINITIONS[scheme]]
        for scheme in SCHEMES
        for scores in [getattr(metrics, scheme)]
    ]
    yield _table(["", "P", "R", "F1", "macro F1", "a prediction is correct if"], rows)
    rows = [[label, *_ratios(s), f"{s.gold:,}", f"{s.predicted:,}"] for label, s in metrics.strict.per_type.items()]
    yield "<h3>Strict, by type</h3>" + _table(["", "P", "R", "F1", "gold", "predicted"], rows)


def _counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 document", "2,000 documents"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _ratios(score: Score) -> list[str]:
    return [f"{100 * ratio:.2f}" for ratio in (score.precision, score.recall, score.f1)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    words = [False] + [not cell[:1].isdigit() for cell in (rows[0][1:] if rows else header[1:])]
    style = {False: "", True: ' class="words"'}
    head = "".join(f'<th scope="col"{style[w]}>{html.escape(c)}</th>' for c, w in zip(header, words, strict=True))
    body = ""
    for name, *cells in rows:
        shown = (f"<td{style[w]}>{html.escape(c)}</td>" for c, w in zip(cells, words[1:], strict=True))
        body += f'<tr><th scope="row">{html.escape(name)}</th>{"".join(shown)}</tr>'
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _confusion(analysis: ErrorAnalysis, labels: Sequence[str]) -> Iterator[str]:
    """Yield the confusion matrix: gold types in rows, predicted types in columns."""
    wrong: Counter[str] = Counter()
    for (gold, predicted), count in analysis.confusion.items():
        if gold != predicted:
            wrong.update({label: count for label in (gold, predicted) if label is not None})
    shown = set(sorted(labels, key=lambda label: (-wrong[label], labels.index(label)))[:_MAX_TYPES])
    names = [label for label in labels if label in shown]
    yield "<h2>Confusion of types</h2><p>Rows: gold types; columns: predicted types, of paired mentions."
    if len(names) < len(labels):
        yield f" The {len(names)} types with the most errors of {len(labels)} types are shown."
    largest = max((count for (gold, guess), count in analysis.confusion.items() if gold != guess), default=1)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in [*names, "missed"])
    yield f'</p><div class="scroll"><table class="confusion"><thead><tr><th></th>{head}</tr></thead><tbody>'
    for gold in [*names, None]:
        cells = ""
        for predicted in [*names, None]:
            count = analysis.confusion.get((gold, predicted), 0)
            style = ' class="equal"' if gold == predicted and gold is not None else ""
            if count and gold != predicted:
                style = f' style="background:rgba(213,94,0,{0.15 + 0.55 * count / largest:.2f})"'
            cells += f"<td{style}>{f'{count:,}' if count else ''}</td>"
        yield f'<tr><th scope="row">{html.escape("spurious" if gold is None else gold)}</th>{cells}</tr>'
    yield "</tbody></table></div>"


def _section(analysis: ErrorAnalysis, kind: ErrorKind, labels: Sequence[str], max_errors: int) -> Iterator[str]:
    heading, meaning = _HEADINGS[kind]
    errors = analysis.of(kind)
    shown = errors
    if len(errors) > max_errors:
        shown = [errors[index * len(errors) // max_errors] for index in range(max_errors)]
    counted = (
        f"{len(shown):,} of {len(errors):,} are shown."
        if len(shown) < len(errors)
        else f"Number of errors: {len(errors):,}."
    )
    yield f'<section id="{_anchor(kind)}"><h2>{heading}</h2><p>{meaning} {counted}</p>'
    gold: Mapping[int, list[Span]] = {
        index: [(mention.start, mention.end, mention.label) for mention in analysis.documents[index].entities]
        for index in {error.document for error in shown}
    }
    for error in shown:
        yield _article(analysis, error, gold[error.document], labels)
    yield "</section>"


def _anchor(kind: ErrorKind) -> str:
    return kind.value.replace(" ", "-")


def _article(analysis: ErrorAnalysis, error: MentionError, gold: Sequence[Span], labels: Sequence[str]) -> str:
    """Return the HTML of an error: its kind, its position, and its passage with gold mentions and predictions."""
    document, predicted = analysis.documents[error.document], analysis.predicted[error.document]
    start, end = _passage(document.text, error.start, error.end)
    text = f"{'…' if start else ''}{document.text[start:end]}{'…' if end < len(document.text) else ''}"
    sides = ""
    for name, spans in (("gold", dict.fromkeys(gold)), ("predicted", predicted)):
        shift = (1 if start else 0) - start
        entities = [
            {"start": max(span[0], start) + shift, "end": min(span[1], end) + shift, "label": span[2], "score": score}
            for span, score in spans.items()
            if span[0] < end and start < span[1]
        ]
        plain = f'<div class="bn-text" dir="auto">{html.escape(text)}</div>'
        drawing = draw_html(text, entities, labels) if entities else plain
        sides += f'<div class="side"><span>{name}</span><div>{drawing}</div></div>'
    where = f"document {document.id}, characters {error.start} to {error.end}"
    return (
        f'<article><header>{_statement(analysis, error, labels)}<br><span class="where"><bdi>{html.escape(where)}</bdi>'
        f"</span></header>{sides}</article>"
    )


def _statement(analysis: ErrorAnalysis, error: MentionError, labels: Sequence[str]) -> str:
    """Return a line of HTML with the mentions and the types of an error."""
    text, parts = analysis.documents[error.document].text, []
    colors = colors_of(labels)
    for side, span in (("gold", error.gold), ("predicted", error.predicted)):
        if span is None:
            continue
        start, end, label = span
        words = text[start:end] if end - start <= 2 * _CONTEXT else text[start : start + 2 * _CONTEXT] + "…"
        background, ink = colors[label]
        score = analysis.predicted[error.document][span] if side == "predicted" else None
        shown = "" if score is None else f" ({score:.2f})"
        parts.append(
            f'{side} <span class="label" style="background:{background};color:{ink}">{html.escape(label)}</span> '
            f"<bdi>“{html.escape(words)}”</bdi>{shown}"
        )
    return " → ".join(parts)


def _passage(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the span of an error with its context. The context starts and ends at white space if possible."""
    first, last = max(0, start - _CONTEXT), min(len(text), end + _CONTEXT, start + _MAX_PASSAGE)
    if first and (blank := text.find(" ", first, start)) >= 0:
        first = blank + 1
    if last < len(text) and (blank := text.rfind(" ", min(end, last), last)) >= 0:
        last = blank
    return first, last
