"""Span metrics, compared with examples computed by hand.

The detection of nested mentions is compared with a loop over all pairs of mentions.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_binder.finetuning import Mention, compute_span_metrics
from modeling_binder.finetuning.metrics import has_overlap, nested_flags


def test_metrics_equal_an_example_computed_by_hand():
    gold = [[Mention(0, 9, "G"), Mention(0, 4, "P"), Mention(20, 25, "C")], [Mention(3, 5, "G")]]
    found = [[(0, 9, "G"), (0, 4, "G"), (20, 25, "C"), (20, 25, "C")], []]
    metrics = compute_span_metrics(gold, found, ["G", "P", "C", "unused"])
    assert (metrics.micro.correct, metrics.micro.predicted, metrics.micro.gold) == (2, 3, 4)
    assert metrics.micro.precision == pytest.approx(2 / 3) and metrics.micro.recall == 0.5
    assert metrics.micro.f1 == pytest.approx(4 / 7)
    assert [metrics.per_type[label].f1 for label in ("G", "P", "C", "unused")] == [0.5, 0.0, 1.0, 0.0]
    assert metrics.macro_f1 == pytest.approx(0.5)  # the mean over the three types that occur
    # The nested gold mentions are (0, 9, G), which is predicted, and (0, 4, P). The nested predictions are (0, 9, G),
    # which is correct, and (0, 4, G).
    assert (metrics.nested.gold, metrics.nested.predicted, metrics.nested.correct, metrics.nested.found) == (2, 2, 1, 1)
    # The means are over G (precision 1/2, recall 1/1), P (0, 0) and C (1/1, 1/1).
    assert metrics.macro_precision == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert metrics.macro_recall == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert json.loads(json.dumps(metrics.to_dict())) == metrics.to_dict()
    assert metrics.to_dict()["micro"]["f1"] == metrics.micro.f1
    table = metrics.table()
    assert "66.67" in table and "57.14" in table and table.splitlines()[-1].startswith("nested")
    assert len({len(row) for row in table.splitlines()}) == 1


def test_nested_precision_and_recall_count_different_mentions():
    """A correct prediction can be nested with another gold mention but not with another prediction, or vice versa."""
    gold, found = [[(0, 9, "G"), (0, 4, "G"), (20, 25, "G")]], [[(0, 9, "G"), (20, 25, "G"), (21, 24, "G")]]
    nested = compute_span_metrics(gold, found, ["G"]).nested
    assert (nested.correct, nested.predicted, nested.found, nested.gold) == (1, 2, 1, 2)
    nested = compute_span_metrics(gold, [[(0, 9, "G")]], ["G"]).nested
    assert (nested.precision, nested.recall, nested.f1) == (0.0, 0.5, 0.0)
    assert (nested.correct, nested.predicted, nested.found, nested.gold) == (0, 0, 1, 2)


def test_a_mention_in_another_document_is_not_correct():
    metrics = compute_span_metrics([[(0, 1, "G")], []], [[], [(0, 1, "G")]], ["G"])
    assert metrics.micro.correct == 0


@pytest.mark.parametrize(
    ("spans", "flags", "overlap"),
    [
        ([], [], False),
        ([(0, 4, "A")], [False], False),
        ([(0, 4, "A"), (4, 8, "A")], [False, False], False),  # adjacent spans
        ([(0, 4, "A"), (2, 8, "A")], [False, False], True),  # crossing spans
        ([(0, 4, "A"), (0, 4, "B")], [True, True], True),  # two types on one span
        ([(0, 4, "A"), (0, 4, "A")], [False, False], False),  # the same mention
        ([(2, 3, "A"), (0, 4, "A"), (5, 6, "A")], [True, True, False], True),
    ],
)
def test_nested_and_overlapping_mentions_are_detected(spans, flags, overlap):
    assert nested_flags(spans) == flags
    assert has_overlap(spans) == overlap
    assert nested_flags([Mention(*span) for span in spans]) == flags


def test_nested_mentions_are_detected_fast_among_many_mentions():
    count = 100_000  # a loop over all pairs would take hours
    spans = [(2 * i, 2 * i + 1, "A") for i in range(count)]
    assert not any(nested_flags(spans))
    assert all(nested_flags([*spans, (0, 2 * count, "A")]))


def test_metrics_without_mentions_or_documents_are_zero():
    metrics = compute_span_metrics([[]], [[]], ["G"])
    assert metrics.micro.f1 == metrics.macro_f1 == metrics.nested.f1 == 0.0
    assert compute_span_metrics([], [], []).table()


def test_numbers_of_documents_must_match():
    with pytest.raises(ValueError, match="1 documents with gold mentions and 2 with predictions"):
        compute_span_metrics([[]], [[], []], ["G"])


SPANS = st.lists(
    st.tuples(st.integers(0, 8), st.integers(1, 5), st.sampled_from("AB")).map(lambda t: (t[0], t[0] + t[1], t[2])),
    unique=True,
    max_size=8,
)


@given(SPANS)
def test_nested_mentions_equal_the_result_of_a_loop_over_all_pairs(spans):
    def inside(a, b):
        return a != b and b[0] <= a[0] and a[1] <= b[1]

    expected = [any(inside(a, b) or inside(b, a) for b in spans) for a in spans]
    assert nested_flags(spans) == expected
    overlap = any(a[0] < b[1] and b[0] < a[1] for i, a in enumerate(spans) for b in spans[:i])
    assert has_overlap(spans) == overlap
