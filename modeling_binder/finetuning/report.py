"""What is in a corpus, and what of it cannot be learned: read before training."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .metrics import has_overlap, nested_flags
from .windows import LostMention, WindowDataset


@dataclass
class SplitReport:
    """Counts of one split.

    Args:
        name: of the split.
        documents, windows, empty_windows: how many there are; empty ones have no mention (and train the thresholds).
        mentions: per type.
        nested, overlapping: mentions inside or around another one; documents in which any two overlap.
        lost: mentions that cannot be learned or found, with the reason.
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
        """Count a split."""
        counts = Counter(mention.label for document in dataset.documents for mention in document.entities)
        return cls(
            name=name,
            documents=len(dataset.documents),
            windows=len(dataset),
            empty_windows=sum(all(kind < 0 for kind, *_ in labels) for labels in dataset.labels),
            mentions={label: counts[label] for label in dataset.entity_types},
            nested=sum(sum(nested_flags(document.entities)) for document in dataset.documents),
            overlapping_documents=sum(has_overlap(document.entities) for document in dataset.documents),
            longest_window=max(dataset.lengths, default=0),
            lost=dataset.lost,
        )

    @property
    def total(self) -> int:
        """Mentions of all types."""
        return sum(self.mentions.values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON; lost mentions as counts per reason."""
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
    """A table of the splits of a corpus, and the first mentions that are lost, as text for the terminal.

    Args:
        splits: name -> windows.
        offenders: lost mentions to name per split and reason.
    """
    reports = [SplitReport.of(name, dataset) for name, dataset in splits.items()]
    labels = list(reports[0].mentions) if reports else []

    def share(part: int, whole: int) -> str:
        return f"{part} ({100 * part / whole:.1f}%)" if whole else str(part)

    rows = [["", *(report.name for report in reports)]]
    rows.append(["documents", *(str(report.documents) for report in reports)])
    rows.append(["windows", *(str(report.windows) for report in reports)])
    rows.append(["  without mentions", *(share(report.empty_windows, report.windows) for report in reports)])
    rows.append(["  longest, in tokens", *(str(report.longest_window) for report in reports)])
    rows.append(["mentions", *(str(report.total) for report in reports)])
    rows += [[f"  {label}", *(str(report.mentions[label]) for report in reports)] for label in labels]
    rows.append(["nested mentions", *(share(report.nested, report.total) for report in reports)])
    rows.append(
        ["documents with overlap", *(share(report.overlapping_documents, report.documents) for report in reports)]
    )
    rows.append(["lost mentions", *(share(len(report.lost), report.total) for report in reports)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    for report in reports:
        reasons = Counter(lost.reason for lost in report.lost)
        for reason, count in reasons.items():
            lines.append(f"\n{report.name}: {count} of {report.total} mentions are {reason.value}, for example")
            examples = [lost for lost in report.lost if lost.reason is reason][:offenders]
            for lost in examples:
                mention, text = lost.mention, lost.document.text
                around = text[max(0, mention.start - 15) : mention.start]
                after = text[mention.end : mention.end + 15]
                lines.append(
                    f"  {lost.document.id} [{mention.start}:{mention.end}] {mention.label}: "
                    f"{around}[{text[mention.start : mention.end]}]{after}".replace("\n", " ")
                )
    return "\n".join(lines)
