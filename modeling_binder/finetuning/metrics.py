"""Compute metrics of the predicted mentions of any model.

- `compute_span_metrics`: exact matches, in total, per type and for nested mentions.
- `compute_scheme_metrics`: the four schemes of SemEval-2013 (strict, boundary, partial and type), see `schemes`.
- `bootstrap.paired_bootstrap` compares two models, and `error_analysis.analyse_errors` classifies the errors.

Example:
    >>> gold = [[{"start": 4, "end": 13, "label": "gene"}]]
    >>> found = [[{"start": 4, "end": 13, "entity_group": "gene", "score": 0.9, "word": "IL-2 gene"}, (0, 3, "gene")]]
    >>> compute_span_metrics(gold, found).micro.precision
    0.5
"""

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .schemes import SchemeMetrics as SchemeMetrics
from .schemes import compute_scheme_metrics as compute_scheme_metrics
from .scores import AnyDocument, AnyMention, Span, aligned_mentions, as_span, macro_means, ordered_labels
from .scores import Score as Score


@dataclass(frozen=True, slots=True)
class SpanMetrics:
    """The result of `compute_span_metrics`.

    Args:
        micro: score over all mentions.
        macro_precision, macro_recall, macro_f1: means over the types with a gold mention or a prediction.
        per_type: score of each type, in the order of the labels.
        nested: score of nested mentions. Recall is computed on the gold mentions inside or around another gold mention.
            Precision is computed on the predictions inside or around another prediction.
    """

    micro: Score
    macro_precision: float
    macro_recall: float
    macro_f1: float
    per_type: dict[str, Score]
    nested: Score

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as a dictionary for JSON."""
        return {
            "micro": self.micro.to_dict(),
            "macro": {"precision": self.macro_precision, "recall": self.macro_recall, "f1": self.macro_f1},
            "per_type": {label: score.to_dict() for label, score in self.per_type.items()},
            "nested": self.nested.to_dict(),
        }

    def table(self) -> str:
        """Return a table for the terminal; ratios are in percent."""
        scores = [*self.per_type.items(), ("micro", self.micro), ("nested", self.nested)]
        rows = [(name, (s.precision, s.recall, s.f1), s.gold, s.predicted) for name, s in scores]
        nested = rows.pop()
        macro = (self.macro_precision, self.macro_recall, self.macro_f1)
        rows.append(("macro", macro, self.micro.gold, self.micro.predicted))
        if self.nested.gold or self.nested.predicted:
            rows.append(nested)
        width = max(len(row[0]) for row in rows)
        lines = [f"{'':{width}}  {'P':>6}  {'R':>6}  {'F1':>6}  {'gold':>6}  {'pred.':>6}"]
        for name, ratios, gold, predicted in rows:
            if name == "micro":
                lines.append("-" * len(lines[0]))
            cells = "  ".join(f"{100 * ratio:6.2f}" for ratio in ratios)
            lines.append(f"{name:{width}}  {cells}  {gold:6d}  {predicted:6d}")
        return "\n".join(lines)


def compute_span_metrics(
    gold: Sequence[AnyDocument], predicted: Sequence[AnyDocument], labels: Iterable[str] | None = None
) -> SpanMetrics:
    """Score predictions against gold mentions, document by document.

    A prediction is correct if a gold mention has the same start, end and label.

    Args:
        gold, predicted: the mentions of each document. A mention is a `Mention`, a tuple (start, end, label), or a
            dictionary with "start", "end" and "label". "entity_group" is accepted instead of "label", because the
            pipeline returns it. A document may also be a `Document`, or a dictionary with "entities". Duplicates count
            once.
        labels: names of the entity types, in the order of the report. Other labels of the mentions follow. By default,
            the labels of the mentions are sorted.

    Raises:
        ValueError: `gold` and `predicted` have different numbers of documents, or a mention is malformed.
    """
    truths, guesses = aligned_mentions(gold, predicted)
    counts = {name: [0, 0, 0] for name in ordered_labels(labels, truths, guesses)}  # correct, predicted, gold
    nested = [0, 0, 0, 0]
    for truth, guess in zip(truths, guesses, strict=True):
        for column, spans in enumerate((truth & guess, guess, truth)):
            for span in spans:
                counts[span[2]][column] += 1
        for column, (spans, others) in enumerate(((guess, truth), (truth, guess))):
            inside = _nested(spans)
            nested[column] += len(inside)
            nested[2 + column] += len(inside & others)
    per_type = {name: Score(c, p, g, c) for name, (c, p, g) in counts.items()}
    totals = [sum(column) for column in zip(*counts.values(), strict=True)] or [0, 0, 0]
    precision, recall, f1 = macro_means(per_type.values())
    return SpanMetrics(
        micro=Score(totals[0], totals[1], totals[2], totals[0]),
        macro_precision=precision,
        macro_recall=recall,
        macro_f1=f1,
        per_type=per_type,
        nested=Score(correct=nested[2], predicted=nested[0], gold=nested[1], found=nested[3]),
    )


def nested_flags(mentions: Sequence[AnyMention]) -> list[bool]:
    """Return, for each mention, whether it lies inside or around another mention. The time is near-linear.

    Two mentions with the same span and different labels are nested in each other. Duplicates count as one mention.
    Mentions that overlap only partly are not nested.
    """
    nested = _nested({as_span(mention) for mention in mentions})
    return [as_span(mention) in nested for mention in mentions]


def _nested(spans: Collection[Span]) -> set[Span]:
    # Sort by start, then longest first. So a span comes after the spans around it, and before the spans inside it.
    order = sorted(spans, key=lambda span: (span[0], -span[1]))
    nested = set()
    furthest = -1
    for span in order:  # a span lies inside an earlier span that ends at the same offset or later
        if span[1] <= furthest:
            nested.add(span)
        furthest = max(furthest, span[1])
    nearest: float = math.inf
    for span in reversed(order):  # a span lies around a later span that ends at the same offset or earlier
        if nearest <= span[1]:
            nested.add(span)
        nearest = min(nearest, span[1])
    return nested


def has_overlap(mentions: Sequence[AnyMention]) -> bool:
    """Return whether two different mentions have a character in common.

    Such mentions are nested or crossing, see `nested_flags`.
    """
    ordered = sorted({as_span(mention) for mention in mentions})
    return any(before[1] > after[0] for before, after in itertools.pairwise(ordered))
