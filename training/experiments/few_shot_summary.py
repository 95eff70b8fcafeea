"""Mean and standard deviation of the runs of `training.experiments.few_shot`."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# What a model starts from, in the field `start` of a run
CHECKPOINT, ENCODER = "checkpoint", "encoder"


def summarise(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean and standard deviation of F1 over the samples, for each corpus, size, start and replay share."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["corpus"], run["size"], run["start"], run["replay"]), []).append(run)
    summary = []
    for (corpus, size, start, share), found in sorted(groups.items()):
        row: dict[str, Any] = {"corpus": corpus, "size": size, "start": start, "replay": share, "draws": len(found)}
        for key in ("f1", "kept_f1"):
            values = [run[key] for run in found if run[key] is not None]
            row[key] = statistics.mean(values) if values else None
            row[f"{key}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
        summary.append(row)
    return summary


def report(summary: Sequence[Mapping[str, Any]]) -> str:
    """Return the summary as lines for the terminal, with F1 in percent."""
    lines = [f"{'corpus':24} {'texts':>6} {'start':11} {'replay':>6} {'F1':>14} {'F1 of kept types':>18}"]
    for row in summary:
        cells = [percent(row, "f1"), percent(row, "kept_f1")]
        lines.append(f"{row['corpus']:24} {row['size']:6d} {row['start']:11} {row['replay']:6g} "
                     f"{cells[0]:>14} {cells[1]:>18}")  # fmt: skip
    return "\n".join(lines)


def percent(row: Mapping[str, Any], key: str) -> str:
    """Format a figure of `summarise` in percent, with its standard deviation if it is known.

    If the figure is None, the result is "".

    >>> percent({"f1": 0.5, "f1_deviation": 0.01}, "f1")
    '50.0 ± 1.0'
    """
    if row[key] is None:
        return ""
    deviation = row[f"{key}_deviation"]
    return f"{100 * row[key]:.1f}{'' if deviation is None else f' ± {100 * deviation:.1f}'}"
