"""Table rows with counts, for model cards and dataset cards."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Names of the splits on the Hub
HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
MAX_TYPES_SHOWN = 100


def count_rows(splits: Mapping[str, Mapping[str, Any]], labels: Iterable[str]) -> list[list[str]]:
    """Return the rows of a table of counts: one column per split.

    Args:
        splits: split -> {"documents", "mentions": {label: number}, "nested"}, and optionally "windows" and
            "empty_windows".
        labels: the types to show.
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
    """Return the types that a card shows: all of them, or the most frequent ones if there are too many for a page."""
    if len(labels) <= MAX_TYPES_SHOWN:
        return list(labels)
    totals = {label: sum(split["mentions"].get(label, 0) for split in splits.values()) for label in labels}
    return sorted(totals, key=lambda label: (-totals[label], label))[:MAX_TYPES_SHOWN]
