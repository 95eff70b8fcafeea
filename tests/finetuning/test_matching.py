"""The matching of predictions and gold mentions, compared with all possible assignments."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.finetuning.matching import (
    Pair,
    match_by_label,
    match_by_span,
    maximum_matching,
    overlapping,
)
from modeling_binder.finetuning.schemes import credit

WEIGHTS = st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.integers(1, 9), max_size=16)
SPANS = st.lists(
    st.tuples(st.integers(0, 8), st.integers(1, 5), st.sampled_from("AB")).map(lambda t: (t[0], t[0] + t[1], t[2])),
    unique=True,
    max_size=5,
)


def assignments(left, right):
    """Yield all one-to-one assignments of some of `left` to some of `right`."""
    for size in range(min(len(left), len(right)) + 1):
        for chosen in itertools.combinations(left, size):
            for partners in itertools.permutations(right, size):
                yield list(zip(chosen, partners, strict=True))


@settings(max_examples=50, deadline=None)
@given(WEIGHTS)
def test_the_matching_has_the_largest_sum_of_weights(weights):
    matched = maximum_matching(weights)
    assert len(set(matched.values())) == len(matched) and set(matched.items()) <= set(weights)
    possible = (a for a in assignments(range(5), range(5)) if set(a) <= set(weights))
    best = max(sum(weights[pair] for pair in assignment) for assignment in possible)
    assert sum(weights[pair] for pair in matched.items()) == best


@settings(max_examples=50, deadline=None)
@given(SPANS, SPANS)
def test_overlapping_returns_all_pairs_with_a_common_character(gold, predicted):
    expected = {
        (i, j)
        for (i, g), (j, p) in itertools.product(enumerate(gold), enumerate(predicted))
        if g[0] < p[1] and p[0] < g[1]
    }
    found = list(overlapping(gold, predicted))
    assert set(found) == expected and len(found) == len(expected)


@settings(max_examples=50, deadline=None)
@given(SPANS, SPANS)
def test_the_matching_of_overlapping_mentions_has_the_largest_credit(gold, predicted):
    allowed = [
        [Pair(g, p) for g, p in assignment]
        for assignment in assignments(gold, predicted)
        if all(g[0] < p[1] and p[0] < g[1] for g, p in assignment)
    ]
    for scheme in ("strict", "boundary", "partial"):
        best = max(sum(credit(scheme, pair) for pair in pairs) for pairs in allowed)
        assert sum(credit(scheme, pair) for pair in match_by_span(gold, predicted)) == best
    best = max((sum(pair.same_label for pair in pairs), len(pairs)) for pairs in allowed)
    pairs = match_by_label(gold, predicted)
    assert (sum(pair.same_label for pair in pairs), len(pairs)) == best


def test_every_mention_is_matched_if_this_is_possible():
    gold, predicted = [(0, 9, "A"), (10, 19, "A")], [(4, 15, "A"), (0, 3, "A")]
    pairs = match_by_span(gold, predicted)
    assert pairs == [Pair((0, 9, "A"), (0, 3, "A")), Pair((10, 19, "A"), (4, 15, "A"))]
    assert match_by_label(gold, predicted) == pairs


def test_equal_spans_or_equal_labels_are_paired_first_and_then_near_boundaries():
    """`match_by_span` prefers equal spans, and `match_by_label` equal labels. Both then prefer near boundaries."""
    assert match_by_span([(0, 9, "A")], [(0, 9, "B"), (0, 8, "A")]) == [Pair((0, 9, "A"), (0, 9, "B"))]
    assert match_by_label([(0, 9, "A")], [(0, 9, "B"), (0, 8, "A")]) == [Pair((0, 9, "A"), (0, 8, "A"))]
    nested = [(0, 20, "A"), (0, 5, "A")]
    for match in (match_by_span, match_by_label):
        assert match(nested, [(0, 6, "A")]) == [Pair((0, 5, "A"), (0, 6, "A"))]
        assert match(nested, [(0, 16, "A")]) == [Pair((0, 20, "A"), (0, 16, "A"))]


@settings(max_examples=50, deadline=None)
@given(SPANS, SPANS, st.randoms())
def test_the_order_of_the_mentions_does_not_matter(gold, predicted, shuffle):
    shuffled = [shuffle.sample(spans, len(spans)) for spans in (gold, predicted)]
    assert match_by_span(*shuffled) == match_by_span(gold, predicted)
    assert match_by_label(*shuffled) == match_by_label(gold, predicted)


@pytest.mark.parametrize("match", [match_by_span, match_by_label])
def test_many_mentions_inside_one_long_mention_are_matched(match):
    shuffle = random.Random(1)
    gold = [(10 * i, 10 * i + shuffle.randint(3, 8), "A") for i in range(300)]
    predicted = [(start + 1, end + 1, "A") for start, end, _ in gold]
    pairs = match([*gold, (0, 4000, "A")], [*predicted, (0, 3999, "A")])
    assert len(pairs) == 301 and Pair((0, 4000, "A"), (0, 3999, "A")) in pairs
