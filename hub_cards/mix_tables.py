"""Tables of model cards: the training corpora of a mix, and results on corpora that were not used for training."""

from collections.abc import Mapping, Sequence
from typing import Any

MIX_HEADER = ["corpus", "licence", "source", "texts", "mentions", "types", "share of the batches"]
ZERO_SHOT_HEADER = ["corpus", "texts", "types", "F1 by name", "F1 by description"]
_UNKNOWN = "not stated"


def mix_rows(mix: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row for each corpus of a mix and a row with the totals. The corpus with the most batches comes first.

    Args:
        mix: for each corpus a dictionary, as `PackedMix.report` returns it: `name`; the numbers of `documents`,
            `mentions` and `types`; `drawn` (share of the batches); and optionally `license` and `source`.
    """
    if not mix:
        return []
    rows = [
        [
            part["name"],
            part.get("license") or _UNKNOWN,
            part.get("source") or _UNKNOWN,
            *(f"{part[key]:,}" for key in ("documents", "mentions", "types")),
            f"{100 * part['drawn']:.1f} %",
        ]
        for part in sorted(mix, key=lambda part: -part["drawn"])
    ]
    totals = [f"{sum(part[key] for part in mix):,}" for key in ("documents", "mentions", "types")]
    return [*rows, ["all", "", "", *totals, ""]]


def mix_licenses(mix: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row for each licence: the licence and the names of the corpora with this licence."""
    names: dict[str, list[str]] = {}
    for part in mix:
        names.setdefault(part.get("license") or _UNKNOWN, []).append(part["name"])
    return [[license, ", ".join(sorted(names[license]))] for license in sorted(names, key=str.casefold)]


def zero_shot_rows(corpora: Mapping[str, Any], decoding: str) -> list[list[str]]:
    """Return a row with the results for each corpus, and a row with the means.

    Args:
        corpora: a mapping from the name of each corpus to its results from `training.experiments.zero_shot`.
        decoding: "nested" or "flat".
    """
    if not corpora:
        return []
    scores = {
        name: [100 * result["wordings"][wording][decoding]["f1"] for wording in ("name", "description")]
        for name, result in corpora.items()
    }
    rows = [
        [name, f"{result['texts']:,}", f"{result['types']:,}", *(f"{score:.1f}" for score in scores[name])]
        for name, result in corpora.items()
    ]
    means = [f"{sum(column) / len(scores):.1f}" for column in zip(*scores.values(), strict=True)]
    return [*rows, ["mean", "", "", *means]]
