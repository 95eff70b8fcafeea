"""Table rows with counts, for model cards and dataset cards."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Names of the splits on the Hub
HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
MAX_TYPES_SHOWN = 100  # maximum number of entity types in a table of a card


def count_rows(splits: Mapping[str, Mapping[str, Any]], labels: Iterable[str]) -> list[list[str]]:
    """Return the rows of a table of counts. The first cell is the name of the row; then there is one cell per split.

    Args:
        splits: a mapping from each split to its counts: "documents", "mentions" (label -> number of mentions), "nested"
            (number of nested mentions), and optionally "windows" and "empty_windows" (windows without a mention).
        labels: the types that get a row.
    """
    counts = list(splits.values())
    titles = {"documents": "documents", "windows": "windows", "empty_windows": "windows without a mention"}
    rows = [
        [title, *(f"{split[key]:,}" for split in counts)]
        for key, title in titles.items()
        if all(key in split for split in counts)
    ]
    rows.append(["mentions", *(f"{sum(split['mentions'].values()):,}" for split in counts)])
    rows += [[f"– {label}", *(f"{split['mentions'].get(label, 0):,}" for split in counts)] for label in labels]
    rows.append(["nested mentions", *(f"{split['nested']:,}" for split in counts)])
    return rows


def shown_types(labels: Sequence[str], splits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the labels that a card shows: at most `MAX_TYPES_SHOWN`, and the most frequent labels if there are more.

    Args:
        labels: all labels.
        splits: the counts of each split, as for `count_rows`.
    """
    if len(labels) <= MAX_TYPES_SHOWN:
        return list(labels)
    totals = {label: sum(split["mentions"].get(label, 0) for split in splits.values()) for label in labels}
    return sorted(totals, key=lambda label: (-totals[label], label))[:MAX_TYPES_SHOWN]
