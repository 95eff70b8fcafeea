"""Tests of `as_map`, which returns a function that adds entities to a Hugging Face dataset."""

import pickle
import subprocess
import sys

import datasets
import pytest
from datasets.fingerprint import Hasher
from transformers import pipeline

from modeling_binder.annotating.annotator import ENTITIES
from modeling_binder.integrations.dataset_map import _MAPS
from tests.tiny import assert_same_entities, build_pipeline

TEXTS = ["", "the IL-2 gene", None, "cells of the gene"]
LABELLED = {"start", "end", "label", "score", "word"}


@pytest.fixture(scope="module")
def ner():
    return build_pipeline()


@pytest.fixture
def loaded(checkpoint):
    return pipeline("binder-ner", model=str(checkpoint))


@pytest.fixture
def dataset(tmp_path):
    """Return a dataset in a file. The library `datasets` caches results only for datasets in files."""
    datasets.Dataset.from_dict({"text": TEXTS, "year": [1, 2, 3, 4]}).save_to_disk(str(tmp_path / "dataset"))
    return datasets.load_from_disk(str(tmp_path / "dataset"))


def assert_found(mapped, ner, column="entities", **arguments):
    """Check that a mapped dataset has the entities that the pipeline finds."""
    for text, found in zip(mapped["text"], mapped[column], strict=True):
        if text is None:
            assert found is None
        else:
            assert_same_entities([{**e, "entity_group": e["label"]} for e in found], ner(text, **arguments))
            assert all(set(entity) == LABELLED for entity in found)


@pytest.mark.parametrize("options", [{"batched": True}, {"batched": True, "batch_size": 1}, {}], ids=str)
def test_the_new_column_has_the_arrow_type_of_annotate(ner, dataset, options):
    """With batches of one row, the first batch has no entity and the third batch has no text.

    All batches must have the same Arrow type.
    """
    mapped = dataset.map(ner.as_map("text", threshold=0.7), **options)
    assert mapped.column_names == ["text", "year", "entities"]
    assert_found(mapped, ner, threshold=0.7)
    if options:
        assert mapped.data.schema.field("entities").type == ENTITIES
    assert mapped[0]["entities"] == [] and mapped[1]["entities"]


def test_the_column_of_a_dataset_without_entities_has_the_same_type(ner, dataset):
    mapped = dataset.map(ner.as_map(entities_column="found", threshold=1), batched=True, remove_columns=["year"])
    assert mapped.column_names == ["text", "found"] and mapped.data.schema.field("found").type == ENTITIES
    assert mapped["found"] == [[], [], None, []]


def test_formatted_datasets_words_and_iterable_datasets_are_accepted(ner, dataset):
    for format in ("numpy", "arrow"):
        mapped = dataset.select([0, 1, 3]).with_format(format).map(ner.as_map(), batched=True).with_format(None)
        assert_found(mapped, ner)
    streamed = dataset.to_iterable_dataset().map(ner.as_map(), batched=True, batch_size=2)
    assert_found({name: [row[name] for row in streamed] for name in ("text", "entities")}, ner)
    words = datasets.Dataset.from_dict({"tokens": [["the", "gene"], ["of"]]})
    for batched in (True, False):
        mapped = words.map(ner.as_map("tokens", is_split_into_words=True), batched=batched)
        assert [entity["word"] for entity in mapped[0]["entities"]] == [entity["word"] for entity in ner("the gene")]


def test_several_processes_find_the_same_entities(loaded, dataset):
    mapped = dataset.map(loaded.as_map("text", entity_types=["Gene"]), batched=True, num_proc=2)
    assert_found(mapped, loaded, entity_types=["Gene"])
    assert mapped.data.schema.field("entities").type == ENTITIES


def test_a_forked_process_uses_the_model_in_memory(ner, dataset):
    """The model was never saved, so the process cannot load it from a folder."""
    assert_found(dataset.map(ner.as_map(), batched=True, num_proc=2), ner)


