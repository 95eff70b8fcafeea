"""The four evaluation schemes of SemEval-2013 task 9.1. They differ in the predictions that count as correct.

Source: Segura-Bedmar, Martínez and Herrero-Zazo, "SemEval-2013 Task 9: Extraction of Drug-Drug Interactions from
Biomedical Texts" (https://aclanthology.org/S13-2056). The outcomes (correct, incorrect, ...) come from MUC-5 (Chinchor
and Sundheim 1993).

The Python package nervaluate computes the same schemes. It calls "boundary" exact and "type" ent_type. This module
assigns predictions to gold mentions by a maximum matching (see `matching`). So the result does not depend on the order
of the mentions, even if they are nested.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from .matching import Pair, match_by_label, match_by_span
from .scores import AnyDocument, Score, Span, aligned_mentions, macro_means, ordered_labels

Scheme: TypeAlias = Literal["strict", "boundary", "partial", "type"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)

PARTIAL_CREDIT = 0.5


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Numbers of mentions by outcome.

    Correct, incorrect and partial mentions are pairs of a gold mention and a prediction. Missed and spurious mentions
    have no partner. So correct + incorrect + partial + missed is the number of gold mentions, and correct + incorrect +
    partial + spurious is the number of predictions.
    """

    correct: int
    incorrect: int
    partial: int
    missed: int
    spurious: int


@dataclass(frozen=True, slots=True)
class SchemeScores:
    """The scores of one scheme.

    Args:
        micro: score over all mentions.
        macro_precision, macro_recall, macro_f1: means over the types with a gold mention or a prediction.
        per_type: score of each type. Recall is the share of the gold mentions of the type that were found. Precision is
            the share of the predictions of the type that are correct.
        outcomes: numbers of correct, incorrect, partial, missed and spurious mentions.
    """

    micro: Score
    macro_precision: float
    macro_recall: float
    macro_f1: float
    per_type: dict[str, Score]
    outcomes: Outcomes

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as a dictionary for JSON."""
        return {
            "micro": self.micro.to_dict(),
            "macro": {"precision": self.macro_precision, "recall": self.macro_recall, "f1": self.macro_f1},
            "per_type": {label: score.to_dict() for label, score in self.per_type.items()},
            "outcomes": asdict(self.outcomes),
        }


@dataclass(frozen=True, slots=True)
class SchemeMetrics:
    """The result of `compute_scheme_metrics`: the scores of each scheme.

    A pair is a gold mention and its assigned prediction.

    Args:
        strict: a pair is correct if span and type are equal.
        boundary: a pair is correct if the spans are equal; types are ignored.
        partial: a pair with equal spans counts 1, and a pair of overlapping mentions counts 1/2; types are ignored.
        type: a pair is correct if the mentions overlap and the types are equal.
    """

    strict: SchemeScores
    boundary: SchemeScores
    partial: SchemeScores
    type: SchemeScores

    def to_dict(self) -> dict[str, Any]:
        """Return the scores of all schemes as a dictionary for JSON."""
        return {scheme: getattr(self, scheme).to_dict() for scheme in SCHEMES}

    def table(self) -> str:
        """Return a table for the terminal with one line for each scheme. Ratios are in percent."""
        header = f"{'':8}  {'P':>6}  {'R':>6}  {'F1':>6}  {'macro F1':>8}"
        lines = [header + "".join(f"  {name:>9}" for name in Outcomes.__dataclass_fields__)]
        for scheme in SCHEMES:
            scores: SchemeScores = getattr(self, scheme)
            micro = scores.micro
            ratios = "  ".join(f"{100 * ratio:6.2f}" for ratio in (micro.precision, micro.recall, micro.f1))
            counts = "".join(f"  {count:9d}" for count in asdict(scores.outcomes).values())
            lines.append(f"{scheme:8}  {ratios}  {100 * scores.macro_f1:8.2f}{counts}")
        return "\n".join(lines)


def compute_scheme_metrics(
    gold: Sequence[AnyDocument], predicted: Sequence[AnyDocument], labels: Iterable[str] | None = None
) -> SchemeMetrics:
    """Score predictions against gold mentions by the four schemes of SemEval-2013.

    Args:
        gold, predicted, labels: as in `metrics.compute_span_metrics`.

    Raises:
        ValueError: `gold` and `predicted` have different numbers of documents, or a mention is malformed.
    """
    truths, guesses = aligned_mentions(gold, predicted)
    names = ordered_labels(labels, truths, guesses)
    by_span = [match_by_span(truth, guess) for truth, guess in zip(truths, guesses, strict=True)]
    by_label = [match_by_label(truth, guess) for truth, guess in zip(truths, guesses, strict=True)]
    return SchemeMetrics(
        **{
            scheme: _scheme_scores(scheme, truths, guesses, by_label if scheme == "type" else by_span, names)
            for scheme in SCHEMES
        }
    )


def credit(scheme: Scheme, pair: Pair) -> float:
    """Return the value of a pair in a scheme: 1 if it is correct, 1/2 if it is partially correct, otherwise 0."""
    if scheme == "strict":
        return float(pair.same_span and pair.same_label)
    if scheme == "type":
        return float(pair.same_label)
    return 1.0 if pair.same_span else PARTIAL_CREDIT if scheme == "partial" else 0.0


def document_counts(
    gold: Sequence[Collection[Span]], predicted: Sequence[Collection[Span]], scheme: Scheme = "strict"
) -> NDArray[np.float64]:
    """Return the numbers of correct, predicted and gold mentions of each of N documents in a scheme, [N, 3]."""
    counts = np.zeros((len(gold), 3))
    for row, (truth, guess) in enumerate(zip(gold, predicted, strict=True)):
        if scheme == "strict":
            correct: float = len(set(truth) & set(guess))
        else:
            pairs = match_by_label(truth, guess) if scheme == "type" else match_by_span(truth, guess)
            correct = sum(credit(scheme, pair) for pair in pairs)
        counts[row] = correct, len(guess), len(truth)
    return counts


def _scheme_scores(
    scheme: Scheme,
    gold: Sequence[Collection[Span]],
    predicted: Sequence[Collection[Span]],
    matched: Sequence[Sequence[Pair]],
    labels: Sequence[str],
) -> SchemeScores:
    golds = Counter(span[2] for spans in gold for span in spans)
    guesses = Counter(span[2] for spans in predicted for span in spans)
    correct, found = dict.fromkeys(labels, 0.0), dict.fromkeys(labels, 0.0)
    credits: Counter[float] = Counter()
    for pairs in matched:
        for pair in pairs:
            value = credit(scheme, pair)
            credits[value] += 1
            found[pair.gold[2]] += value
            correct[pair.predicted[2]] += value
    per_type = {label: Score(correct[label], guesses[label], golds[label], found[label]) for label in labels}
    precision, recall, f1 = macro_means(per_type.values())
    total, pair_count = sum(correct.values()), sum(credits.values())
    return SchemeScores(
        micro=Score(total, guesses.total(), golds.total(), total),
        macro_precision=precision,
        macro_recall=recall,
        macro_f1=f1,
        per_type=per_type,
        outcomes=Outcomes(
            correct=credits[1.0],
            incorrect=credits[0.0],
            partial=credits[PARTIAL_CREDIT],
            missed=golds.total() - pair_count,
            spurious=guesses.total() - pair_count,
        ),
    )
