"""The search for thresholds, and the calibration of scores with temperatures.

The margin of a span is the log-odds of its score. The results of the search are compared with known results and with
the best of all combinations.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.finetuning.calibration import (
    Temperatures,
    calibrate,
    draw,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from modeling_binder.finetuning.threshold_search import (
    METRICS,
    Curve,
    Objective,
    best_cut,
    logit,
    maximise_micro_f1,
    probability_between,
    refine,
    search,
    sigmoid,
    trial_cuts,
)


def curve(text, gold=None, floor=-5.0):
    """Build a curve from signs such as "+-+".

    Each sign is a candidate span. The spans have the margins 3, 2, 1, ... in this order. "+" is a gold mention.
    """
    return Curve.of(
        np.arange(3.0, 3.0 - len(text), -1), np.array([sign == "+" for sign in text]), gold or text.count("+"), floor
    )


# ---- single curves. A cut is the number of candidate spans above the threshold. ----


def test_a_curve_counts_the_predictions_above_each_threshold():
    found = Curve.of(np.array([1.0, 2.0, 1.0, -1.0]), np.array([True, False, True, False]), gold=5, floor=-4.0)
    assert found.margins.tolist() == [2, 1, -1]
    assert found.correct.tolist() == [0, 0, 2, 2] and found.predicted.tolist() == [0, 1, 3, 4]
    assert found.f1().tolist() == pytest.approx([0, 0, 4 / 8, 4 / 9])
    assert [found.interval(cut) for cut in range(4)] == [(2, math.inf), (1, 2), (-1, 1), (-4, -1)]
    assert [found.cut(sigmoid(margin)) for margin in (3, 1.5, 0, -2)] == [0, 1, 2, 3]
    assert found.cut(0.0) == 3 and found.cut(1.0) == 0


@pytest.mark.parametrize(
    ("signs", "objective", "expected"),
    [
        ("++-+--", Objective("f1"), 4),  # F1 4/5, 4/6, 6/7
        ("++---+", Objective("f1"), 2),
        ("--", Objective("f1"), 2),  # all cuts are equally bad, so the cut at the threshold 0.05 is kept
        ("+-+-+", Objective("precision", 0.6), 5),
        ("+-+--", Objective("precision", 0.6), 3),
        ("-+-", Objective("precision", 0.9), 2),  # no cut reaches the target; this cut has the best precision
        ("--", Objective("precision", 0.9), 2),  # no candidate is correct, so the cut at the threshold is kept
        ("+-+-+", Objective("recall", 0.6), 3),
        ("+-+-+", Objective("recall", 1.0), 5),
    ],
)
def test_the_best_cut_of_a_curve_is_found(signs, objective, expected):
    assert best_cut(curve(signs), objective, near=0.05) == expected


def test_the_highest_possible_recall_is_kept_if_the_target_is_not_reached():
    assert best_cut(curve("+-+-", gold=4), Objective("recall", 0.9), near=0.5) == 3


def test_the_nearest_of_equally_good_thresholds_is_chosen():
    found = curve("+-+")  # F1: 2/3 after one candidate, 4/5 after three
    even = Curve.of(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]), gold=3, floor=-5.0)
    assert even.f1().tolist() == pytest.approx([0, 1 / 2, 2 / 5, 2 / 3])
    assert found.threshold(3, near=0.3) == 0.3, "the given threshold lies between the margin 1 and the floor"
    assert found.threshold(1, near=0.3) == 0.92, "the threshold lies between the margins 2 and 3 and has few digits"
    assert 2 < logit(0.92) < 3


@given(st.floats(-20, 12), st.floats(1e-6, 5), st.floats(0.01, 0.99))
def test_probability_between_returns_a_probability_between_two_margins(low, width, near):
    high = low + width
    value = probability_between(low, high, near)
    assert low < logit(value) < high
    assert value == near or not low < logit(near) < high


def test_probability_between_accepts_an_infinite_upper_margin():
    assert 5 < logit(probability_between(5, math.inf, 0.5)) < math.inf
    assert probability_between(60.0, math.inf, 0.5) == 1.0


# ---- several entity types ----

CANDIDATES = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CANDIDATES, st.integers(0, 2)), min_size=1, max_size=3), st.integers(0, 3), st.integers(0, 3))
def test_the_search_finds_the_largest_micro_f1_of_all_combinations(types, hits, misses):
    curves = []
    for candidates, missed in types:
        margins, is_gold = (np.array(column) for column in zip(*candidates, strict=True)) if candidates else ([], [])
        right = int(np.sum(is_gold))
        curves.append(Curve.of(np.array(margins, float), np.array(is_gold, bool), right + missed, -6.0))
    fixed = (hits, hits + misses, hits + 1)

    def f1(cuts):
        correct = hits + sum(curve.correct[cut] for curve, cut in zip(curves, cuts, strict=True))
        predicted = fixed[1] + sum(curve.predicted[cut] for curve, cut in zip(curves, cuts, strict=True))
        return 2 * correct / (predicted + fixed[2] + sum(curve.gold for curve in curves))

    best = max(f1(cuts) for cuts in itertools.product(*(range(len(curve) + 1) for curve in curves)))
    found = maximise_micro_f1(curves, 0.5, fixed)
    assert f1(found) == pytest.approx(best, abs=1e-12)
    for curve_, cut in zip(curves, found, strict=True):
        assert curve_.cut(curve_.threshold(cut, 0.5)) == cut, "the threshold keeps exactly these candidates"


@pytest.mark.parametrize("metric", METRICS)
def test_types_with_few_mentions_share_a_threshold(metric):
    curves = {"often": curve("++-+"), "rare": curve("-+")}
    pooled = Curve.of(
        np.array([3.0, 2, 1, 0, 3, 2]), np.array([True, True, False, True, False, True]), gold=4, floor=-5.0
    )
    objective = Objective(metric, 0.7 if metric in ("precision", "recall") else None)
    shared, thresholds = search(curves, pooled, objective, ["often"])
    assert list(thresholds) == ["often"] and 0 < shared < 1
    assert pooled.cut(shared) == best_cut(pooled, objective, 0.5)


def test_maximising_micro_f1_may_reject_all_predictions_of_one_type():
    """The type "weak" has its best F1 with all 10 predictions.

    But 9 of these predictions are wrong, so micro-F1 is better without them.
    """
    strong, weak = curve("+" * 20, gold=20), Curve.of(np.arange(0.0, -10, -1), np.arange(10) == 9, gold=1, floor=-20.0)
    assert best_cut(weak, Objective("f1"), 0.5) == 10
    assert maximise_micro_f1([strong, weak], 0.5) == [20, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metric": "accuracy"}, "metric must be one of 'f1', .*, got 'accuracy'"),
        ({"metric": "precision"}, "'precision' needs a target"),
        ({"metric": "precision", "target": 0.0}, "above 0 and at most 1, got 0.0"),
        ({"metric": "f1", "target": 0.5}, "has no target"),
    ],
)
def test_invalid_objectives_raise_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        Objective(**fields)


def test_refine_improves_all_thresholds_with_few_measurements():
    """The best cut of each type is 2. The cut of type "b" improves the result only if type "a" has its best cut."""
    curves, calls = {"a": curve("++--"), "b": curve("++--")}, []

    def measure(thresholds, key):
        calls.append(key)
        cuts = {name: curves[name].cut(thresholds[name]) for name in curves}
        return (float(cuts["a"] == 2) + float(cuts["a"] == 2 and cuts["b"] == 2),)

    found = refine({"a": 0.99, "b": 0.99}, curves, measure)
    assert {name: curves[name].cut(found[name]) for name in curves} == {"a": 2, "b": 2}
    assert len(calls) < 20
    long = curve("+-" * 100)
    cuts = trial_cuts(long, 101)
    assert len(cuts) <= 12 and 101 not in cuts
    assert {0, 97, 99, 103, 105, 199} <= set(cuts), "cuts near the current cut and at both ends are tried"
    assert trial_cuts(curve("++-+"), 2) == [0, 4]


# ---- calibration ----


def test_the_temperature_of_known_probabilities_is_found():
    """Three of the four spans with margin 2 are gold mentions. So sigmoid(2 / T) = 3/4, which gives T = 2 / log(3)."""
    margins = np.array([0.0, 0.0, 2.0, 2.0, 2.0, 2.0])
    is_gold = np.array([True, False, True, True, True, False])
    assert fit_temperature(margins, is_gold) == pytest.approx(2 / math.log(3), rel=1e-3)
    assert fit_temperature(np.array([1.0, -1.0]), np.array([True, False])) == 0.1, (
        "all gold mentions have larger margins than other spans: the lower limit"
    )
    assert fit_temperature(np.array([1.0, -1.0]), np.array([False, True])) == 10.0, "worse than chance: the upper limit"


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-8, 8), st.booleans()), min_size=1, max_size=30))
def test_the_temperature_minimises_the_loss(spans):
    margins, is_gold = np.array([m for m, _ in spans]), np.array([g for _, g in spans])

    def loss(temperature):
        return np.mean(np.logaddexp(0, np.where(is_gold, -margins, margins) / temperature))

    found = fit_temperature(margins, is_gold)
    assert 0.1 <= found <= 10
    assert loss(found) <= min(loss(t) for t in np.geomspace(0.1, 10, 200)) + 1e-6


def test_the_expected_calibration_error_of_two_bins():
    """Four spans have the score 0.9, and two of them are correct. One wrong span has the score 0.1."""
    bins = reliability(np.array([0.9, 0.9, 0.9, 0.9, 0.1]), np.array([True, True, False, False, False]))
    assert expected_calibration_error(bins) == pytest.approx((4 * 0.4 + 1 * 0.1) / 5)
    assert sum(found.spans for found in bins) == 5 and reliability(np.array([1.0, 0.0]), np.array([True, False]))


def test_temperatures_that_raise_the_calibration_error_are_rejected():
    """100 spans have the score 0.97, and 97 of them are gold mentions, so these scores are calibrated.

    One gold mention with a very low score changes the temperature that minimises the loss.
    """
    margins = np.concatenate([np.full(97, 3.4), np.full(3, 3.4), [-12.0]])
    is_gold = np.concatenate([np.full(97, True), np.full(3, False), [True]])
    former = Temperatures(1.0, {})
    kept, report = calibrate(margins, is_gold, np.zeros(101, int), former, [0], 2)
    assert not report.helped and report.error_after > report.error_before and kept == former


def test_a_separate_temperature_is_used_only_where_it_lowers_the_error_of_its_type():
    """The scores of type 0 are too high. The scores of type 1 are calibrated, except for one gold mention."""
    margins = np.concatenate([np.full(200, 3.0), np.full(100, 3.4), [-12.0]])
    is_gold = np.concatenate([np.full(120, True), np.full(80, False), np.full(97, True), np.full(3, False), [True]])
    type_ids = np.repeat([0, 1], [200, 101])
    found, report = calibrate(margins, is_gold, type_ids, Temperatures(1.0, {}), [0, 1], 3)
    assert report.helped and report.error_after < report.error_before and 0 in found.own
    for key, own in found.own.items():
        chosen = type_ids == key
        spans = (margins[chosen], is_gold[chosen], type_ids[chosen])
        _, of_type = calibrate(*spans, Temperatures(found.default, {}), [key], 1)
        assert of_type.helped and own == fit_temperature(*spans[:2])
    assert calibrate(margins, is_gold, type_ids, found, [0, 1], 3)[0] == found, "a second calibration changes nothing"


def test_calibration_draws_a_reliability_diagram(tmp_path):
    rng = np.random.default_rng(0)
    margins = rng.normal(0, 4, 500)
    is_gold = rng.random(500) < 1 / (1 + np.exp(-margins / 3))
    temperature = fit_temperature(margins, is_gold)
    assert 2 < temperature < 4.5
    found, report = calibrate(margins, is_gold, np.zeros(500, int), Temperatures(1.0, {}), [], 1)
    assert found == Temperatures(temperature, {}) and report.helped and report.spans == 500
    assert report.error_after < report.error_before
    draw(report, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"plot\.txt: a plot has one of the suffixes \.png"):
        draw(report, tmp_path / "plot.txt")
