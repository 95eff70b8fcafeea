"""Tests of decoding. Most tests use small score matrices or lists of spans that are written by hand."""

import itertools
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder import decoding_binder
from modeling_binder.decoding_binder import (
    above_threshold,
    drop_broader,
    flat_exact,
    flat_greedy,
    flat_spans,
    probability,
    propose_spans,
    required_margin,
)

WORDS = torch.tensor([[0, 1, 1, 1, 0]])  # [CLS] a b c [SEP]


def scores(*spans, types=1, threshold=1.0):
    """Return span scores of one window, [1, T types, 5 tokens, 5 widths].

    The thresholds are at (0, 0). Each given row is (type id, first token, last token, score). Other scores are zero.
    """
    matrix = torch.zeros(1, types, 5, 5)
    matrix[:, :, 0, 0] = threshold
    for type_id, first, last, score in spans:
        matrix[0, type_id, first, last - first] = score
    return matrix


def propose(matrix, threshold=0.5, **options):
    """Return the proposed spans as tuples (type id, first token, last token)."""
    found = propose_spans(matrix, WORDS, WORDS, required_margin(threshold, matrix.shape[1]), **options)
    return [tuple(row) for row in torch.stack(found[1:4], 1).tolist()]


def test_nothing_is_proposed_if_no_score_exceeds_the_threshold():
    assert propose(scores()) == []


def test_a_span_whose_score_equals_the_threshold_is_not_proposed():
    assert propose(scores((0, 1, 1, 1.0))) == []


def test_spans_of_one_token_and_nested_and_crossing_spans_are_proposed():
    matrix = scores((0, 1, 1, 2), (0, 1, 3, 3), (0, 1, 2, 2), (0, 2, 3, 2))
    assert propose(matrix) == [(0, 1, 1), (0, 1, 2), (0, 1, 3), (0, 2, 3)]


def test_each_type_has_its_own_threshold():
    matrix = scores((0, 1, 1, 2), (1, 1, 1, 2), types=2)
    matrix[0, 1, 0, 0] = 2.5
    assert propose(matrix) == [(0, 1, 1)]


def test_spans_start_and_end_at_word_boundaries():
    matrix = scores((0, 0, 1, 9), (0, 3, 4, 9), (0, 4, 4, 9))
    assert propose(matrix) == []
    starts, ends = torch.tensor([[0, 1, 0, 1, 0]]), torch.tensor([[0, 0, 1, 1, 0]])
    everything = scores(*((0, i, j, 9) for i in range(1, 4) for j in range(i, 4)))
    found = propose_spans(everything, starts, ends, required_margin(0.5, 1))
    assert torch.stack(found[2:4], 1).tolist() == [[1, 2], [1, 3], [3, 3]]


def test_any_nonzero_value_in_a_mask_means_true():
    matrix = scores((0, 1, 1, 2), (0, 2, 3, 2))
    found = propose_spans(matrix, WORDS * 256, WORDS * 512, required_margin(0.5, 1))
    assert torch.stack(found[2:4], 1).tolist() == [[1, 1], [2, 3]]


def test_joint_inference_requires_start_and_end_scores_above_their_thresholds():
    matrix = scores((0, 1, 1, 2), (0, 2, 3, 2))
    start, end = torch.zeros(1, 1, 5), torch.zeros(1, 1, 5)
    start[0, 0, 1] = start[0, 0, 2] = 1
    end[0, 0, 3] = 1
    assert propose(matrix, start_scores=start, end_scores=end) == [(0, 2, 3)]


def test_a_type_with_nan_scores_does_not_hide_other_types():
    matrix = scores((0, 1, 1, float("nan")), (1, 1, 2, 1.5), types=2)
    assert propose(matrix) == [(1, 1, 2)]


def test_the_threshold_can_be_raised_and_lowered():
    matrix = scores((0, 1, 1, 1.5), (0, 2, 2, 4.0))
    assert propose(matrix, 0.9) == [(0, 2, 2)]
    assert (0, 3, 3) in propose(matrix, 0.1)
    assert len(propose(matrix, 0)) == 6
    assert propose(matrix, 1) == []


def test_thresholds_can_be_given_for_each_type():
    matrix = scores((0, 1, 1, 2), (1, 1, 1, 2), types=2)
    assert propose(matrix, [0.5, 0.99]) == [(0, 1, 1)]


@pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan"), "0.5", [0.5, 2]])
def test_thresholds_outside_0_to_1_are_rejected(bad):
    with pytest.raises(ValueError, match="between 0 and 1"):
        required_margin(bad if isinstance(bad, list) else [bad, bad], 2)


@pytest.mark.parametrize("number", [np.float32(0.25), Decimal("0.25"), torch.tensor(0.25), np.array(0.25)], ids=str)
def test_thresholds_may_be_numbers_of_any_kind(number):
    expected = required_margin(0.25, 2)
    assert torch.equal(required_margin(number, 2), expected)
    assert torch.equal(required_margin([number, number], 2), expected)


@pytest.mark.parametrize(
    "bad", [True, np.bool_(True), torch.tensor(True), 10**400, Decimal("sNaN"), None, "0"], ids=str
)
def test_values_that_are_not_numbers_are_rejected(bad):
    with pytest.raises(ValueError, match="threshold must be a number between 0 and 1, got"):
        required_margin(bad, 2)


def test_a_window_proposes_only_the_spans_that_it_owns():
    matrix = scores((0, 1, 1, 2), (0, 1, 3, 2), (0, 3, 3, 2))
    # The window owns the spans with 2 < first token + last token <= 5.
    assert propose(matrix, owned=torch.tensor([[2, 5]])) == [(0, 1, 3)]


def test_probability_is_above_one_half_exactly_if_the_margin_is_positive():
    margins = torch.tensor([1e-38, 1e-7, 0.0, -1e-7, 50.0, -50.0])
    assert (probability(margins) > 0.5).tolist() == [True, True, False, False, True, False]


def spans(*rows):
    """Convert rows (start, end, type id, weight) to four tensors."""
    starts, ends, types, weights = zip(*rows, strict=True)
    return torch.tensor(starts), torch.tensor(ends), torch.tensor(types), torch.tensor(weights, dtype=torch.float64)


def test_only_exact_decoding_prefers_two_spans_with_a_larger_total_margin():
    rows = spans((0, 4, 0, 3.0), (2, 8, 0, 4.0), (5, 9, 0, 3.0))
    assert flat_greedy(*rows).tolist() == [1]
    assert flat_exact(*rows).tolist() == [0, 2]


def test_flat_decoding_keeps_the_type_with_the_smallest_id_if_margins_are_equal():
    rows = spans((0, 4, 1, 2.0), (0, 4, 0, 2.0), (4, 6, 0, 1.0))
    assert flat_greedy(*rows).tolist() == [1, 2]
    assert flat_exact(*rows).tolist() == [1, 2]


@pytest.mark.parametrize("flat", [flat_exact, flat_greedy])
def test_flat_decoding_accepts_empty_input_and_keeps_disjoint_spans(flat):
    empty = torch.zeros(0, dtype=torch.long)
    assert flat(empty, empty, empty, torch.zeros(0, dtype=torch.float64)).tolist() == []
    assert flat(*spans((5, 9, 0, 1.0), (0, 4, 0, 3.0))).tolist() == [1, 0]


def test_flat_spans_subtracts_the_required_margin_of_each_type():
    starts, ends, types = torch.tensor([0, 0]), torch.tensor([4, 4]), torch.tensor([0, 1])
    margins = torch.tensor([3.0, 2.0])
    assert flat_spans(starts, ends, types, margins, required_margin(0.5, 2)).tolist() == [0]
    assert flat_spans(starts, ends, types, margins, required_margin([0.9, 0.1], 2)).tolist() == [1]


# The type person is broader than writer, and writer is broader than poet. The type city is not related to them.
BROADER = torch.tensor(
    [
        [False, True, True, False],
        [False, False, True, False],
        [False, False, False, False],
        [False, False, False, False],
    ]
)
BROADER = torch.where(BROADER, torch.inf, -torch.inf)
PERSON, WRITER, POET, CITY = range(4)


def kept_spans(*rows):
    """Return the indices of the spans that `drop_broader` keeps. The default weight is 1."""
    return drop_broader(*spans(*(row if len(row) == 4 else (*row, 1.0) for row in rows)), BROADER).tolist()


def test_only_the_narrowest_type_of_a_span_is_kept():
    assert kept_spans((0, 4, PERSON), (0, 4, WRITER), (0, 4, POET)) == [2]
    assert kept_spans((0, 4, POET), (0, 4, PERSON)) == [0]
    assert kept_spans((0, 4, PERSON), (0, 4, WRITER)) == [1]
    assert kept_spans((0, 4, PERSON), (0, 4, CITY)) == [0, 1], "person and city are not related"
    assert kept_spans((0, 4, PERSON), (0, 4, CITY), (0, 4, WRITER)) == [1, 2]


