"""Evaluation of a checkpoint with its types, with other types, and with other settings."""

import pytest
from transformers import pipeline

from modeling_binder.finetuning import DataError, Document, Mention, evaluate
from modeling_binder.finetuning.evaluation import with_predictions
from tests.tiny import TYPES, corpus, keys


def test_predictions_are_scored_and_can_replace_gold_mentions(checkpoint):
    documents = corpus(1)
    metrics, predictions = evaluate(checkpoint, documents)
    found = with_predictions(documents, predictions)
    assert [document.text for document in found] == [document.text for document in documents]
    assert sum(len(document.entities) for document in found) == metrics.micro.predicted > 0
    assert set(predictions[0][0]) == {"start", "end", "label", "score"}
    again, _ = evaluate(checkpoint, found)
    assert again.micro.f1 == 1.0


def test_types_and_settings_of_the_checkpoint_can_be_replaced(checkpoint):
    documents = [Document("a", "the gene of cells", (Mention(4, 8, "Protein"),))]
    with pytest.raises(DataError, match="'Protein'"):
        evaluate(checkpoint, documents)
    types = {"Protein": TYPES["Gene"]}
    metrics, predictions = evaluate(checkpoint, documents, entity_types=types, decoding="flat", inference="joint")
    assert list(metrics.per_type) == ["Protein"] and metrics.nested.predicted == 0
    assert {entity["label"] for entities in predictions for entity in entities} <= {"Protein"}


def test_a_shorter_window_reduces_the_default_stride(checkpoint):
    documents = [Document("a", "the gene of cells " * 6)]
    metrics, _ = evaluate(
        checkpoint, documents, max_length=12
    )  # the stride of the checkpoint, 16, is too large for this length
    assert metrics.micro.predicted > 0
    with pytest.raises(ValueError, match="stride must be at least 0 and less than max_length"):
        evaluate(checkpoint, documents, max_length=12, stride=12)


def test_evaluation_and_pipeline_use_the_same_windows(checkpoint):
    documents = [Document("a", "the gene of cells " * 12)]
    pipe = pipeline("binder-ner", model=str(checkpoint))
    for settings in ({"max_length": 12}, {"max_length": 40}, {"stride": 3}):
        _, (found,) = evaluate(checkpoint, documents, **settings)
        expected = pipe(documents[0].text, **settings)
        assert sorted((e["label"], e["start"], e["end"]) for e in found) == sorted(keys(expected))
    with pytest.raises(ValueError, match="max_length=4096 is more than the 128 tokens"):
        evaluate(checkpoint, documents, max_length=4096)


@pytest.mark.parametrize(
    "settings", [{"decoding": "both"}, {"inference": "all"}, {"max_length": 0}, {"entity_types": {"Gene": " "}}]
)
def test_invalid_settings_raise_an_error(settings, checkpoint):
    with pytest.raises(ValueError, match=next(iter(settings))):
        evaluate(checkpoint, corpus(1), **settings)
