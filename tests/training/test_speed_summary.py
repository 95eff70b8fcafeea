"""The figures that the benchmark of speed computes from its measurements: ratios, targets, medians and percentiles."""

import pytest

from training.benchmarks.contenders import CONTENDERS
from training.benchmarks.plots import colour
from training.benchmarks.summary import describe_target, measured, percentile, summarise
from training.benchmarks.tables import TRUNCATES, contenders_table


def row(name, workload="ncbi", types=None, seconds=(1.0, 2.0, 1.0), read=1000, **more):
    """Return the measurements of a contender. `seconds` contains the time of each round."""
    return {
        **{"workload": workload, "types": types, "contender": name, "seconds": list(seconds), "texts": 10},
        **{"characters": 1000, "characters_read": read, "loaded": 500e6, "peak": 600e6, **more},
    }


def run_of(*rows, training=()):
    """Return the results of a benchmark with these measurements and their summary."""
    found = {
        "about": {"quick": False, "types": [1, 5, 1000], "train_batch_size": 8},
        "contenders": {name: {"title": CONTENDERS[name].title, "note": ""} for name in CONTENDERS},
        "throughput": list(rows),
        "cold_start": [],
        "training": list(training),
    }
    summarise(found)
    return found


def values(found):
    """Return the targets by name, without the part of the name before the colon."""
    return {target["target"].partition(": ")[2] or target["target"]: target for target in found["targets"]}


def test_ratios_are_computed_within_each_round():
    # The machine was busy in the second round. Both contenders took twice as long, so their ratio is unchanged.
    found = run_of(row("floor"), row("binder", types=5, seconds=(1.25, 2.5, 1.25), peak=850e6))
    ours = found["throughput"][1]
    assert ours["ratio_to_floor"] == pytest.approx(0.8)
    assert ours["texts_per_second"] == {"median": 8.0, "min": 4.0, "max": 8.0}
    assert ours["peak_above_loaded"] == 350e6
    targets = values(found)
    assert targets["throughput of the fp32 pipeline with 5 types, relative to the floor"]["met"] is False
    assert targets["peak memory with 5 types, above that of the bare encoder"]["value"] == pytest.approx(250)
    assert targets["time with 1,000 types, relative to 1 type"]["met"] is None
    assert [describe_target(target).split()[0] for target in found["targets"][:2]] == ["MISSED", "not"]


def test_characters_that_a_contender_truncates_do_not_count():
    found = run_of(row("floor"), row("binder", types=5), row("gliner", types=5, seconds=(0.5, 1, 0.5), read=100))
    peer = found["throughput"][2]
    assert peer["truncates"] and peer["ratio_to_floor"] == pytest.approx(0.2)
    lead = "throughput of the fp32 pipeline, relative to the fastest peer; lowest ratio over all numbers of types"
    assert values(found)[lead]["value"] == 5
    assert f"20.0{TRUNCATES}" in contenders_table(found)


def test_targets_for_many_types_and_for_training_are_computed():
    training = [
        {"contender": "floor", "rounds": [{"seconds": [4, 2], "forward and backward": [3, 1]}], "seconds": [4, 2]},
        {"contender": "binder", "rounds": [{"seconds": [3, 2]}], "seconds": [3, 2]},
        {"contender": "gliner", "rounds": [{"seconds": [6, 4]}], "seconds": [6, 4]},
    ]
    one, thousand = row("binder", types=1), row("binder", types=1000, seconds=(1.4, 2.8, 1.4))
    targets = values(run_of(row("floor"), one, thousand, training=training))
    assert targets["time with 1,000 types, relative to 1 type"]["value"] == pytest.approx(1.4)
    assert targets["training step, relative to the forward and backward pass of the text encoder"][
        "value"
    ] == pytest.approx(1.25)
    assert targets["training step of the fastest peer, relative to ours"]["value"] == pytest.approx(2)


def test_every_contender_has_its_own_colour():
    assert len({colour(name) for name in CONTENDERS}) == len(CONTENDERS)


def test_measured_returns_median_and_range():
    assert measured([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_percentiles_are_measured_values():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, share) for share in (0.0, 0.2, 0.21, 0.5, 0.95, 1.0)] == [1, 1, 2, 3, 5, 5]
