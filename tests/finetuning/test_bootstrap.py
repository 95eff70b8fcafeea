"""The paired bootstrap test, compared with all possible samples and with results computed by hand."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.finetuning import compute_scheme_metrics, paired_bootstrap
from modeling_binder.finetuning.bootstrap import bootstrap_counts

# The counts of one document are the numbers of correct predictions, of predictions and of gold mentions.
COUNTS = st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)).map(
    lambda t: (t[0], t[0] + t[1], t[0] + t[2])
)
PAIRS = st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=8)


def tables(pairs):
    """Return the counts of the first model and of the second model, with one row for each document."""
    return (np.array([pair[side] for pair in pairs], dtype=float) for side in (0, 1))


def f1(table):
    correct, predicted, gold = table.sum(0)
    return 2 * correct / (predicted + gold) if predicted + gold else 0.0


@settings(deadline=None, max_examples=25)
@given(PAIRS)
def test_identical_models_do_not_differ(pairs):
    table, _ = tables(pairs)
    result = bootstrap_counts(table, table, resamples=50)
    assert result.difference == result.low == result.high == result.better == 0.0
    assert result.p_value == 1.0


@settings(deadline=None, max_examples=25)
@given(PAIRS)
def test_swapping_the_models_changes_only_the_sign(pairs):
    first, second = tables(pairs)
    there, back = (bootstrap_counts(*order, resamples=99) for order in ((first, second), (second, first)))
    assert there.p_value == back.p_value and 0.01 <= there.p_value <= 1
    assert there.difference == -back.difference == there.f1 - there.other_f1
    assert there.low == pytest.approx(-back.high) and there.low <= there.high
    assert there.better + back.better <= 1


def test_the_result_approaches_the_result_over_all_possible_samples():
    """Three documents have 27 equally likely samples. The expected results are computed from these samples."""
    first = np.array([[2, 2, 3], [1, 3, 2], [3, 4, 3]], dtype=float)
    second = np.array([[1, 2, 3], [1, 1, 2], [2, 4, 3]], dtype=float)
    observed = f1(first) - f1(second)
    samples = [f1(first[list(rows)]) - f1(second[list(rows)]) for rows in itertools.product(range(3), repeat=3)]
    extreme = sum(abs(sample - observed) >= abs(observed) - 1e-12 for sample in samples) / 27
    result = bootstrap_counts(first, second, resamples=40_000, confidence=0.9, seed=3)
    assert result.difference == pytest.approx(observed)
    assert 0 < extreme < 1 and result.p_value == pytest.approx(extreme, abs=0.01)
    assert result.better == pytest.approx(sum(sample > 0 for sample in samples) / 27, abs=0.01)
    low, high = np.quantile(np.repeat(samples, 1000), [0.05, 0.95])
    assert (result.low, result.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_a_difference_in_one_document_has_the_expected_p_value():
    """The models differ in one of N documents.

    A sample consists of N documents, drawn with replacement.
    It lacks this document with the probability (1 - 1/N)^N.
    It contains this document exactly once with the probability (1 - 1/N)^(N - 1).
    """
    first = np.ones((300, 3))
    second = first.copy()
    second[7, 0] = 0
    result = bootstrap_counts(first, second, resamples=5000)
    assert result.difference == pytest.approx(1 / 300) and result.low == 0.0
    assert result.better == pytest.approx(1 - (299 / 300) ** 300, abs=0.03)
    # A sample counts for the p-value if its difference deviates from the observed difference by at least the observed
    # difference. Every sample counts, except a sample that contains the document exactly once.
    assert result.p_value == pytest.approx(1 - (299 / 300) ** 299, abs=0.03)


def test_an_equal_difference_in_each_document_has_the_smallest_p_value():
    first, second = np.tile([2.0, 2.0, 2.0], (40, 1)), np.tile([1.0, 2.0, 2.0], (40, 1))
    result = bootstrap_counts(first, second, resamples=999)
    assert (result.difference, result.low, result.high, result.better) == (0.5, 0.5, 0.5, 1.0)
    assert result.p_value == 1 / 1000


def test_the_block_size_does_not_change_the_samples(monkeypatch):
    first = np.array([[2, 2, 3], [1, 3, 2], [3, 4, 3]], dtype=float)
    second = np.array([[1, 2, 3], [1, 1, 2], [2, 4, 3]], dtype=float)
    whole = bootstrap_counts(first, second, resamples=100)
    monkeypatch.setattr("modeling_binder.finetuning.bootstrap._MAX_BLOCK", 10)
    assert bootstrap_counts(first, second, resamples=100) == whole
    assert bootstrap_counts(first, second, resamples=100, seed=1) != whole


def test_predictions_are_compared_with_the_scores_of_each_scheme():
    gold = [[(0, 4, "A"), (6, 9, "B")], [(2, 5, "A")], [(1, 3, "B")]] * 5
    one = [[(0, 4, "A"), (6, 9, "A")], [(2, 6, "A")], [(1, 3, "B")]] * 5
    two = [[(0, 4, "A")], [], [{"start": 1, "end": 3, "entity_group": "B"}]] * 5
    for scheme in ("strict", "boundary", "partial", "type"):
        result = paired_bootstrap(gold, one, two, scheme=scheme, resamples=200)
        assert result.f1 == pytest.approx(getattr(compute_scheme_metrics(gold, one), scheme).micro.f1)
        assert result.other_f1 == pytest.approx(getattr(compute_scheme_metrics(gold, two), scheme).micro.f1)
        assert result.scheme == scheme and result.documents == 15
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()
    assert "75.00 for mine, 66.67 for theirs" in result.summary("mine", "theirs")
    assert "15 documents, 200 samples, seed 0" in result.summary()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "exact"}, "scheme must be one of strict, boundary, partial, type; got 'exact'"),
        ({"resamples": 0}, "resamples must be at least 1"),
        ({"confidence": 95}, "confidence must be between 0 and 1, got 95"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_arguments_out_of_range_raise_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap([[]], [[]], [[]], **options)


def test_invalid_documents_raise_an_error():
    with pytest.raises(ValueError, match="1 documents with gold mentions and 2 with predictions"):
        paired_bootstrap([[]], [[]], [[], []])
    with pytest.raises(ValueError, match=r"other\[0\]\[0\] is"):
        paired_bootstrap([[]], [[]], [[(0, "A")]])
    with pytest.raises(ValueError, match="there are no documents"):
        paired_bootstrap([], [], [])
