"""Counts of documents and mentions, and tables of them for the terminal."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from .data import Document
from .metrics import nested_flags


def count_documents(documents: Sequence[Document], labels: Iterable[str] | None = None) -> dict[str, Any]:
    """Count documents, mentions per label and nested mentions.

    Args:
        documents: the documents of one split.
        labels: labels to count, in this order; defaults to the labels that occur, sorted.

    Returns:
        `{"documents": int, "mentions": {label: int}, "nested": int}`; nested mentions lie inside or around other ones.
    """
    mentions = Counter(mention.label for document in documents for mention in document.entities)
    return {
        "documents": len(documents),
        "mentions": {label: mentions[label] for label in (sorted(mentions) if labels is None else labels)},
        "nested": sum(sum(nested_flags(document.entities)) for document in documents),
    }


def aligned_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as lines of text: the first column aligned to the left, all others to the right.

    >>> print(aligned_table([["", "train"], ["documents", "1,200"], ["mentions", "7"]]))
               train
    documents  1,200
    mentions       7
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(width) for c, width in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
