"""Exact-match span metrics: a prediction is correct if start, end and label equal those of a gold mention."""

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .data import Mention


@dataclass(frozen=True, slots=True)
class Score:
    """Precision, recall and F1, computed from counts. A ratio with the denominator 0 is 0.

    Args:
        correct: number of predictions that are gold mentions.
        predicted, gold: number of predictions and of gold mentions.
        found: number of gold mentions that were predicted. It equals `correct`, except in the score of nested mentions:
            there, `correct` is the number of nested predictions that are gold mentions, and `found` is the number of
            nested gold mentions that were predicted.
    """

    correct: int
    predicted: int
    gold: int
    found: int

    @property
    def precision(self) -> float:
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.found / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def to_dict(self) -> dict[str, float]:
        """Return the ratios and the counts as a dictionary for JSON."""
        ratios = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {**ratios, **asdict(self)}


@dataclass(frozen=True, slots=True)
class SpanMetrics:
    """The result of `compute_span_metrics`.

    Args:
        micro: score over all mentions.
        macro_precision, macro_recall, macro_f1: means over the types with a gold mention or a prediction.
        per_type: score of each type, in the order of the labels.
        nested: score of the mentions that lie inside or around another mention. Recall is computed on gold mentions
            inside or around another gold mention, precision on predictions inside or around another prediction.
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


Span = Mention | tuple[int, int, str]


def _as_tuple(span: Span) -> tuple[int, int, str]:
    return (span.start, span.end, span.label) if isinstance(span, Mention) else span


def compute_span_metrics(
    gold: Sequence[Collection[Span]], predicted: Sequence[Collection[Span]], labels: Sequence[str]
) -> SpanMetrics:
    """Score predictions against gold mentions, document by document.

    Args:
        gold, predicted: the mentions of each document, as `Mention` or (start, end, label); duplicates count once.
        labels: names of the entity types, in the order of the report.

    Raises:
        ValueError: `gold` and `predicted` have different numbers of documents.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"got {len(gold)} documents with gold mentions and {len(predicted)} with predictions.")
    names = list(dict.fromkeys(labels))
    counts = {name: [0, 0, 0] for name in names}  # correct, predicted, gold
    nested = [0, 0, 0, 0]
    for gold_spans, predicted_spans in zip(gold, predicted, strict=True):
        truth = {_as_tuple(span) for span in gold_spans}
        guess = {_as_tuple(span) for span in predicted_spans}
        for column, spans in enumerate((truth & guess, guess, truth)):
            for span in spans:
                counts.setdefault(span[2], [0, 0, 0])[column] += 1
        for column, (spans, others) in enumerate(((guess, truth), (truth, guess))):
            inside = _nested(spans)
            nested[column] += len(inside)
            nested[2 + column] += len(inside & others)
    per_type = {name: Score(c, p, g, c) for name, (c, p, g) in counts.items()}
    occurring = [score for score in per_type.values() if score.gold or score.predicted]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else 0.0

    totals = [sum(column) for column in zip(*counts.values(), strict=True)] or [0, 0, 0]
    return SpanMetrics(
        micro=Score(totals[0], totals[1], totals[2], totals[0]),
        macro_precision=mean([score.precision for score in occurring]),
        macro_recall=mean([score.recall for score in occurring]),
        macro_f1=mean([score.f1 for score in occurring]),
        per_type=per_type,
        nested=Score(correct=nested[2], predicted=nested[0], gold=nested[1], found=nested[3]),
    )


def nested_flags(mentions: Sequence[Span]) -> list[bool]:
    """Return for each mention whether it lies inside or around another one, in near-linear time.

    Two mentions with the same span and different labels are nested in each other; duplicates count as one mention.
    Crossing mentions (each begins or ends outside the other) are not nested.
    """
    nested = _nested({_as_tuple(mention) for mention in mentions})
    return [_as_tuple(mention) in nested for mention in mentions]


def _nested(spans: Collection[tuple[int, int, str]]) -> set[tuple[int, int, str]]:
    # Sorted by start, and longest first: a span comes after the spans around it, and before the spans inside it.
    order = sorted(spans, key=lambda span: (span[0], -span[1]))
    nested = set()
    furthest = -1
    for span in order:  # a span lies inside an earlier span if that span ends at the same place or later
        if span[1] <= furthest:
            nested.add(span)
        furthest = max(furthest, span[1])
    nearest: float = math.inf
    for span in reversed(order):  # a span lies around a later span if that span ends at the same place or earlier
        if nearest <= span[1]:
            nested.add(span)
        nearest = min(nearest, span[1])
    return nested


def has_overlap(mentions: Sequence[Span]) -> bool:
    """Return whether two different mentions have a character in common.

    Such mentions are nested or crossing, see `nested_flags`.
    """
    ordered = sorted({_as_tuple(mention) for mention in mentions})
    return any(before[1] > after[0] for before, after in itertools.pairwise(ordered))
