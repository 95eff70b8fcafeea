"""Tests of the checkpoint in demo/model: its files, loading without a network, and new entity types."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import pipeline

import modeling_binder  # noqa: F401 (registers the pipeline)
from tests.fresh_process import run

MODEL = Path(__file__).resolve().parents[2] / "demo" / "model"
WEIGHTS = sorted(MODEL.glob("*.safetensors"))


def test_the_weights_are_small_files_in_float16():
    assert WEIGHTS
    for path in WEIGHTS:
        assert path.stat().st_size < 50_000_000
        with safe_open(path, "pt") as file:
            assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_the_model_finds_new_types_without_a_network(tmp_path):
    found = run(
        f"""
        import json
        import modeling_binder
        from transformers import pipeline

        ner = pipeline("binder-ner", model={str(MODEL)!r})
        text = "Dr Maria Jensen called from +45 20 31 44 55 about the invoice of 4,200 kroner, due on 3 May."
        types = ["person", "phone number", "amount of money", "due date"]
        found = {{entity["entity_group"]: entity["word"] for entity in ner(text, entity_types=types)}}
        dtypes = {{str(parameter.dtype) for parameter in ner.model.parameters()}}
        print(json.dumps([found, sorted(dtypes)]))
        """,
        package=True,
        cache=tmp_path,
        offline=True,
    )
    assert found == [
        {
            "person": "Maria Jensen",
            "phone number": "+45 20 31 44 55",
            "amount of money": "4,200 kroner",
            "due date": "3 May",
        },
        ["torch.float32"],
    ]


@pytest.mark.parametrize("name", ["README.md", "model_card.json", "handler.py", "config.json", "tokenizer.json"])
def test_the_checkpoint_has_all_files(name):
    assert (MODEL / name).is_file()


def test_the_card_describes_these_weights():
    from modeling_binder import BinderModel
    from modeling_binder.hub import fingerprint

    facts = json.loads((MODEL / "model_card.json").read_text(encoding="utf-8"))
    assert facts["weights"] == fingerprint(BinderModel.from_pretrained(MODEL))
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    assert all(part["license"] in card for part in facts["mix"])


def test_the_handler_is_the_same_as_in_hub_cards():
    cards = MODEL.parents[1] / "hub_cards"
    assert (MODEL / "handler.py").read_text() == (cards / "handler.py").read_text()


def test_flat_decoding_keeps_the_narrowest_type():
    """The checkpoint has a network that estimates how broad a type is."""
    ner = pipeline("binder-ner", model=str(MODEL))
    text = "Dr Maria Jensen, a botanist at the University of Oslo, collected mosses in Norway."
    types = ["person", "botanist", "organization", "university"]
    found = {entity["word"]: entity["entity_group"] for entity in ner(text, entity_types=types, decoding="flat")}
    assert found["Maria Jensen"] == "botanist"
    assert found["University of Oslo"] == "university"