CHILD = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    function = pickle.load(file)
print(function({"text": ["the IL-2 gene"]})["entities"][0][0]["word"], function.pipeline.device)
"""


def test_a_new_process_loads_the_model_from_its_folder(checkpoint, tmp_path):
    loaded = pipeline("binder-ner", model=str(checkpoint), entity_types=["Gene"], device="cpu")
    path = tmp_path / "function.pickle"
    path.write_bytes(pickle.dumps(loaded.as_map()))
    assert path.stat().st_size < 5000, "the weights are not pickled"
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True)
    assert done.stdout.split("\n")[0] == f"{loaded('the IL-2 gene')[0]['word']} cpu", done.stderr


def test_a_model_that_cannot_be_loaded_raises_an_error_in_a_new_process(ner, loaded):
    for unsaved, problem in ((ner, "was not loaded from a folder"), (loaded, "differs from the model in")):
        if unsaved is loaded:
            next(unsaved.model.span_head.parameters()).data += 1
        function = unsaved.as_map()
        pickled = pickle.dumps(function)
        assert pickle.loads(pickled) is function, "the same process must use the model in memory"
        _MAPS.clear()  # a new process has no model in memory
        with pytest.raises(RuntimeError, match=f"{problem}.*Save it with ner.save_pretrained"):
            pickle.loads(pickled)


def test_the_hash_depends_on_types_arguments_and_weights(checkpoint, tokenizer, model):
    def hash_of(ner=None, **arguments):
        return Hasher.hash((ner or pipeline("binder-ner", model=str(checkpoint))).as_map(**arguments))

    loaded = pipeline("binder-ner", model=str(checkpoint))
    first = hash_of(loaded)
    loaded(["the gene", "cells of the gene"], entity_types=["Gene", "other"])  # filled caches must not change the hash
    assert (
        first
        == hash_of(loaded)
        == hash_of()
        == hash_of(loaded, entity_types=list(loaded.model.config.type_descriptions))
    )
    other = {
        "types": hash_of(loaded, entity_types=["Gene"]),
        "description": hash_of(loaded, entity_types={"Gene": "something else"}),
        "order": hash_of(loaded, entity_types=["Place", "Cell", "Gene"]),
        "threshold": hash_of(loaded, threshold=0.6),
        "decoding": hash_of(loaded, decoding="flat"),
        "column": hash_of(loaded, text_column="body"),
        "default": hash_of(pipeline("binder-ner", model=str(checkpoint), threshold=0.7)),
    }
    next(model.span_head.parameters()).data += 1
    model.save_pretrained(checkpoint)
    other["weights"] = hash_of()
    assert len({first, *other.values()}) == 1 + len(other), other


def test_datasets_uses_its_cache_if_model_and_arguments_are_equal(loaded, dataset, monkeypatch):
    mapped = dataset.map(loaded.as_map(), batched=True)
    calls = []
    monkeypatch.setattr(type(loaded), "preprocess", lambda *args, **kwargs: calls.append(args))
    again = dataset.map(loaded.as_map(), batched=True)
    assert not calls and again["entities"] == mapped["entities"]


def test_the_error_names_a_missing_library(ner, monkeypatch):
    monkeypatch.delitem(sys.modules, "modeling_binder.integrations.dataset_map")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"^as_map needs datasets, which is not installed: pip install datasets$"):
        ner.as_map()


@pytest.mark.parametrize("options", [{"format": "pandas"}, {"input_columns": "text"}], ids=str)
def test_batches_without_columns_raise_an_error(ner, dataset, options):
    formatted = dataset.with_format(options.pop("format", None))
    with pytest.raises(ValueError, match=r"call map on dataset.with_format\(None\), and without input_columns"):
        formatted.map(ner.as_map(), batched=True, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text_column": "body"}, r"the dataset has no column 'body'; choose the text_column from \['text', 'year'\]"),
        ({"entities_column": "year"}, "the dataset has a column 'year' already; choose another name"),
        ({"text_column": "year"}, r"expected a text \(str\), got int"),
        ({"entities_column": "text"}, "must have different names, got 'text' twice"),
        ({"decoding": "deep"}, "decoding must be one of"),
    ],
)
def test_invalid_input_raises_an_error(ner, dataset, arguments, message):
    with pytest.raises(ValueError, match=message):
        dataset.map(ner.as_map(**arguments), batched=True)
