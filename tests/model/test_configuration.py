"""Tests of the configuration: invalid values, saving and loading, entity types, labels and thresholds."""

from decimal import Decimal

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

from modeling_binder import BinderConfig
from tests.tiny import TYPES, build_pipeline, tiny_encoder_config

ENCODER = tiny_encoder_config().to_dict()


def build(**options):
    return BinderConfig(text_config=ENCODER, **options)


def typed(**parents):
    """Return entity types with these parents, in the format of the configuration."""
    return [{"name": name, "description": f"a {name}", "parent": parent} for name, parent in parents.items()]


def test_a_configuration_is_the_same_after_saving_and_loading(tmp_path):
    types = [{"name": name, "description": text} for name, text in TYPES.items()]
    config = build(entity_types=types, decoding="flat", inference="joint", max_length=128, stride=16, my_note="kept")
    config.save_pretrained(tmp_path)
    again = BinderConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.my_note == "kept"
    assert again.type_descriptions == TYPES
    assert again.text_config.hidden_size == again.type_config.hidden_size == 32


def test_shared_encoders_have_no_type_config():
    assert build(share_encoders=True).type_config is None
    assert build().type_config.hidden_size == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 256}, r"stride=256 and max_length=256.*Try stride=32"),
        ({"stride": -1}, "stride must be at least 0"),
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"max_span_width": 0}, "max_span_width must be at least 1"),
        ({"projection_size": -3}, "projection_size must be at least 1"),
        ({"projection_dropout": 1.0}, "projection_dropout"),
        ({"init_temperature": 0.0}, "init_temperature must be positive"),
        ({"span_loss_weight": -0.1}, "span_loss_weight must not be negative"),
        ({"entity_types": [{"name": "A"}]}, r"entity_types\[0\] must be"),
        ({"entity_types": [{"name": "A", "description": " "}]}, r"entity_types\[0\]: description must be a text"),
        ({"entity_types": [{"name": "A", "description": "a"}] * 2}, "'A' appears twice"),
        ({"entity_types": typed(A="B")}, "entity_types: the parent of 'A' is 'B', which is not an entity type"),
        ({"entity_types": typed(A="A")}, "entity_types: the entity type 'A' is its own ancestor: A -> A"),
        ({"entity_types": typed(A="B", B="C", C="B")}, "'B' is its own ancestor: A -> B -> C -> B"),
        ({"entity_types": typed(A=3)}, "the parent of 'A' must be the name of a type, got 3"),
        (
            {"entity_types": typed(A=None), "thresholds": {"B": 0.5}},
            "thresholds has the key 'B', .* The types of the model are A",
        ),
        ({"thresholds": {"B": 0.5}}, "thresholds has the key 'B', .* The types of the model are not given"),
        ({"entity_types": typed(A=None), "thresholds": {"A": 1.5}}, "threshold of 'A' must lie between 0 and 1"),
        ({"entity_types": typed(A=None), "thresholds": {"A": float("nan")}}, "must lie between 0 and 1, got nan"),
        ({"entity_types": typed(A=None), "thresholds": {"A": "0.5"}}, "must lie between 0 and 1, got '0.5'"),
        ({"entity_types": typed(A=None), "thresholds": {"A": True}}, "must lie between 0 and 1, got True"),
        ({"breadth_margin": -1.0}, "breadth_margin must be at least 0"),
        ({"breadth_margin": float("inf")}, "breadth_margin must be at least 0"),
        ({"breadth_margin": float("nan")}, "breadth_margin must be at least 0"),
        ({"breadth_tolerance": -1.0}, "breadth_tolerance must be at least 0, or None"),
        ({"breadth_tolerance": float("inf")}, "breadth_tolerance must be at least 0, or None"),
    ],
)
def test_values_outside_their_range_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize(
    "options", [{"decoding": "sideways"}, {"inference": "both"}, {"max_length": "long"}, {"entity_types": "Gene"}]
)
def test_values_of_a_wrong_type_are_rejected(options):
    with pytest.raises(Exception, match=next(iter(options))):
        build(**options)


def test_custom_pipelines_is_saved_but_is_not_an_attribute(tmp_path):
    config = build()
    assert not hasattr(config, "custom_pipelines")
    assert config.to_dict()["custom_pipelines"]["binder-ner"]["pt"] == ["AutoModel"]
    config.save_pretrained(tmp_path)
    assert not hasattr(BinderConfig.from_pretrained(tmp_path), "custom_pipelines")


