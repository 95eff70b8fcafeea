"""Assign the bars of entities to lanes, so that bars do not cover each other.

A lane is a row of bars. Lane 0 is directly under the text, lane 1 is under lane 0, and so on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Entities = Sequence[Mapping[str, Any]]


class Bar(NamedTuple):
    """The bar of an entity. `score` is None if the entity has no score, as in a corpus."""

    start: int
    end: int
    label: str
    score: float | None
    lane: int = 0


def label_of(entity: Mapping[str, Any]) -> str:
    """Return the type of an entity from the pipeline (key `entity_group`) or from a corpus (key `label`)."""
    label: str = entity["entity_group"] if "entity_group" in entity else entity["label"]
    return label


def all_labels(entities: Entities, labels: Sequence[str] | None = None) -> list[str]:
    """Return `labels`, followed by all other labels of the entities in alphabetical order."""
    return list(dict.fromkeys([*(labels or ()), *sorted({label_of(entity) for entity in entities})]))


def groups(entities: Entities) -> Iterator[list[Bar]]:
    """Yield the bars of overlapping entities in groups, ordered by position.

    Entities of different groups do not overlap. In a group, an outer entity comes before the entities inside it.
    """
    group: list[Bar] = []
    end = 0
    for entity in sorted(entities, key=lambda entity: (entity["start"], -entity["end"])):
        if group and entity["start"] >= end:
            yield _in_lanes(group)
            group, end = [], 0
        group.append(Bar(entity["start"], entity["end"], label_of(entity), entity.get("score")))
        end = max(end, entity["end"])
    if group:
        yield _in_lanes(group)


def _in_lanes(group: Sequence[Bar]) -> list[Bar]:
    lanes = assign_lanes([(bar.start, bar.end) for bar in group])
    placed = [bar._replace(lane=lane) for bar, lane in zip(group, lanes, strict=True)]
    return sorted(placed, key=lambda bar: (bar.start, -bar.end, -bar.lane))


def assign_lanes(
    spans: Sequence[tuple[int, int]], collide: Callable[[int, int], bool] = lambda one, other: False
) -> list[int]:
    """Return the lane of each span. The lane of a span is below the lanes of all shorter spans that it overlaps.

    Args:
        spans: start and end of each span.
        collide: a function of the indices of two spans that do not overlap. It returns true if the two bars must not be
            in the same lane, for example because a label is longer than its bar.
    """
    lanes = [0] * len(spans)
    placed: list[int] = []
    for index in sorted(range(len(spans)), key=lambda index: (spans[index][1] - spans[index][0], spans[index][0])):
        start, end = spans[index]
        overlapping = (lanes[other] for other in placed if spans[other][0] < end and start < spans[other][1])
        lane = 1 + max(overlapping, default=-1)
        while any(lanes[other] == lane and collide(other, index) for other in placed):
            lane += 1
        lanes[index] = lane
        placed.append(index)
    return lanes
