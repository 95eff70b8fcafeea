"""Make the data report, which is printed before training: counts of a corpus, and mentions that cannot be learned."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .counts import aligned_table, count_documents
from .metrics import has_overlap
from .windows import LostMention, WindowDataset

_CONTEXT = 15  # number of characters that the report shows before and after a lost mention


@dataclass
class SplitReport:
    """Counts of one split.

    Args:
        name: name of the split.
        documents: number of documents.
        windows: number of token windows into which the documents are split.
        empty_windows: number of windows without a mention. They train only the thresholds.
        mentions: label -> number of mentions.
        nested: number of mentions inside or around another mention.
        overlapping_documents: number of documents in which two mentions overlap.
        longest_window: number of tokens in the longest window.
        lost: mentions that a model cannot learn or predict, with their reasons.
    """

    name: str
    documents: int
    windows: int
    empty_windows: int
    mentions: dict[str, int]
    nested: int
    overlapping_documents: int
    longest_window: int
    lost: list[LostMention] = field(repr=False)

    @classmethod
    def of(cls, name: str, dataset: WindowDataset) -> "SplitReport":
        """Count the documents, windows and mentions of a split."""
        return cls(
            name=name,
            windows=len(dataset),
            empty_windows=sum(all(type_id < 0 for type_id, *_ in labels) for labels in dataset.labels),
            overlapping_documents=sum(has_overlap(document.entities) for document in dataset.documents),
            longest_window=max(dataset.lengths, default=0),
            lost=dataset.lost,
            **count_documents(dataset.documents, dataset.entity_types),
        )

    @property
    def total(self) -> int:
        """Number of mentions of all types."""
        return sum(self.mentions.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as a dictionary for JSON, with the number of lost mentions for each reason."""
        return {
            "documents": self.documents,
            "windows": self.windows,
            "empty_windows": self.empty_windows,
            "mentions": self.mentions,
            "nested": self.nested,
            "overlapping_documents": self.overlapping_documents,
            "longest_window": self.longest_window,
            "lost": dict(Counter(lost.reason.value for lost in self.lost)),
        }


def data_report(splits: dict[str, WindowDataset], offenders: int = 3) -> str:
    """Return the data report as text for the terminal: a table of the splits, and examples of lost mentions.

    Args:
        splits: name of each split -> its windows.
        offenders: maximum number of lost mentions to show for each split and reason.
    """
    reports = [SplitReport.of(name, dataset) for name, dataset in splits.items()]
    return "\n".join([_counts(reports), *(line for report in reports for line in _lost_mentions(report, offenders))])


def _counts(reports: Sequence[SplitReport]) -> str:
    labels = list(reports[0].mentions) if reports else []

    def share(part: int, whole: int) -> str:
        return f"{part} ({100 * part / whole:.1f}%)" if whole else str(part)

    rows = [
        ["", *(report.name for report in reports)],
        ["documents", *(str(report.documents) for report in reports)],
        ["windows", *(str(report.windows) for report in reports)],
        ["  without mentions", *(share(report.empty_windows, report.windows) for report in reports)],
        ["  longest, in tokens", *(str(report.longest_window) for report in reports)],
        ["mentions", *(str(report.total) for report in reports)],
        *([f"  {label}", *(str(report.mentions[label]) for report in reports)] for label in labels),
        ["nested mentions", *(share(report.nested, report.total) for report in reports)],
        ["documents with overlap", *(share(report.overlapping_documents, report.documents) for report in reports)],
        ["lost mentions", *(share(len(report.lost), report.total) for report in reports)],
    ]
    return aligned_table(rows)


def _lost_mentions(report: SplitReport, offenders: int) -> Iterator[str]:
    """Yield, for each reason, a line with the number of lost mentions, and a line for each example."""
    for reason, count in Counter(lost.reason for lost in report.lost).items():
        yield f"\n{report.name}: {count} of {report.total} mentions are {reason.value}, for example"
        for lost in [lost for lost in report.lost if lost.reason is reason][:offenders]:
            mention, text = lost.mention, lost.document.text
            before = text[max(0, mention.start - _CONTEXT) : mention.start]
            after = text[mention.end : mention.end + _CONTEXT]
            yield (
                f"  {lost.document.id} [{mention.start}:{mention.end}] {mention.label}: "
                f"{before}[{text[mention.start : mention.end]}]{after}"
            ).replace("\n", " ")
