"""Tests of the thresholds and temperatures in a checkpoint: the types that have them, and their effect."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import pipeline

from modeling_binder import BinderConfig, BinderNerPipeline
from modeling_binder.decoding_binder import probability
from modeling_binder.finetuning import evaluate
from modeling_binder.thresholds_binder import required_margins, type_temperatures, type_thresholds
from modeling_binder.types_binder import EntityType
from tests.tiny import TYPES, build_model, build_pipeline, build_tokenizer, corpus, keys

TEXT = "the IL-2 gene promoter of cells"
CALLED = [EntityType("gene", TYPES["Gene"], own_label="Gene"), EntityType("Cell", "a prison"), EntityType("Drug", "d")]


def config(**fields):
    return BinderConfig(entity_types=[{"name": name, "description": text} for name, text in TYPES.items()], **fields)


def test_own_types_have_tuned_values_and_other_types_have_defaults():
    tuned = config(
        thresholds={"Gene": 0.7, "Cell": 0.2},
        default_threshold=0.4,
        temperatures={"Gene": 2.0, "Cell": 5.0},
        default_temperature=0.5,
    )
    assert type_thresholds(tuned, CALLED) == [0.7, 0.4, 0.4]
    assert type_temperatures(tuned, CALLED).tolist() == [2.0, 0.5, 0.5]
    logits = [torch.logit(torch.tensor(p, dtype=torch.float64)).item() for p in (0.7, 0.4)]
    assert required_margins(tuned, CALLED).tolist() == pytest.approx([2 * logits[0], logits[1] / 2, logits[1] / 2])
    assert type_thresholds(tuned, CALLED, {"Drug": 0.9}) == [0.7, 0.4, 0.9]
    assert required_margins(tuned, CALLED, 0.5).tolist() == [0, 0, 0], "0.5 is the dynamic threshold"
    assert required_margins(tuned, CALLED, 1).tolist() == [float("inf")] * 3
    assert type_temperatures(config(), CALLED) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"default_threshold": 1.5}, "default_threshold must lie between 0 and 1, got 1.5"),
        ({"default_temperature": 0.0}, "default_temperature must be positive, got 0.0"),
        ({"default_temperature": float("nan")}, "default_temperature must be positive, got nan"),
        ({"temperatures": {"Gene": 0}}, "temperature of 'Gene' must be positive, got 0"),
        ({"temperatures": {"Gene": True}}, "temperature of 'Gene' must be positive, got True"),
        ({"temperatures": {"Drug": 1.0}}, "temperatures has the key 'Drug', which is not an entity type"),
    ],
)
def test_invalid_values_raise_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)


def test_thresholds_and_temperatures_are_saved(tmp_path):
    tuned = config(thresholds={"Gene": 0.7}, default_threshold=0.4, temperatures={"Gene": 2.0}, default_temperature=1.5)
    tuned.save_pretrained(tmp_path)
    again = BinderConfig.from_pretrained(tmp_path)
    for name in ("thresholds", "default_threshold", "temperatures", "default_temperature"):
        assert getattr(again, name) == getattr(tuned, name)
    again.entity_types = again.entity_types[1:]
    assert again.thresholds is None and again.temperatures is None, "the values of removed types are dropped"


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8),
    st.lists(st.floats(0.1, 10), min_size=8, max_size=8),
)
def test_a_temperature_does_not_change_which_scores_exceed_one_half(margins, temperatures):
    margin = torch.tensor(margins)
    temperature = torch.tensor(temperatures[: len(margins)], dtype=torch.float64)
    plain, calibrated = probability(margin), probability(margin, temperature)
    assert ((plain > 0.5) == (margin > 0)).all() and ((calibrated > 0.5) == (margin > 0)).all()
    assert torch.equal(probability(margin, torch.ones_like(temperature)), plain), "a temperature of 1 changes nothing"


@pytest.mark.parametrize("decoding", ["nested", "flat"])
def test_temperatures_change_only_scores(decoding):
    plain = build_pipeline(decoding=decoding)(TEXT)
    fields = {"temperatures": {"Gene": 3.0, "Cell": 0.5}, "default_temperature": 2.0}
    pipe = build_pipeline(decoding=decoding, **fields)
    found = pipe(TEXT)
    assert keys(found) == keys(plain) and len(found) > 1
    for one, two in zip(plain, found, strict=True):
        temperature = {"Gene": 3.0, "Cell": 0.5, "Place": 2.0}[one["entity_group"]]
        margins = torch.logit(torch.tensor([one["score"], two["score"]], dtype=torch.float64))
        assert margins[1].item() == pytest.approx(margins[0].item() / temperature, rel=1e-4)
    if decoding == "nested":
        assert keys(pipe(TEXT, threshold=0.7)) == keys([e for e in found if e["score"] > 0.7]), "calibrated scores"


def test_the_default_threshold_applies_to_types_given_at_call_time():
    pipe, types = build_pipeline(default_threshold=0.8), {"Drug": "A chemical that heals.", "Gene": TYPES["Gene"]}
    everything = pipe(TEXT, entity_types=types, threshold=0.5)
    found = pipe(TEXT, entity_types=types)
    assert keys(found) == keys([e for e in everything if e["score"] > 0.8])
    assert 0 < len(found) < len(everything)


@pytest.mark.parametrize("types", [None, {"gene": TYPES["Gene"], "Cell": "A small room.", "Place": TYPES["Place"]}])
def test_evaluation_and_pipeline_find_the_same_entities(tmp_path, types):
    model = build_model(
        thresholds={"Gene": 0.7, "Cell": 0.9, "Place": 0.3}, default_threshold=0.45, temperatures={"Gene": 2.0}
    )
    model.save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    documents = [{"text": document.text, "entities": []} for document in corpus(1)]
    _, predictions = evaluate(tmp_path, documents, entity_types=types)
    pipe = BinderNerPipeline(model=model, tokenizer=build_tokenizer(), device="cpu")
    found = pipe([document["text"] for document in documents], entity_types=types)
    for one, two in zip(predictions, found, strict=True):
        assert sorted((e["label"], e["start"], e["end"]) for e in one) == sorted(keys(two))
    scores = [e["score"] for entities in predictions for e in sorted(entities, key=lambda e: (e["start"], e["end"]))]
    assert len(scores) > 3 and min(scores) > 0.3


@pytest.mark.parametrize("threshold", [7, {"Gene": -1}])
def test_an_invalid_threshold_is_rejected_before_the_first_call(threshold):
    with pytest.raises(ValueError, match="between 0 and 1"):
        pipeline("binder-ner", model=build_model(), tokenizer=build_tokenizer(), threshold=threshold)
