"""Assign predictions to gold mentions, one to one, so that as many as possible have a partner.

Where mentions are nested or overlap, a prediction may overlap several gold mentions. Pairing each prediction with the
first free gold mention would then have two faults. The result would depend on the order of the mentions, and a mention
could stay without a partner although an assignment of all mentions exists. So a matching of maximum weight determines
the pairs.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from .scores import Span


class Pair(NamedTuple):
    """A gold mention and the prediction that was assigned to it."""

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

    Mentions with equal spans and equal labels become pairs first, and then mentions with equal spans. The remaining
    mentions become as many pairs of overlapping mentions as possible. If several matchings have this number of pairs,
    the one with the most pairs of equal labels is chosen, and among several of these, the one with the smallest
    distances between boundaries.

    The first two steps lose nothing: if a pair with equal spans counts 1 and an overlapping pair counts 1/2, no other
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

    If several matchings have this number of pairs with equal labels, the one with the most pairs is chosen, and among
    several of these, the one with the smallest distances between boundaries.
    """
    return sorted(_best_pairs(sorted(gold), sorted(predicted), labels_first=True))


def _best_pairs(gold: Sequence[Span], predicted: Sequence[Span], labels_first: bool) -> list[Pair]:
    """Return the pairs of the best matching of overlapping mentions.

    Matchings are compared by the number of pairs, then by the number of pairs with equal labels, and then by the
    distances between boundaries; `labels_first` exchanges the first two criteria. A later criterion decides only if all
    earlier ones are equal. The weight of a pair contains all three: each criterion is multiplied by a factor that is
    larger than any possible sum of the later criteria.
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
    open_spans: list[list[tuple[int, int]]] = [[], []]  # for each side: (end, index) of spans that may still be open
    for start, end, side, index in events:
        other = 1 - side
        open_spans[other] = [span for span in open_spans[other] if span[0] > start]
        for _, partner in open_spans[other]:
            yield (index, partner) if side == 0 else (partner, index)
        open_spans[side].append((end, index))


def maximum_matching(weights: Mapping[tuple[int, int], int]) -> dict[int, int]:
    """Return a one-to-one assignment with the largest sum of weights (maximum-weight bipartite matching).

    The left vertices are added one by one. After each, the matching is changed along the best alternating path from the
    new vertex, so it is always the best matching of the vertices that were added (Kuhn 1955, with the search of Bellman
    and Ford). The time is at most cubic in the size of each connected part of the graph, so many small parts are fast.

    Args:
        weights: (left, right) -> a positive weight. Pairs that are missing cannot be assigned.

    Returns:
        A dictionary left -> right.
    """
    neighbours: dict[int, list[int]] = defaultdict(list)
    for left, right in weights:
        neighbours[left].append(right)
    matched: dict[int, int] = {}
    owner: dict[int, int] = {}
    for new in neighbours:
        gains = {new: 0}  # left vertex -> gain of the best path that takes away the partner of this vertex
        reached: dict[int, int] = {}  # right vertex -> gain of the best path that ends at this vertex
        before: dict[int, int] = {}  # right vertex -> left vertex before it on this path
        queue = deque([new])
        while queue:
            left = queue.popleft()
            for right in neighbours[left]:
                gain = gains[left] + weights[left, right]
                # A path without a gain here has none later, because the matching is the best one so far.
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
        right = matched.pop(released, None)  # the path ends at a left vertex that loses its partner
    while right is not None:
        left = before[right]
        earlier = matched.get(left)
        matched[left], owner[right] = right, left
        right = earlier
