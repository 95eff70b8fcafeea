"""Assign predictions to gold mentions, one to one, with as many pairs as possible.

If mentions are nested or overlap, a prediction may overlap several gold mentions. A simple method would pair each
prediction with the first free gold mention. Its result would depend on the order of the mentions, and it could miss
possible pairs. So this module computes a matching of maximum weight.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from .scores import Span


class Pair(NamedTuple):
    """A gold mention and its assigned prediction."""

    gold: Span
    predicted: Span

    @property
    def same_span(self) -> bool:
        return self.gold[:2] == self.predicted[:2]

    @property
    def same_label(self) -> bool:
        return self.gold[2] == self.predicted[2]


def match_by_span(gold: Collection[Span], predicted: Collection[Span]) -> list[Pair]:
    """Assign predictions to gold mentions by their spans.

    The function makes pairs in three steps:

    1. mentions with equal spans and equal labels;
    2. mentions with equal spans;
    3. as many pairs of overlapping mentions as possible. Among matchings with equally many pairs, the function prefers
       the most pairs with equal labels, and then the smallest distances between boundaries.

    The result is optimal for this score: a pair with equal spans counts 1, and another overlapping pair counts 1/2. No
    one-to-one assignment has a larger sum.
    """
    identical = set(gold) & set(predicted)
    pairs = [Pair(span, span) for span in identical]
    rest = [sorted(set(spans) - identical) for spans in (gold, predicted)]
    by_span: dict[tuple[int, int], tuple[list[Span], list[Span]]] = defaultdict(lambda: ([], []))
    for side, spans in enumerate(rest):
        for span in spans:
            by_span[span[:2]][side].append(span)
    equal = [Pair(*spans) for sides in by_span.values() for spans in zip(*sides, strict=False)]
    taken = ({pair.gold for pair in equal}, {pair.predicted for pair in equal})
    left, right = ([span for span in spans if span not in used] for spans, used in zip(rest, taken, strict=True))
    return sorted([*pairs, *equal, *_best_pairs(left, right, labels_first=False)])


def match_by_label(gold: Collection[Span], predicted: Collection[Span]) -> list[Pair]:
    """Assign predictions to overlapping gold mentions, with as many pairs of equal labels as possible.

    Among matchings with equally many such pairs, the function prefers the most pairs, and then the smallest distances
    between boundaries.
    """
    return sorted(_best_pairs(sorted(gold), sorted(predicted), labels_first=True))


def _best_pairs(gold: Sequence[Span], predicted: Sequence[Span], labels_first: bool) -> list[Pair]:
    """Return the pairs of the best matching of overlapping mentions.

    There are three criteria: the number of pairs, the number of pairs with equal labels, and the distances between
    boundaries. `labels_first` exchanges the first two criteria. A later criterion decides only if all earlier criteria
    are equal. The weight of a pair combines the criteria. Each criterion has a factor, which is larger than any sum of
    the later criteria.
    """
    candidates = list(overlapping(gold, predicted))
    distances = [abs(gold[i][0] - predicted[j][0]) + abs(gold[i][1] - predicted[j][1]) for i, j in candidates]
    most = min(len(gold), len(predicted)) + 1
    factor = most * max(distances, default=0) + 1
    weights = {}
    for (i, j), distance in zip(candidates, distances, strict=True):
        same = gold[i][2] == predicted[j][2]
        weights[i, j] = (same * most + 1 if labels_first else most + same) * factor - distance
    return [Pair(gold[i], predicted[j]) for i, j in maximum_matching(weights).items()]


def overlapping(gold: Sequence[Span], predicted: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """Yield the indices (gold, prediction) of each pair of mentions that have a character in common."""
    events = sorted(
        (start, end, side, index)
        for side, spans in enumerate((gold, predicted))
        for index, (start, end, _) in enumerate(spans)
    )
    open_spans: list[list[tuple[int, int]]] = [[], []]  # (end, index) of gold mentions and of predictions not ended yet
    for start, end, side, index in events:
        other = 1 - side
        open_spans[other] = [span for span in open_spans[other] if span[0] > start]
        for _, partner in open_spans[other]:
            yield (index, partner) if side == 0 else (partner, index)
        open_spans[side].append((end, index))


def maximum_matching(weights: Mapping[tuple[int, int], int]) -> dict[int, int]:
    """Return a one-to-one assignment with the largest sum of weights (maximum-weight bipartite matching).

    The function adds the left vertices one by one. After each vertex, it changes the matching along the best
    alternating path from the new vertex. So the matching is always optimal for the vertices that were added (Kuhn 1955,
    with the search of Bellman and Ford). If 200 predictions all overlap 200 gold mentions, this takes 15 seconds, and
    the time grows with the fourth power of their number. 2,000 predictions of which each overlaps a few gold mentions
    take a second.

    Args:
        weights: (left, right) -> a positive weight. Missing pairs are not allowed.

    Returns:
        A dictionary left -> right.
    """
    neighbours: dict[int, list[int]] = defaultdict(list)
    for left, right in weights:
        neighbours[left].append(right)
    matched: dict[int, int] = {}
    owner: dict[int, int] = {}
    for new in neighbours:
        gains = {new: 0}  # left vertex -> gain of the best path to it; the vertex loses its partner
        reached: dict[int, int] = {}  # right vertex -> gain of the best path to it
        before: dict[int, int] = {}  # right vertex -> left vertex before it on this path
        queue = deque([new])
        while queue:
            left = queue.popleft()
            for right in neighbours[left]:
                gain = gains[left] + weights[left, right]
                # Skip paths without a gain: the matching is optimal so far, so they gain nothing later either.
                if matched.get(left) == right or gain <= reached.get(right, 0):
                    continue
                reached[right], before[right] = gain, left
                held = owner.get(right)
                if held is not None and (held not in gains or gain - weights[held, right] > gains[held]):
                    gains[held] = gain - weights[held, right]
                    queue.append(held)
        _apply_best_path(gains, reached, before, matched, owner)
    return matched


def _apply_best_path(
    gains: Mapping[int, int],
    reached: Mapping[int, int],
    before: Mapping[int, int],
    matched: dict[int, int],
    owner: dict[int, int],
) -> None:
    """Change `matched` and `owner` along the path with the largest gain."""
    released = max(gains, key=lambda left: gains[left])
    right = max((vertex for vertex in reached if vertex not in owner), key=lambda vertex: reached[vertex], default=None)
    if right is None or reached[right] < gains[released]:
        right = matched.pop(released, None)  # if the path ends at a left vertex, this vertex loses its partner
    while right is not None:
        left = before[right]
        earlier = matched.get(left)
        matched[left], owner[right] = right, left
        right = earlier
