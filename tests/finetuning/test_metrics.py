"""Metrics computed by hand, and nesting against the obvious quadratic loop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_binder.finetuning import Mention, compute_span_metrics
from modeling_binder.finetuning.metrics import has_overlap, nested_flags


def test_by_hand():
    gold = [[Mention(0, 9, "G"), Mention(0, 4, "P"), Mention(20, 25, "C")], [Mention(3, 5, "G")]]
    found = [[(0, 9, "G"), (0, 4, "G"), (20, 25, "C"), (20, 25, "C")], []]
    metrics = compute_span_metrics(gold, found, ["G", "P", "C", "unused"])
    assert (metrics.micro.correct, metrics.micro.predicted, metrics.micro.gold) == (2, 3, 4)
    assert metrics.micro.precision == pytest.approx(2 / 3) and metrics.micro.recall == 0.5
    assert metrics.micro.f1 == pytest.approx(4 / 7)
    assert [metrics.per_type[label].f1 for label in ("G", "P", "C", "unused")] == [0.5, 0.0, 1.0, 0.0]
    assert metrics.macro_f1 == pytest.approx(0.5)  # three types occur
    # nested gold: (0, 9, G) and (0, 4, P), one of them found; nested predictions: (0, 9, G) and (0, 4, G), one right
    assert (metrics.nested.gold, metrics.nested.predicted, metrics.nested.correct, metrics.nested.found) == (2, 2, 1, 1)
    assert metrics.to_dict()["micro"]["f1"] == metrics.micro.f1
    table = metrics.table()
    assert "66.67" in table and "57.14" in table and table.splitlines()[-1].startswith("nested")


def test_nothing_at_all():
    metrics = compute_span_metrics([[]], [[]], ["G"])
    assert metrics.micro.f1 == metrics.macro_f1 == metrics.nested.f1 == 0.0
    assert compute_span_metrics([], [], []).table()


def test_documents_must_match():
    with pytest.raises(ValueError, match="1 documents with gold mentions and 2 with predictions"):
        compute_span_metrics([[]], [[], []], ["G"])


SPANS = st.lists(
    st.tuples(st.integers(0, 8), st.integers(1, 5), st.sampled_from("AB")).map(lambda t: (t[0], t[0] + t[1], t[2])),
    unique=True,
    max_size=8,
)


@given(SPANS)
def test_nesting_is_the_quadratic_loops(spans):
    def inside(a, b):
        return a != b and b[0] <= a[0] and a[1] <= b[1]

    expected = [any(inside(a, b) or inside(b, a) for b in spans) for a in spans]
    assert nested_flags(spans) == expected
    overlap = any(a[0] < b[1] and b[0] < a[1] for i, a in enumerate(spans) for b in spans[:i])
    assert has_overlap(spans) == overlap
