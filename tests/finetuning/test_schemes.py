"""The four evaluation schemes of SemEval-2013: strict, boundary, partial and type.

Scores are compared with examples computed by hand and with the scores of the other schemes.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.finetuning import Document, Mention, compute_scheme_metrics, compute_span_metrics
from modeling_binder.finetuning.schemes import SCHEMES, document_counts
from modeling_binder.finetuning.scores import Score, mentions_of

SPANS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 6), st.sampled_from("ABC")).map(lambda t: (t[0], t[0] + t[1], t[2])),
    max_size=7,
)
DOCUMENTS = st.lists(st.tuples(SPANS, SPANS), max_size=4)

# There is one document for each of the six scenarios. They are numbered as in the documentation of nervaluate.
GOLD = [
    [(0, 7, "DRUG")],  # I: a correct prediction
    [],  # II: a spurious prediction
    [(0, 8, "BRAND")],  # III: a missed mention
    [(0, 11, "DRUG")],  # IV: a prediction with another type
    [(3, 11, "DRUG")],  # V: a prediction with other boundaries
    [(5, 19, "GROUP")],  # VI: a prediction with another type and other boundaries
]
PREDICTED = [[(0, 7, "DRUG")], [(0, 7, "BRAND")], [], [(0, 11, "BRAND")], [(0, 11, "DRUG")], [(0, 19, "DRUG")]]


@pytest.mark.parametrize(
    ("scheme", "outcomes", "credit"),
    [  # the outcomes are the numbers of correct, incorrect, partial, missed and spurious mentions
        ("strict", (1, 3, 0, 1, 1), 1),
        ("boundary", (2, 2, 0, 1, 1), 2),
        ("partial", (2, 0, 2, 1, 1), 3),
        ("type", (2, 2, 0, 1, 1), 2),
    ],
)
def test_the_six_scenarios_of_semeval_have_the_expected_outcomes(scheme, outcomes, credit):
    scores = getattr(compute_scheme_metrics(GOLD, PREDICTED), scheme)
    counts = scores.outcomes
    assert (counts.correct, counts.incorrect, counts.partial, counts.missed, counts.spurious) == outcomes
    assert scores.micro == Score(correct=credit, predicted=5, gold=5, found=credit)
    assert scores.micro.precision == scores.micro.recall == credit / 5
    assert scores.micro.f1 == pytest.approx(credit / 5)


def test_scores_per_type_count_the_mentions_of_this_type():
    """Recall of a type counts the gold mentions of this type, and precision counts the predictions of this type.

    This matters in schemes that ignore types, where a prediction may have another type than its gold mention.
    """
    metrics = compute_scheme_metrics(GOLD, PREDICTED, ["DRUG", "unused"])
    assert list(metrics.partial.per_type) == ["DRUG", "unused", "BRAND", "GROUP"]
    # DRUG has 3 gold mentions: I and IV count 1 each, and V counts 1/2.
    # DRUG has 3 predictions: I counts 1, and V and VI count 1/2 each.
    drug = metrics.partial.per_type["DRUG"]
    assert (drug.found, drug.gold, drug.correct, drug.predicted) == (2.5, 3, 2.0, 3)
    group = metrics.partial.per_type["GROUP"]
    assert (group.found, group.gold, group.correct, group.predicted) == (0.5, 1, 0, 0)
    assert metrics.type.per_type["DRUG"].found == metrics.type.per_type["DRUG"].correct == 2
    # The means are over DRUG, BRAND and GROUP. The gold mention of BRAND is missed. One of the two predictions of BRAND
    # has a correct span.
    assert metrics.boundary.macro_recall == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert metrics.boundary.macro_precision == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)


def test_one_prediction_is_correct_for_one_mention_only():
    metrics = compute_scheme_metrics([[(0, 4, "A"), (5, 9, "A")]], [[(0, 9, "A")]])
    assert metrics.type.micro.correct == 1 and metrics.type.outcomes.missed == 1
    assert metrics.partial.micro.correct == 0.5 and metrics.partial.micro.recall == 0.25


@settings(max_examples=50, deadline=None)
@given(DOCUMENTS)
def test_stricter_schemes_have_lower_scores_and_every_scheme_counts_all_mentions(documents):
    gold, predicted = [g for g, _ in documents], [p for _, p in documents]
    metrics = compute_scheme_metrics(gold, predicted)
    exact = compute_span_metrics(gold, predicted)
    assert metrics.strict.micro == exact.micro and metrics.strict.per_type == exact.per_type
    assert metrics.strict.macro_f1 == exact.macro_f1
    f1 = {scheme: getattr(metrics, scheme).micro.f1 for scheme in SCHEMES}
    assert f1["strict"] <= f1["boundary"] <= f1["partial"] <= 1 and f1["strict"] <= f1["type"] <= 1
    for scheme in SCHEMES:
        scores = getattr(metrics, scheme)
        n = scores.outcomes
        assert n.correct + n.incorrect + n.partial + n.missed == exact.micro.gold
        assert n.correct + n.incorrect + n.partial + n.spurious == exact.micro.predicted
        assert sum(score.found for score in scores.per_type.values()) == scores.micro.correct
        counts = document_counts(mentions_of(gold, "gold"), mentions_of(predicted, "predicted"), scheme)
        assert counts.sum(0).tolist() == [scores.micro.correct, scores.micro.predicted, scores.micro.gold]
    mirrored = compute_scheme_metrics(predicted, gold)
    for scheme in SCHEMES:
        assert getattr(mirrored, scheme).micro.correct == getattr(metrics, scheme).micro.correct


@settings(max_examples=50, deadline=None)
@given(DOCUMENTS)
def test_perfect_predictions_have_no_errors(documents):
    gold = [g for g, _ in documents]
    metrics = compute_scheme_metrics(gold, gold)
    for scheme in SCHEMES:
        scores = getattr(metrics, scheme)
        assert scores.micro.correct == scores.outcomes.correct == scores.micro.gold
        assert scores.outcomes.incorrect == scores.outcomes.missed == scores.outcomes.spurious == 0


def test_all_formats_of_predictions_give_the_same_scores():
    gold = [Document("a", "the IL-2 gene", (Mention(4, 8, "gene"),))]
    formats = [
        [[Mention(4, 8, "gene")]],
        [[(4, 8, "gene")]],
        [[{"start": 4, "end": 8, "label": "gene"}]],
        [[{"start": 4, "end": 8, "entity_group": "gene", "score": 0.7, "word": "IL-2"}]],
        [{"id": "a", "text": "the IL-2 gene", "entities": [{"start": 4, "end": 8, "label": "gene"}]}],
        gold,
    ]
    for predicted in formats:
        assert compute_scheme_metrics(gold, predicted).strict.micro.f1 == 1.0
        assert compute_span_metrics(gold, predicted).micro.f1 == 1.0


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        ([{"start": 4, "end": 8, "label": "gene"}], r"predicted\[0\] is one mention, .* \[mentions\]"),
        ([(4, 8, "gene")], r"predicted\[0\] is one mention"),
        ([Mention(4, 8, "gene")], r"predicted\[0\] is one mention"),
        ([[{"start": 4, "end": 8, "entity": "gene"}]], r"predicted\[0\]\[0\] is .*'entity_group' is accepted instead"),
        ([[(4, 8)]], r"predicted\[0\]\[0\] is \(4, 8\); expected"),
        ([[{"start": 4.0, "end": 8, "label": "gene"}]], "with integer offsets"),
        ([[(4, 4, "gene")]], r"spans 4\.\.4 \('gene'\); expected 0 <= start < end, because the end is exclusive"),
        ([[(-1, 4, "gene")]], "0 <= start"),
        (["gene"], r"predicted\[0\] is 'gene'; expected a list of mentions"),
        ([{"text": "gene"}], "a dictionary with 'entities'"),
        ([3], "expected a list of mentions"),
    ],
)
def test_malformed_predictions_raise_an_error(predicted, message):
    with pytest.raises(ValueError, match=message):
        compute_scheme_metrics([[]], predicted)
    with pytest.raises(ValueError, match=message):
        compute_span_metrics([[]], predicted, [])


def test_the_result_can_be_written_as_json_and_printed():
    metrics = compute_scheme_metrics(GOLD, PREDICTED)
    written = metrics.to_dict()
    assert json.loads(json.dumps(written)) == written
    assert list(written) == list(SCHEMES)
    assert written["partial"]["micro"]["f1"] == metrics.partial.micro.f1
    assert written["partial"]["outcomes"]["spurious"] == 1
    header, *rows = metrics.table().splitlines()
    assert header.split()[-5:] == ["correct", "incorrect", "partial", "missed", "spurious"]
    assert rows[2].split() == ["partial", "60.00", "60.00", "60.00", "24.69", "2", "0", "2", "1", "1"]
    assert len({len(row) for row in (header, *rows)}) == 1
