"""Tests of broader types: by parents, by the breadths that a network computes, and in saved checkpoints."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModel, pipeline

from modeling_binder.breadth_binder import BreadthNetwork, broader_types
from modeling_binder.configuration_binder import ancestors
from tests.tiny import TYPES, build_model

PEOPLE = {"person": None, "politician": "person", "mayor": "politician", "city": None}
DESCRIPTIONS = ["A region of DNA that codes for a protein.", "A city.", "A person who writes.", "A cell line."]


def pairs(labels, broader):
    """Return the pairs (broader type, narrower type) in a result of `broader_types`."""
    if broader is None:
        return set()
    labels = list(labels)
    assert broader.dtype == torch.float64 and broader.shape == (len(labels), len(labels))
    return {(labels[row], labels[column]) for row, column in (broader > -torch.inf).nonzero().tolist()}


def test_a_type_is_broader_than_all_its_descendants():
    assert pairs(PEOPLE, broader_types(PEOPLE)) == {
        ("person", "politician"),
        ("person", "mayor"),
        ("politician", "mayor"),
    }


def test_no_type_is_broader_if_there_are_no_parents_and_no_breadths():
    assert broader_types(dict.fromkeys("abc")) is None
    assert broader_types({}) is None
    assert broader_types(dict.fromkeys("ab"), torch.tensor([1.0, 1.5]), 0.5) is None, (
        "the breadths differ by no more than the margin"
    )


def test_breadths_decide_if_they_differ_by_more_than_the_margin():
    breadths = torch.tensor([16.0, 13.0, 12.0, 5.0])
    labels = dict.fromkeys(["person", "university", "politician", "enzyme"])
    assert pairs(labels, broader_types(labels, breadths, 3.5)) == {
        ("person", "politician"),
        ("person", "enzyme"),
        ("university", "enzyme"),
        ("politician", "enzyme"),
    }


def test_the_tolerance_applies_only_to_types_that_are_broader_by_their_breadths():
    parents = {"person": None, "politician": "person", "city": None}
    leads = broader_types(parents, torch.tensor([9.0, 5.0, 1.0]), 1.0, tolerance=4.0)
    infinity = float("inf")
    assert leads.tolist() == [[-infinity, infinity, 4], [-infinity, -infinity, 4], [-infinity] * 3]
    assert broader_types(parents, torch.tensor([9.0, 5.0, 1.0]), 1.0)[0].tolist() == [-infinity, infinity, infinity]


def test_types_of_the_same_hierarchy_are_not_compared_by_breadth():
    breadths = torch.tensor([1.0, 9.0, 5.0, 20.0])  # the breadth of politician is larger than the breadth of person
    parents = {"person": None, "politician": "person", "writer": "person", "city": None}
    assert pairs(parents, broader_types(parents, breadths, 1.0)) == {
        ("person", "politician"),
        ("person", "writer"),
        ("city", "person"),
        ("city", "politician"),
        ("city", "writer"),
    }


def test_an_ancestor_is_at_least_as_broad_as_its_descendants():
    parents = {"person": None, "politician": "person", "city": None}
    found = pairs(parents, broader_types(parents, torch.tensor([1.0, 9.0, 5.0]), 1.0))
    assert found == {("person", "politician"), ("person", "city"), ("politician", "city")}


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_no_type_is_broader_than_itself_through_other_types(data):
    count = data.draw(st.integers(1, 7))
    parents = {"0": None}
    for index in range(1, count):
        parents[str(index)] = data.draw(st.sampled_from([None, None, *(str(lower) for lower in range(index))]))
    breadths = torch.tensor(data.draw(st.lists(st.integers(0, 6), min_size=count, max_size=count)), dtype=torch.float)
    broader = broader_types(parents, breadths, data.draw(st.sampled_from([0.0, 1.0, 2.5])))
    related = set() if broader is None else {tuple(pair) for pair in (broader > -torch.inf).nonzero().tolist()}
    for line in itertools.chain(*(itertools.permutations(range(count), size) for size in range(1, min(count, 4) + 1))):
        closed = zip(line, (*line[1:], line[0]), strict=True)
        assert not all(pair in related for pair in closed), line


def test_invalid_parents_are_rejected():
    assert ancestors("mayor", PEOPLE) == ["politician", "person"]
    with pytest.raises(ValueError, match="the parent of 'mayor' is 'official', which is not an entity type; add it"):
        broader_types({"mayor": "official"})
    with pytest.raises(ValueError, match="'a' is its own ancestor: a -> b -> a"):
        broader_types({"a": "b", "b": "a"})
    with pytest.raises(ValueError, match="'a' is its own ancestor: a -> a"):
        broader_types({"a": "a"})
    with pytest.raises(ValueError, match="'b' is its own ancestor: c -> b -> b"):
        broader_types({"c": "b", "b": "b"})


def test_the_breadth_network_can_learn_an_order():
    torch.manual_seed(0)
    network, states = BreadthNetwork(32), torch.randn(20, 32)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        breadths = network(states)
        loss = torch.nn.functional.softplus(breadths[1:] - breadths[:-1]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    breadths = network(states)
    assert breadths.shape == (20,) and (breadths[:-1] > breadths[1:]).all()


def test_breadths_are_computed_from_descriptions_and_saved(tokenizer, tmp_path):
    model = build_model(use_breadth=True, breadth_margin=2.0)
    encoded = model.encode_descriptions(tokenizer, DESCRIPTIONS)
    assert encoded.vectors.shape == (4, 3, 16) and encoded.breadths.shape == (4,)
    for text, vectors, breadth in zip(DESCRIPTIONS, *encoded, strict=True):
        ids = torch.tensor([tokenizer(text).input_ids])
        with torch.no_grad():
            torch.testing.assert_close(model.encode_types(ids)[0], vectors)
            torch.testing.assert_close(model.breadth(model.encode_type_states(ids))[0], breadth)
    assert not any(parameter.requires_grad for parameter in model.breadth.parameters()), (
        "the breadth network is trained separately"
    )
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert loaded.config.breadth_margin == 2.0
    assert {parameter.dtype for parameter in loaded.breadth.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in loaded.breadth.parameters())
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded.encode_descriptions(tokenizer, DESCRIPTIONS).breadths, encoded.breadths)


def test_breadth_can_be_switched_off(tokenizer, tmp_path, caplog):
    assert build_model().encode_descriptions(tokenizer, DESCRIPTIONS).breadths is None
    model = build_model(use_breadth=True)
    model.config.use_breadth = False
    model.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert loaded.breadth is None and not report["unexpected_keys"] and not report["missing_keys"]


def test_frozen_types_keep_their_breadths(tokenizer, tmp_path):
    model = build_model(use_breadth=True)
    expected = model.encode_descriptions(tokenizer, list(TYPES.values()))
    model.freeze_types(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert not any(name.startswith(("breadth", "type_encoder")) for name in tensors)
    torch.testing.assert_close(tensors["frozen_type_breadths"], expected.breadths)
    loaded = pipeline("binder-ner", model=str(tmp_path))
    torch.testing.assert_close(loaded.model.frozen_type_breadths, expected.breadths)
    assert loaded("the gene of cells", threshold=0) is not None