def test_labels_are_the_names_of_the_entity_types(tmp_path):
    types = [{"name": name, "description": text} for name, text in TYPES.items()]
    config = build(entity_types=types, id2label={0: "LABEL_0", 1: "LABEL_1"})
    assert config.id2label == {0: "Gene", 1: "Cell", 2: "Place"} and config.num_labels == 3
    assert config.label2id == {"Gene": 0, "Cell": 1, "Place": 2}
    config.entity_types = types[1:]
    assert config.id2label == {0: "Cell", 1: "Place"}
    config.save_pretrained(tmp_path)
    again = BinderConfig.from_pretrained(tmp_path)
    assert again.id2label == {0: "Cell", 1: "Place"} and again.label2id == {"Cell": 0, "Place": 1}
    with pytest.raises(ValueError, match="'Cell' appears twice"):
        config.entity_types = [types[1], types[1]]


def test_labels_change_if_entity_types_are_added_or_removed(tmp_path):
    config = build(entity_types=typed(Gene=None))
    config.entity_types.append({"name": "Cell", "description": "A cell."})
    assert config.to_dict()["id2label"] == {0: "Gene", 1: "Cell"}
    for nothing in (None, []):
        config.entity_types = typed(Gene=None)
        config.entity_types = nothing
        assert config.id2label == build().id2label and config.label2id == build().label2id


def swap(types):
    types[0], types[1] = types[1], types[0]


@pytest.mark.parametrize(
    "edit",
    [swap, lambda types: types.pop(), lambda types: types.append(typed(New=None)[0]), lambda types: types.clear()],
    ids=["swap", "pop", "append", "clear"],
)
def test_changing_frozen_types_in_place_is_rejected(edit, tmp_path):
    """A frozen checkpoint stores the vectors of its types, which would not match other types."""
    pipe = build_pipeline()
    pipe.model.freeze_types(pipe.tokenizer)
    config = pipe.model.config
    edit(config.entity_types)
    for use in (lambda: pipe("the gene"), lambda: config.save_pretrained(tmp_path)):
        with pytest.raises(
            (ValueError, StrictDataclassClassValidationError),
            match="entity_types cannot change, because the checkpoint",
        ):
            use()
    with pytest.raises(ValueError, match="entity_types cannot change"):
        config.entity_types = config.entity_types
    assert config.type_descriptions == TYPES


@pytest.mark.parametrize(
    ("added", "message"),
    [("New", "must be {'name'"), ({"name": "New"}, "must be {'name'"), (typed(Gene=None)[0], "'Gene' appears twice")],
    ids=["no dictionary", "no description", "twice"],
)
def test_adding_invalid_types_in_place_is_rejected(added, message):
    pipe = build_pipeline()
    pipe.model.config.entity_types.append(added)
    with pytest.raises(ValueError, match=message):
        pipe("the gene")


def test_changes_of_types_in_place_take_effect():
    pipe = build_pipeline()
    config = pipe.model.config
    config.thresholds = {"Gene": 0.25}
    config.entity_types[0]["name"] = "Protein"
    pipe("the gene")
    assert config.id2label[0] == "Protein" and config.thresholds is None
    assert "_accepted_types" not in config.to_dict()


def test_a_value_that_is_rejected_changes_nothing():
    config = build(entity_types=typed(Gene=None), thresholds={"Gene": 0.5})
    for bad in ([{"name": "Cell"}], typed(Cell="Organ")):
        with pytest.raises(ValueError):
            config.entity_types = bad
    with pytest.raises(ValueError):
        config.thresholds = {"Gene": 2}
    assert config.type_parents == {"Gene": None} and config.thresholds == {"Gene": 0.5}


@pytest.mark.parametrize("number", [np.float32(0.25), Decimal("0.25"), torch.tensor(0.25)], ids=str)
def test_thresholds_may_be_numbers_of_any_kind(number, tmp_path):
    config = build(entity_types=typed(Gene=None), thresholds={"Gene": number})
    config.save_pretrained(tmp_path)
    assert BinderConfig.from_pretrained(tmp_path).thresholds == {"Gene": 0.25}


def test_parents_and_thresholds_are_saved(tmp_path):
    config = build(
        entity_types=typed(Person=None, Writer="Person", Poet="Writer"), thresholds={"Poet": 0.25, "Writer": 1}
    )
    config.save_pretrained(tmp_path)
    again = BinderConfig.from_pretrained(tmp_path)
    assert again.type_parents == {"Person": None, "Writer": "Person", "Poet": "Writer"}
    assert again.thresholds == {"Poet": 0.25, "Writer": 1}
    again.entity_types = typed(Person=None, Poet="Person")
    assert again.thresholds == {"Poet": 0.25}, "the threshold of a removed type is dropped"
    with pytest.raises(ValueError, match="thresholds has the key 'Writer'"):
        again.thresholds = {"Writer": 0.5}
    again.entity_types = typed(Person=None)
    assert again.thresholds is None
