"""Tests of pushing datasets to the Hub: files, dataset cards and licences."""

import json

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard, snapshot_download

from hub_cards.licenses import license_ids
from modeling_binder.finetuning import Corpus, Document, Mix, MixPart, load_corpus
from modeling_binder.hub import PushError, push_dataset
from tests.tiny import TYPES, corpus

OPEN = {"license": "CC BY 4.0", "source": "https://example.org/news"}


def test_a_corpus_is_pushed_with_its_types(hub, tmp_path):
    pushed = Corpus(entity_types=TYPES, train=corpus(3), dev=[], test=corpus(1))
    push_dataset(pushed, "alice/corpus", language=["en"], license="cc-by-4.0", description="Ours. <b>", private=True)
    files = hub.files("alice/corpus", repo_type="dataset")
    assert set(files) == {".gitattributes", "README.md", "train.jsonl", "test.jsonl", "types.json"}
    assert hub.repos["dataset", "alice/corpus"].private
    card = DatasetCard(files["README.md"].decode())
    card.validate()
    assert card.data.configs[0]["data_files"] == [
        {"split": "train", "path": "train.jsonl"},
        {"split": "test", "path": "test.jsonl"},
    ]
    assert card.data.task_ids == ["named-entity-recognition"] and card.data.size_categories == ["n<1K"]
    assert "Ours. &lt;b&gt;" in card.text and f"| documents | {len(pushed.train)} | {len(pushed.test)} |" in card.text

    folder = snapshot_download("alice/corpus", repo_type="dataset")
    (tmp_path / "x").mkdir()
    assert load_corpus(folder) == pushed
    loaded = load_dataset("json", data_files={"train": f"{folder}/train.jsonl"}, cache_dir=str(tmp_path / "x"))
    assert loaded["train"][0]["text"] == pushed.train[0].text


def test_an_empty_corpus_is_not_pushed(hub):
    with pytest.raises(ValueError, match="nothing to push"):
        push_dataset(Corpus(entity_types=TYPES, train=[], dev=[], test=[]), "alice/corpus")
    assert not hub.repos


def two_corpora():
    news = Corpus(entity_types=TYPES, train=corpus(2), dev=corpus(1), test=[])
    annotated = [Document("a", "the gene", types=("Gene",)), Document("b", "of the in")]
    queries = Corpus(entity_types={"Gene": "A gene."}, train=annotated, dev=[], test=[])
    return {"news": news, "queries": queries}


def test_several_corpora_are_pushed_as_configurations_of_one_dataset(hub, tmp_path):
    corpora = two_corpora()
    origins = {"news": OPEN, "queries": {"license": "CC BY-SA 3.0; MIT", "changes": "lower-cased."}}
    push_dataset(corpora, "alice/mix", origins=origins, language="en", description="Two corpora.")
    files = hub.files("alice/mix", repo_type="dataset")
    names = {"news/train.jsonl.gz", "news/dev.jsonl.gz", "queries/train.jsonl.gz"}
    assert set(files) == {".gitattributes", "README.md", "news/types.json", "queries/types.json"} | names
    card = DatasetCard(files["README.md"].decode())
    card.validate()
    assert card.data.license == ["cc-by-4.0", "cc-by-sa-3.0", "mit"]
    assert card.data.configs[0]["data_files"][1] == {"split": "validation", "path": "news/dev.jsonl.gz"}
    assert "Source: https://example.org/news" in card.text and "Changes: lower-cased." in card.text
    assert (
        "Changes: converted to JSON lines" in card.text and "| queries | 2 | 0 | 1 | CC BY-SA 3.0; MIT |" in card.text
    )

    folder = snapshot_download("alice/mix", repo_type="dataset", local_dir=tmp_path / "mix")
    assert {name: load_corpus(f"{folder}/{name}") for name in corpora} == corpora
    for name, expected in corpora.items():
        loaded = load_dataset(folder, name, cache_dir=str(tmp_path / "cache"))
        assert loaded["train"]["text"][:] == [document.text for document in expected.train]
    assert loaded["train"]["types"][:] == [["Gene"], None], "all lines have the key `types`"


