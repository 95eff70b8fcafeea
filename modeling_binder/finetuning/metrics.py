"""Exact-match span metrics: a prediction counts where start, end and type are those of a gold mention."""

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .data import Mention


@dataclass(frozen=True, slots=True)
class Score:
    """Precision, recall and F1 from counts; 0 where a ratio is undefined.

    Args:
        correct: predictions that are gold.
        predicted, gold: how many there are of each.
        found: gold mentions that were predicted; equals `correct`, except for nested mentions, where gold and
            predicted ones are chosen apart.
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
        """Ratios and counts, for JSON."""
        ratios = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {**ratios, **asdict(self)}


@dataclass(frozen=True, slots=True)
class SpanMetrics:
    """What `compute_span_metrics` returns.

    Args:
        micro: over all mentions.
        macro_precision, macro_recall, macro_f1: means over the types that occur in gold or prediction.
        per_type: in the order of the labels given.
        nested: mentions that lie in or around another one. Recall is over gold mentions nested among the gold ones,
            precision over predictions nested among the predicted ones.
    """

    micro: Score
    macro_precision: float
    macro_recall: float
    macro_f1: float
    per_type: dict[str, Score]
    nested: Score

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "micro": self.micro.to_dict(),
            "macro": {"precision": self.macro_precision, "recall": self.macro_recall, "f1": self.macro_f1},
            "per_type": {label: score.to_dict() for label, score in self.per_type.items()},
            "nested": self.nested.to_dict(),
        }

    def table(self) -> str:
        """A table for the terminal, ratios in percent."""
        macro = (self.macro_precision, self.macro_recall, self.macro_f1)
        rows = [(label, (s.precision, s.recall, s.f1), s.gold, s.predicted) for label, s in self.per_type.items()]
        micro, nested = (
            (name, (score.precision, score.recall, score.f1), score.gold, score.predicted)
            for name, score in (("micro", self.micro), ("nested", self.nested))
        )
        rows += [micro, ("macro", macro, self.micro.gold, self.micro.predicted)]
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
        gold, predicted: for each document its mentions, as `Mention` or (start, end, label); duplicates count once.
        labels: the entity types, in the order of the report.

    Raises:
        ValueError: there are not as many documents in both.
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
    """Whether each mention lies in another one or holds one; near-linear in their number.

    Two mentions of one span with different types are nested in each other; the same mention twice is one. Crossing
    ones (each begins or ends outside the other) are not nested.
    """
    nested = _nested({_as_tuple(mention) for mention in mentions})
    return [_as_tuple(mention) in nested for mention in mentions]


def _nested(spans: Collection[tuple[int, int, str]]) -> set[tuple[int, int, str]]:
    # By start, then longest first: whatever holds a span comes before it, whatever it holds comes after
    order = sorted(spans, key=lambda span: (span[0], -span[1]))
    nested = set()
    furthest = -1
    for span in order:  # lies in an earlier one, where the furthest end so far reaches its own
        if span[1] <= furthest:
            nested.add(span)
        furthest = max(furthest, span[1])
    nearest: float = math.inf
    for span in reversed(order):  # holds a later one, where the nearest end so far is within its own
        if nearest <= span[1]:
            nested.add(span)
        nearest = min(nearest, span[1])
    return nested


def has_overlap(mentions: Sequence[Span]) -> bool:
    """Whether any two different mentions share a character: nested, crossing, or two types on one span."""
    ordered = sorted({_as_tuple(mention) for mention in mentions})
    return any(before[1] > after[0] for before, after in itertools.pairwise(ordered))
