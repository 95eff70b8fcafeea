"""The conversion of the original files of the benchmarks.

The numbers of mentions must equal the published numbers. The environment variable BINDER_DATA is the folder of the
original files. Without this folder, the tests that read these files are skipped.
"""

import json
import os
from pathlib import Path

import pytest

from training.arguments import parse_recipe, recipe_types
from training.corpora.__main__ import convert
from training.corpora.benchmarks import BENCHMARKS

DATA = Path(os.environ.get("BINDER_DATA", "nowhere"))
RECIPES = Path(__file__).resolve().parents[3] / "training" / "recipes"
FOLDERS = [
    ("ncbi", "ncbi-disease/iob"),
    ("ncbi", "ncbi-disease/pubtator"),
    ("bc5cdr", "bc5cdr/iob"),
    ("bc5cdr", "bc5cdr/pubtator"),
    ("bc5-chem", "bc5-chem/iob"),
    ("bc5-chem", "bc5cdr/pubtator"),
    ("bc5-disease", "bc5-disease/iob"),
    ("bc5-disease", "bc5cdr/pubtator"),
    ("bc2gm", "bc2gm/iob"),
    ("jnlpba", "jnlpba"),
    ("genia", "genia"),
]


@pytest.mark.skipif(not DATA.is_dir(), reason="BINDER_DATA is not set to the folder of the corpora")
@pytest.mark.parametrize(("name", "folder"), FOLDERS)
def test_a_converted_benchmark_has_the_expected_mentions_and_types(name, folder, tmp_path):
    facts = convert(name, DATA / folder, tmp_path / "out")
    assert facts["expected"] and facts["differences"] == []
    assert set(json.loads((tmp_path / "out" / "types.json").read_text())) == set(recipe_types(name))


@pytest.mark.skipif(not DATA.is_dir(), reason="BINDER_DATA is not set to the folder of the corpora")
def test_both_json_formats_of_genia_give_the_same_documents(tmp_path):
    from modeling_binder.finetuning.formats import read_token_spans

    for split in ("dev", "test"):
        lines = read_token_spans(DATA / "genia" / f"{split}.jsonl")
        gold = read_token_spans(DATA / "genia" / "gold_json" / f"{split}.json")
        assert [(d.text, set(d.entities)) for d in lines] == [(d.text, set(d.entities)) for d in gold]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_recipes_with_descriptions(name):
    for suffix in ("", "-minilm"):
        recipe = parse_recipe([str(RECIPES / f"{name}{suffix}.yaml")])
        assert recipe.data.corpus == f"corpora/{name}" and recipe.card.dataset_name
    assert parse_recipe([str(RECIPES / f"{name}.yaml")]).model.encoder != "minilm"
    assert all(len(description.split()) >= 5 for description in recipe_types(name).values())