def test_a_second_push_keeps_files_of_the_user(hub):
    news, queries = two_corpora().values()
    push_dataset({"news": news, "queries": queries}, "alice/mix", origins={"news": OPEN, "queries": OPEN})
    hub.commit("alice/mix", {"notes/train.txt": "keep", "loader.py": "keep"}, repo_type="dataset")
    push_dataset({"news": news}, "alice/mix", origins={"news": OPEN})
    files = set(hub.files("alice/mix", repo_type="dataset")) - {".gitattributes", "README.md"}
    names = {"news/train.jsonl.gz", "news/dev.jsonl.gz", "news/types.json"}
    assert files == names | {"notes/train.txt", "loader.py"}
    push_dataset(queries, "alice/mix")
    files = set(hub.files("alice/mix", repo_type="dataset")) - {".gitattributes", "README.md"}
    assert files == {"train.jsonl", "types.json", "notes/train.txt", "loader.py"}


def test_the_card_of_a_mix_has_the_licence_and_source_of_each_corpus(hub):
    news, queries = two_corpora().values()
    mix = Mix([MixPart.of("news", news, **OPEN), MixPart.of("queries", queries, license="none stated", source="a/b")])
    push_dataset(mix, "alice/mix")
    files = hub.files("alice/mix", repo_type="dataset")
    assert {name for name in files if "/" in name} == {"news/train.jsonl.gz", "news/types.json"}
    assert "| queries | none stated | a/b |" in files["README.md"].decode()


def test_corpora_that_cannot_be_pushed_raise_an_error(hub, caplog):
    with pytest.raises(ValueError, match="no corpus has a licence that allows"):
        push_dataset(two_corpora(), "alice/mix", origins={"news": {"license": "CC BY-NC 4.0"}})
    assert "because their licences do not clearly allow a published copy: news, queries" in caplog.text
    with pytest.raises(ValueError, match="'a/b' needs another name"):
        push_dataset({"a/b": two_corpora()["news"]}, "alice/mix", origins={"a/b": OPEN})
    with pytest.raises(PushError, match="alice may not write to bob/mix"):
        push_dataset(two_corpora(), "bob/mix", origins={"news": OPEN})
    assert not hub.repos


@pytest.mark.parametrize(
    ("statement", "ids"),
    [
        ("CC BY 4.0", ["cc-by-4.0"]),
        ("cc-by-sa-3.0", ["cc-by-sa-3.0"]),
        ("CC BY", ["cc"]),
        ("MIT (repository); CC BY 4.0 (data, per paper)", ["mit", "cc-by-4.0"]),
        ("Apache License, Version 2.0", ["apache-2.0"]),
        ("Apache-2.0 / CC0", ["apache-2.0", "cc0-1.0"]),
        ("public domain (NCBI)", ["pddl"]),
        ("BSD-2-Clause", ["bsd-2-clause"]),
        ("CDLA-Permissive-2.0 and MIT License", ["cdla-permissive-2.0", "mit"]),
        ("CC BY-NC 4.0", []),
        ("CC BY-ND 4.0", []),
        ("CC BY 4.0 and others", []),
        ("annotations CC BY 4.0; texts per document, some NC", []),
        ("none stated", []),
        ("", []),
        (None, []),
    ],
)
def test_license_ids_of_licence_statements(statement, ids):
    assert license_ids(statement) == ids


def test_lines_of_one_corpus_have_the_same_keys(hub):
    push_dataset(two_corpora()["queries"], "alice/queries")
    lines = hub.files("alice/queries", repo_type="dataset")["train.jsonl"].decode().splitlines()
    assert [json.loads(line)["types"] for line in lines] == [["Gene"], None]
