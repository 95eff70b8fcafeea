"""Find the best thresholds on development data, from the margins of all candidate spans.

The candidate spans of a type are sorted by margin. A threshold keeps the first k candidates. So cumulative sums give
the numbers of predictions and of correct predictions for each threshold, and all thresholds can be compared exactly. In
nested decoding, types do not influence each other. In flat decoding, they do; so `refine` measures thresholds with the
decoder.

In this module, margins are divided by the temperature of the type. So a margin is the log-odds of the score of a span.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

METRICS = ("f1", "macro-f1", "precision", "recall")
MAX_ROUNDS = 3  # maximum number of times that `refine` changes each threshold
MAX_CUTS = 12  # maximum number of values that `refine` tries for a threshold at a time
_TOLERANCE = 1e-9

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Objective:
    """The goal of a search for thresholds.

    Args:
        metric: "f1" (micro F1), "macro-f1" (the F1 of each type), "precision" or "recall". With "precision", each type
            gets the lowest threshold that reaches the target. With "recall", each type gets the highest such threshold.
        target: the precision or the recall to reach, above 0 and at most 1.
    """

    metric: str = "f1"
    target: float | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(map(repr, METRICS))}, got {self.metric!r}.")
        if (self.target is not None) != (self.metric in ("precision", "recall")):
            raise ValueError(f"metric={self.metric!r} {'needs a' if self.target is None else 'has no'} target.")
        if self.target is not None and not 0 < self.target <= 1:
            raise ValueError(f"the target {self.metric} must be above 0 and at most 1, got {self.target}.")


@dataclass(frozen=True)
class Curve:
    """The candidate spans of one or several types, and the number of candidates above each possible threshold.

    Thresholds that keep the same candidates form a cut. Cut k keeps the candidates with the k largest margins.

    Args:
        margins: [N], the distinct margins of the candidates, in descending order.
        correct, predicted: [N + 1], the numbers of correct predictions and of predictions for each cut k = 0 ... N.
        gold: number of gold mentions, including gold mentions that are not candidates.
        floor: margin that all candidates exceed. It is the lowest possible threshold.
    """

    margins: np.ndarray
    correct: np.ndarray
    predicted: np.ndarray
    gold: int
    floor: float = -math.inf

    @classmethod
    def of(cls, margins: np.ndarray, is_gold: np.ndarray, gold: int, floor: float = -math.inf) -> "Curve":
        """Create a curve from C candidates in any order.

        Args:
            margins: [C], the margin of each candidate.
            is_gold: [C], whether each candidate is a gold mention.
            gold, floor: see the class.
        """
        distinct, index = np.unique(-np.asarray(margins, dtype=np.float64), return_inverse=True)
        counts = np.bincount(index, minlength=len(distinct))
        right = np.bincount(index, weights=np.asarray(is_gold, dtype=np.float64), minlength=len(distinct))
        correct, predicted = (np.concatenate([[0], np.cumsum(column)]).astype(np.int64) for column in (right, counts))
        return cls(-distinct, correct, predicted, gold, floor)

    def __len__(self) -> int:
        return len(self.margins)

    def interval(self, cut: int) -> tuple[float, float]:
        """Return the lower and the upper margin of a cut. The log-odds of its thresholds lie between them."""
        low = self.margins[cut] if cut < len(self) else self.floor
        return float(low), float(self.margins[cut - 1]) if cut else math.inf

    def cut(self, threshold: float) -> int:
        """Return the cut of a threshold. The threshold is a probability."""
        return int(np.searchsorted(-self.margins, -logit(threshold), side="left"))

    def f1(self) -> np.ndarray:
        """Return the F1 of each cut, [N + 1]."""
        return 2 * self.correct / np.maximum(self.predicted + self.gold, 1)

    def nearest(self, good: np.ndarray, threshold: float) -> int:
        """Return the cut that is nearest to a threshold, among the cuts for which `good` is true.

        Args:
            good: [N + 1], bool, true for at least one cut.
            threshold: a probability.
        """
        cuts, margin = np.flatnonzero(good), logit(threshold)
        below = np.append(self.margins, self.floor)[cuts]
        above = np.concatenate([[math.inf], self.margins])[cuts]
        return int(cuts[np.argmin(np.maximum(np.maximum(below - margin, margin - above), 0))])

    def threshold(self, cut: int, near: float) -> float:
        """Return a threshold of a cut: `near` if it belongs to the cut, otherwise a probability with few digits."""
        low, high = self.interval(cut)
        return probability_between(low, high, near)


def best_cut(curve: Curve, objective: Objective, near: float) -> int:
    """Return the best cut of a curve. Among equally good cuts, return the cut nearest to the threshold `near`.

    If no cut reaches the target precision or recall, the result is the cut whose value is nearest to the target.
    """
    if objective.target is None:
        scores = curve.f1()
        return curve.nearest(scores >= scores.max() - _TOLERANCE, near)
    precision = objective.metric == "precision"
    share = curve.correct / (np.maximum(curve.predicted, 1) if precision else max(curve.gold, 1))
    if share.max() == 0:  # no candidate is correct, so there is no best threshold
        return curve.cut(near)
    good = np.flatnonzero(share >= min(objective.target, share.max()) - _TOLERANCE)
    return int(good[-1 if precision else 0])


def maximise_micro_f1(curves: Sequence[Curve], near: float, fixed: tuple[int, int, int] = (0, 0, 0)) -> list[int]:
    """Return the cuts, one for each curve, with the largest common micro F1.

    F1 = 2 * correct / (predicted + gold) is a ratio of sums over the types. It is at least x if and only if the sum of
    2 * correct - x * (predicted + gold) over the types is not negative. For a given x, the term of each type can be
    maximised separately. Dinkelbach's iteration (1967) alternates two steps: maximise the terms for x, and set x to the
    F1 of the resulting cuts. It ends when F1 no longer grows. A few iterations reach the maximum.

    Args:
        curves: the candidates of each type.
        near: among equally good thresholds, the threshold nearest to this probability is chosen.
        fixed: numbers of correct predictions, predictions and gold mentions of the types whose thresholds do not
            change.
    """
    correct, predicted, gold = fixed
    gold += sum(curve.gold for curve in curves)
    ratio = -1.0
    cuts: list[int] = []
    while True:
        x = max(ratio, 0.0)
        values = [2 * curve.correct - x * curve.predicted for curve in curves]
        better = [
            curve.nearest(value >= value.max() - _TOLERANCE, near) for curve, value in zip(curves, values, strict=True)
        ]
        hits = correct + sum(int(curve.correct[cut]) for curve, cut in zip(curves, better, strict=True))
        tried = predicted + sum(int(curve.predicted[cut]) for curve, cut in zip(curves, better, strict=True))
        reached = 2 * hits / max(tried + gold, 1)
        if reached <= ratio + _TOLERANCE:
            return cuts or better
        ratio, cuts = reached, better


def search(
    curves: Mapping[Key, Curve], pooled: Curve, objective: Objective, own: Sequence[Key], near: float = 0.5
) -> tuple[float, dict[Key, float]]:
    """Find the best shared threshold and the best separate thresholds in nested decoding.

    Args:
        curves: the candidates of each type.
        pooled: the candidates of all types together. They determine the shared threshold.
        objective: the goal of the search.
        own: keys of the types that get a separate threshold. All other types have the shared threshold.
        near: among equally good shared thresholds, the threshold nearest to this probability is chosen.

    Returns:
        The shared threshold, and the thresholds of `own`.
    """
    shared = pooled.threshold(best_cut(pooled, objective, near), near)
    if objective.metric == "f1":
        others = [(curve, curve.cut(shared)) for key, curve in curves.items() if key not in set(own)]
        fixed = (
            sum(int(curve.correct[cut]) for curve, cut in others),
            sum(int(curve.predicted[cut]) for curve, cut in others),
            sum(curve.gold for curve, _ in others),
        )
        cuts = maximise_micro_f1([curves[key] for key in own], shared, fixed)
    else:
        cuts = [best_cut(curves[key], objective, shared) for key in own]
    return shared, {key: curves[key].threshold(cut, shared) for key, cut in zip(own, cuts, strict=True)}


def trial_cuts(curve: Curve, current: int) -> list[int]:
    """Return at most `MAX_CUTS` promising cuts: cuts directly after a correct candidate and before a wrong candidate.

    If there are more such cuts, half of the result are the cuts nearest to the current cut. The other half are evenly
    spaced.
    """
    right = np.diff(curve.correct)
    wrong = np.diff(curve.predicted) - right
    useful = np.flatnonzero((right > 0) & np.append(wrong[1:] > 0, True)) + 1
    cuts = np.append(0, useful)
    if len(cuts) > MAX_CUTS:
        half = MAX_CUTS // 2
        near = cuts[np.argsort(np.abs(cuts - current), kind="stable")[:half]]
        spaced = cuts[np.linspace(0, len(cuts) - 1, half).round().astype(int)]
        cuts = np.union1d(near, spaced)
    return [int(cut) for cut in cuts if cut != current]


def refine(
    thresholds: dict[Key, float],
    curves: Mapping[Key, Curve],
    measure: Callable[[Mapping[Key, float], Key], tuple[float, ...]],
    progress: Callable[[], None] = lambda: None,
) -> dict[Key, float]:
    """Improve thresholds one after the other until no change improves the result of the decoder.

    Args:
        thresholds: the thresholds to start from.
        curves: key of a threshold -> the candidates that this threshold applies to.
        measure: function that returns a tuple. Better thresholds have a larger tuple. Its arguments are the thresholds,
            and the key of the changed threshold.
        progress: called after each measured threshold.

    Returns:
        Thresholds that are at least as good as the thresholds at the start.
    """
    current = dict(thresholds)
    for _ in range(MAX_ROUNDS):
        before = dict(current)
        for key, curve in curves.items():
            best = measure(current, key)
            for cut in trial_cuts(curve, curve.cut(current[key])):
                trial = {**current, key: curve.threshold(cut, current[key])}
                if (value := measure(trial, key)) > best:
                    best, current = value, trial
            progress()
        if current == before:
            break
    return current


def logit(probability: float) -> float:
    """Return log(p / (1 - p)). The result is -inf for 0 and inf for 1."""
    if probability <= 0 or probability >= 1:
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability) - math.log1p(-probability)


def sigmoid(margin: float) -> float:
    """Return 1 / (1 + exp(-margin))."""
    return 1 / (1 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1 + math.exp(margin))


def probability_between(low: float, high: float, near: float) -> float:
    """Return a probability whose log-odds lie between two margins.

    The result is `near` if its log-odds lie between the margins. Otherwise, the result is close to the middle, so that
    it is far from the margins of candidates. It has as few digits as possible, so that it is easy to read.

    >>> probability_between(0.4, 0.5, near=0.5)
    0.61
    """
    if low < logit(near) < high:
        return near
    middle = (sigmoid(low) + sigmoid(high)) / 2
    for digits in range(2, 18):
        if low < logit(value := round(middle, digits)) < high:
            return value
    return 1.0 if high == math.inf else middle
