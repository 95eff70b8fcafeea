"""Summarise the rounds of the speed benchmark: medians, ratios to the bare encoder (the "floor"), and targets."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from .contenders import CONTENDERS, FLOOR
from .contenders.base import FIXED_TYPES, PASSES

MEGABYTE = 1e6
Results = dict[str, Any]
Row = dict[str, Any]


def measured(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the minimum and the maximum of several rounds."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that is not exceeded by at least `share` of the values (the nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def summarise(results: Results) -> None:
    """Add the figures of each row, and whether the targets are met, to the results of `training.benchmarks.speed`."""
    for row in results["throughput"]:
        if row.get("seconds"):
            row["texts_per_second"] = measured([row["texts"] / seconds for seconds in row["seconds"]])
            row["characters_per_second"] = measured([row["characters_read"] / seconds for seconds in row["seconds"]])
            row["truncates"] = row["characters_read"] < row["characters"]
    floors = {row["workload"]: row for row in results["throughput"] if row["contender"] == FLOOR}
    for row in results["throughput"]:
        floor = floors.get(row["workload"])
        if row.get("seconds") and floor and floor.get("seconds"):
            row["ratio_to_floor"] = times_as_fast(row, floor)
        if row.get("peak") is not None and row.get("loaded") is not None:
            row["peak_above_loaded"] = row["peak"] - row["loaded"]
    for row in results.get("latency", ()):  # results of earlier versions have no latency
        if "failed" not in row:
            for figure, share in (("p50", 0.50), ("p95", 0.95)):
                row[f"{figure}_milliseconds"] = measured([1000 * percentile(each, share) for each in row["rounds"]])
    for row in results.get("new_types", ()):
        if row["seconds"]:
            row["types_per_second"] = measured([row["types"] / seconds for seconds in row["seconds"]])
    for row in results["cold_start"]:
        for part in ("import", "load", "first", "total"):
            if row.get(part):
                row[f"{part}_seconds"] = measured(row[part])
    training = results["training"]
    bare = next((row for row in training if row["contender"] == FLOOR), None)
    for row in training:
        if row.get("seconds"):
            row["step"] = measured(row["seconds"])
        if row.get("seconds") and bare and bare.get("seconds"):
            row["ratio_to_step"] = _ratio(row["rounds"], bare["rounds"], "seconds", "seconds")
            row["ratio_to_forward_and_backward"] = _ratio(row["rounds"], bare["rounds"], "seconds", PASSES)
    results["targets"] = targets(results)


def times_as_fast(one: Row, other: Row) -> float:
    """Return the ratio of the speed of `one` to the speed of `other`, as the median over rounds.

    Speed is the number of characters that a contender processes per second. So contenders that truncate long texts have
    no advantage.
    """
    return statistics.median(
        (one["characters_read"] / mine) / (other["characters_read"] / its)
        for mine, its in zip(one["seconds"], other["seconds"], strict=True)
    )


def _ratio(rounds: Sequence[dict[str, Any]], bare: Sequence[dict[str, Any]], mine: str, its: str) -> float:
    """Return how long a step of a contender takes relative to the bare encoder, as the median over rounds.

    The time of a contender is its mean over the steps of a round. Single steps cannot be compared, because the
    contenders have different batches.

    Args:
        rounds, bare: the rounds of a contender and of the bare encoder.
        mine, its: keys of the seconds in a round: `mine` for the contender, `its` for the bare encoder.
    """
    return statistics.median(
        statistics.mean(one[mine]) / statistics.mean(other[its]) for one, other in zip(rounds, bare, strict=True)
    )


def row_of(results: Results, contender: str, workload: str, types: int | None) -> Row | None:
    """Return the row of a contender, or None if its time was not measured.

    A contender with fixed types has a single row. It is returned for every number of types.
    """
    for row in results["throughput"]:
        if (row["contender"], row["workload"]) == (contender, workload) and row["types"] in (types, None):
            return row if row.get("seconds") else None
    return None


def targets(results: Results) -> list[dict[str, Any]]:
    """Return the speed targets of this project with their measured values. `met` is None if a value is missing."""
    found: list[dict[str, Any]] = []

    def add(target: str, value: float | None, wanted: float, at_least: bool, unit: str = "times") -> None:
        met = None if value is None else (value >= wanted if at_least else value <= wanted)
        found.append(
            {"target": target, "wanted": wanted, "at_least": at_least, "unit": unit, "value": value, "met": met}
        )

    workloads = list(dict.fromkeys(row["workload"] for row in results["throughput"]))
    for workload in workloads:
        floor = row_of(results, FLOOR, workload, None)
        five = row_of(results, "binder", workload, 5)
        one, thousand = (row_of(results, "binder", workload, count) for count in (1, 1000))
        int8 = row_of(results, "binder-int8", workload, 5)
        add(f"{workload}: throughput of the fp32 pipeline with 5 types, relative to the floor",
            None if five is None else five.get("ratio_to_floor"), 0.85, True)  # fmt: skip
        add(f"{workload}: time with 1,000 types, relative to 1 type",
            times_as_fast(one, thousand) if one and thousand else None, 1.5, False)  # fmt: skip
        memory = None
        if five and floor and five.get("peak") is not None and floor.get("peak") is not None:
            memory = (five["peak"] - floor["peak"]) / MEGABYTE
        add(f"{workload}: peak memory with 5 types, above that of the bare encoder", memory, 300, False, "MB")
        add(f"{workload}: throughput of ONNX int8 with 5 types, relative to the fp32 pipeline",
            times_as_fast(int8, five) if int8 and five else None, 3, True)  # fmt: skip
        add(f"{workload}: throughput of the fp32 pipeline, relative to the fastest peer; "
            "lowest ratio over all numbers of types",
            _lead(results, workload), 1, True)  # fmt: skip
    ours: Row = next((row for row in results["training"] if row["contender"] == "binder"), {})
    add("training step, relative to the forward and backward pass of the text encoder",
        ours.get("ratio_to_forward_and_backward"), 1.3, False)  # fmt: skip
    if ours.get("step"):
        others = [row["step"]["median"] for row in results["training"]
                  if row.get("step") and _is_peer(row["contender"])]  # fmt: skip
        lead = min(others) / ours["step"]["median"] if others else None
        add("training step of the fastest peer, relative to ours", lead, 1, True)
    return found


def _is_peer(name: str) -> bool:
    return not CONTENDERS[name].ours and not name.startswith(FLOOR)


def _lead(results: Results, workload: str) -> float | None:
    """Return the lowest ratio of the speed of the fp32 pipeline to the speed of a peer, over all numbers of types."""
    ratios = []
    for ours in results["throughput"]:
        if ours["contender"] != "binder" or ours["workload"] != workload or not ours.get("seconds"):
            continue
        for name in CONTENDERS:
            # Compare a peer with fixed types only with the measurement for the same number of types.
            comparable = CONTENDERS[name].types or ours["types"] == FIXED_TYPES
            peer = row_of(results, name, workload, ours["types"]) if _is_peer(name) and comparable else None
            if peer:
                ratios.append(times_as_fast(ours, peer))
    return min(ratios, default=None)


def describe_target(target: dict[str, Any]) -> str:
    """Format a target and its measured value as a line of text."""
    state = {True: "met", False: "MISSED", None: "not measured"}[target["met"]]
    value = "" if target["value"] is None else f"{target['value']:.2f}, "
    bound = "at least" if target["at_least"] else "at most"
    return f"{state:>12}  {target['target']}: {value}wanted {bound} {target['wanted']:g} {target['unit']}"
