"""Count documents and mentions, and format tables of counts for the terminal."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from .data import Document
from .metrics import nested_flags


def count_documents(documents: Sequence[Document], labels: Iterable[str] | None = None) -> dict[str, Any]:
    """Count documents, mentions per label and nested mentions.

    Args:
        documents: the documents of one split.
        labels: labels to count, in the order of the result; defaults to all labels that occur, sorted.

    Returns:
        `{"documents": int, "mentions": {label: int}, "nested": int}`. A nested mention lies inside or around another
        mention.
    """
    mentions = Counter(mention.label for document in documents for mention in document.entities)
    return {
        "documents": len(documents),
        "mentions": {label: mentions[label] for label in (sorted(mentions) if labels is None else labels)},
        "nested": sum(sum(nested_flags(document.entities)) for document in documents),
    }


def aligned_table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells as a table. The first column is aligned to the left, all other columns to the right.

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