def test_broader_types_of_other_spans_are_kept():
    assert kept_spans((0, 4, PERSON), (0, 5, WRITER), (1, 4, POET)) == [0, 1, 2]
    assert kept_spans((0, 4, PERSON), (4, 8, PERSON), (4, 8, POET)) == [0, 2]


def test_two_unrelated_narrower_types_of_a_span_are_kept():
    broader = torch.full((3, 3), -torch.inf)
    broader[0, 1] = broader[0, 2] = torch.inf
    same = torch.zeros(3, dtype=torch.long)
    assert drop_broader(same, same + 4, torch.arange(3), torch.ones(3), broader).tolist() == [1, 2]
    assert drop_broader(same[:0], same[:0], same[:0], same[:0], broader).tolist() == []


def test_a_broader_type_with_a_much_larger_margin_is_kept():
    broader = torch.where(BROADER > 0, 5.0, -torch.inf)

    def kept(*rows):
        return drop_broader(*spans(*rows), broader).tolist()

    assert kept((0, 4, PERSON, 6.0), (0, 4, WRITER, 1.0)) == [1], "a difference of 5 is within the limit"
    assert kept((0, 4, PERSON, 6.1), (0, 4, WRITER, 1.0)) == [0, 1], "flat decoding then compares the margins"
    assert kept((0, 4, PERSON, 9.0), (0, 4, WRITER, 5.0), (0, 4, POET, 1.0)) == [2]
    starts, ends, types, margins = spans((0, 4, PERSON, 6.1), (0, 4, WRITER, 1.0))
    assert flat_spans(starts, ends, types, margins, required_margin(0.5, 4), broader=broader).tolist() == [0]


@pytest.mark.parametrize("algorithm", ["exact", "greedy"])
def test_flat_decoding_prefers_the_narrowest_type_to_the_largest_margin(algorithm):
    starts, ends, types, margins = spans((0, 4, PERSON, 9.0), (0, 4, WRITER, 1.0), (6, 9, CITY, 2.0))
    required = required_margin(0.5, 4)
    options = {"algorithm": algorithm, "broader": BROADER}
    assert flat_spans(starts, ends, types, margins, required, algorithm).tolist() == [0, 2]
    assert flat_spans(starts, ends, types, margins, required, **options).tolist() == [1, 2]
    # First, only the narrowest type of each span remains. Then overlapping spans are compared by their margins.
    starts, ends, types, margins = spans((0, 4, PERSON, 9.0), (0, 4, WRITER, 1.0), (3, 9, CITY, 2.0))
    assert flat_spans(starts, ends, types, margins, required, **options).tolist() == [2]


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(1, 4), st.integers(0, 1), st.integers(1, 20)), min_size=1, max_size=8
    )
)
@settings(deadline=None, max_examples=200)
def test_exact_decoding_is_optimal_and_both_algorithms_keep_no_overlapping_spans(items):
    rows = spans(*((start, start + length, type_id, float(weight)) for start, length, type_id, weight in items))
    starts, ends, _, weights = rows

    def legal(chosen):
        return all(ends[a] <= starts[b] or ends[b] <= starts[a] for a, b in itertools.combinations(chosen, 2))

    best = max(
        sum(weights[list(chosen)]).item() if chosen else 0.0
        for size in range(len(items) + 1)
        for chosen in itertools.combinations(range(len(items)), size)
        if legal(chosen)
    )
    exact, greedy = flat_exact(*rows).tolist(), flat_greedy(*rows).tolist()
    assert legal(exact) and legal(greedy)
    assert weights[exact].sum().item() == best
    assert weights[greedy].sum().item() <= best
    assert starts[exact].tolist() == sorted(starts[exact].tolist())


def test_deprecated_names_work_and_give_a_warning():
    with pytest.warns(FutureWarning, match="now decoding_binder.above_threshold"):
        assert decoding_binder.beating is above_threshold
    found = propose_spans(scores((0, 1, 1, 2)), WORDS, WORDS, required_margin(0.5, 1))
    with pytest.warns(FutureWarning, match="now Proposals.type_id"):
        assert torch.equal(found.type, found.type_id)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = decoding_binder.nothing_like_it
