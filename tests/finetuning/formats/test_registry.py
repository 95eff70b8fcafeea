"""All file formats: round trips of documents, and the splits of a corpus.

A corpus is a folder, a file or a dataset of the datasets library.
"""

import json
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.finetuning import (
    DataError,
    Document,
    Mention,
    load_corpus,
    read_documents,
    write_format,
    write_jsonl,
)
from modeling_binder.finetuning.formats import FORMATS, detect_format, read_splits
from modeling_binder.finetuning.offsets import trim
from tests.finetuning.formats.helpers import write

# ---- round trips: write and read again ----

ALPHABET = "ab \r\n\t.-_é\u0301👩\u200d🔬🎉東\u2028\x85"


@st.composite
def corpora(draw):
    """Generate documents with nested and overlapping mentions that do not start or end with a blank."""
    documents = []
    for number in range(draw(st.integers(1, 3))):
        text = draw(st.text(alphabet=st.sampled_from(ALPHABET), min_size=1, max_size=25))
        spans = draw(st.lists(st.tuples(st.integers(0, len(text) - 1), st.integers(1, len(text))), max_size=4))
        labels = draw(st.lists(st.sampled_from(["A", "Cell type"]), min_size=len(spans), max_size=len(spans)))
        mentions = dict.fromkeys(
            Mention(start, end, label)
            for (start, end), label in zip(spans, labels, strict=True)
            if start < end and trim(text, start, end) == (start, end)
        )
        documents.append(Document(f"d{number}", text, tuple(mentions)))
    return documents


def mentions_of(documents, normal=str):
    return [sorted((m.start, m.end, normal(m.label)) for m in document.entities) for document in documents]


@pytest.mark.parametrize("format", ["jsonl", "brat", "bioc", "label-studio", "doccano", "pubtator", "docbin"])
@given(corpora())
@settings(deadline=None, max_examples=60)
def test_mentions_are_unchanged_by_writing_and_reading(format, tmp_path_factory, documents):
    folder = tmp_path_factory.mktemp("out")
    names = {"brat": "", "pubtator": "a.txt", "docbin": "a.spacy"}
    path = folder / names.get(format, "a.json")
    write_format(documents, path, format)
    assert detect_format(path) == format
    read = read_documents(path)
    assert [document.id for document in read] == [document.id for document in documents]
    assert mentions_of(read) == mentions_of(
        documents, (lambda label: label.replace(" ", "_")) if format == "brat" else str
    )
    if format == "pubtator":
        assert [len(document.text) for document in read] >= [len(document.text) for document in documents]
    else:
        assert [document.text for document in read] == [document.text for document in documents]


@given(corpora())
@settings(deadline=None, max_examples=60)
def test_flat_mentions_are_unchanged_by_writing_and_reading_columns(tmp_path_factory, documents):
    flat = []
    for document in documents:
        kept = []
        for mention in sorted(document.entities):
            if not kept or kept[-1].end <= mention.start:
                kept.append(mention)
        if document.text.strip():
            flat.append(Document(document.id, document.text, tuple(kept)))
    if not flat:
        return
    path = tmp_path_factory.mktemp("out") / "a.tsv"
    write_format(flat, path, "conll")
    read = read_documents(path)
    assert len(read) == len(flat)
    for before, after in zip(flat, read, strict=True):
        assert "".join(before.text.split()) == "".join(after.text.split())
        assert [("".join(before.text[m.start : m.end].split()), m.label) for m in before.entities] == [
            ("".join(after.text[m.start : m.end].split()), m.label) for m in after.entities
        ]


def test_output_of_the_pipeline_can_be_written(tmp_path):
    found = [{"entity_group": "Place", "score": 0.9, "word": "Oslo", "start": 3, "end": 7}]
    write_format([{"text": "In Oslo", "entities": found}, {"text": "x", "entities": []}], tmp_path / "a.jsonl", "jsonl")
    assert read_documents(tmp_path / "a.jsonl") == [
        Document("1", "In Oslo", (Mention(3, 7, "Place"),)),
        Document("2", "x"),
    ]


def test_duplicate_ids_are_made_distinct(tmp_path):
    write_format([Document("a", "x"), Document("a", "y")], tmp_path / "a.jsonl", "jsonl")
    assert [document.id for document in read_documents(tmp_path / "a.jsonl")] == ["a", "a-2"]


def test_unknown_formats_and_options_raise_an_error(tmp_path):
    with pytest.raises(
        DataError,
        match="the format prodigy can be read, but not written; the formats that can be written are jsonl, conll",
    ):
        write_format([], tmp_path / "a", "prodigy")
    with pytest.raises(DataError, match="there is no format 'xmi'; the formats are jsonl, conll, brat"):
        write_format([], tmp_path / "a", "xmi")
    with pytest.raises(DataError, match="the format label-studio has no option 'x'; its options are from_name"):
        write_format([], tmp_path / "a", "label_studio", x=1)
    with pytest.raises(DataError, match="the format conll has no option 'text_field'; its options are label"):
        read_documents(write(tmp_path, "a.tsv", "a\tO"), text_field="x")
    assert {"brat", "pubtator", "bioc", "label-studio", "doccano", "conll", "docbin"} <= {
        name for name, format in FORMATS.items() if format.write
    }


# ---- JSON ----


def test_a_json_list_of_documents_is_read(tmp_path):
    rows = [{"text": "Oslo", "entities": [{"start": 0, "end": 4, "label": "X"}]}, {"text": "x", "entities": []}]
    path = write(tmp_path, "a.json", json.dumps(rows, indent=2))
    assert read_documents(path) == [Document("a-1", "Oslo", (Mention(0, 4, "X"),)), Document("a-2", "x")]
    del rows[1]["entities"]
    rows[0]["entities"][0]["end"] = 9
    with pytest.raises(
        DataError, match=r"(?s)record 1: 'entities\[0\]' spans 0\.\.9 .*record 2: 'entities' is missing"
    ):
        read_documents(write(tmp_path, "a.json", json.dumps(rows)))


@pytest.mark.parametrize("field", ["text", "id", "label"])
@pytest.mark.parametrize("format", ["jsonl", "doccano", "prodigy", "label-studio", "gliner", "bioc"])
def test_a_lone_surrogate_in_any_field_raises_an_error(tmp_path, field, format):
    """A lone surrogate cannot be written as UTF-8, so writing the document would raise a UnicodeEncodeError."""
    values = {"text": "Oslo", "id": "a", "label": "X", field: "Oslo\ud83d"}
    text, label = values["text"], values["label"]
    span = {"start": 0, "end": 4, "label": label}
    rows = {
        "jsonl": {"id": values["id"], "text": text, "entities": [span]},
        "doccano": {"id": values["id"], "text": text, "label": [[0, 4, label]]},
        "prodigy": {"id": values["id"], "text": text, "spans": [span]},
        "label-studio": {"id": values["id"], "text": text, "x": [{"start": 0, "end": 4, "labels": [label]}]},
        "gliner": {"id": values["id"], "tokenized_text": [text], "ner": [[0, 0, label]]},
        "bioc": {
            "id": values["id"],
            "passages": [
                {
                    "offset": 0,
                    "text": text,
                    "annotations": [{"infons": {"type": label}, "locations": [{"offset": 0, "length": 4}]}],
                }
            ],
        },
    }
    path = write(tmp_path, "a.jsonl", json.dumps(rows[format]))
    with pytest.raises(DataError, match=r"a\.jsonl.*lone surrogate .* at offset 4"):
        read_documents(path, format)


def test_load_corpus_reads_all_formats(tmp_path):
    (tmp_path / "types.json").write_text('{"X": "A thing."}')
    write(tmp_path, "train.txt", "1|t|In Oslo\n1|a|x\n1\t3\t7\tOslo\tX\n")
    write(tmp_path, "valid.json", json.dumps([{"text": "Oslo", "label": [{"start": 0, "end": 4, "labels": ["X"]}]}]))
    write_format([Document("1", "Oslo", (Mention(0, 4, "X"),))], tmp_path / "test.json", "bioc")
    corpus = load_corpus(tmp_path)
    assert [len(split) for split in (corpus.train, corpus.dev, corpus.test)] == [1, 1, 1]


# ---- splits ----

ROWS = "Oslo\tB-X\n"


def sizes(splits):
    return {split: len(documents) for split, documents in splits.items()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["no_x-ud-train.tsv", "no_x-ud-dev.tsv", "no_x-ud-test.tsv"], {"train": 1, "dev": 1, "test": 1}),
        (["train.tsv", "val.tsv"], {"train": 1, "dev": 1}),
        (["train/a.tsv", "train/b.tsv", "EVAL/a.tsv"], {"train": 2, "dev": 1}),
        (["eng.train.tsv", "eng.testa.tsv", "eng.testb.tsv"], {"train": 1, "dev": 1, "test": 1}),
        (["esp.train", "esp.testa", "esp.testb", "README"], {"train": 1, "dev": 1, "test": 1}),
        (["genes.tsv", "cells.tsv", ".hidden.tsv", ".ipynb_checkpoints/genes.tsv"], {"train": 2}),
    ],
)
def test_names_of_files_and_folders_determine_splits(tmp_path, names, expected):
    for name in names:
        write(tmp_path, name, ROWS)
    splits = read_splits(tmp_path, "iob")
    assert sizes(splits) == expected
    for documents in splits.values():
        assert len({document.id for document in documents}) == len(documents)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.tsv", "more.tsv"], r"cannot tell the split of 'more\.tsv': .*--split train=more\.tsv"),
        (["train.tsv", "train_dev.tsv"], r"cannot tell the split of 'train_dev\.tsv':"),
        (["train/test.tsv", "dev.tsv"], r"cannot tell the split of 'train/test\.tsv':"),
        (["dev.tsv", "test.tsv"], r"there is no training split, only dev, test \(from 'dev\.tsv', 'test\.tsv'\)"),
        (["a.xyz"], r"there is no file with one of the suffixes \.tsv"),
    ],
)
def test_files_without_a_clear_split_raise_an_error(tmp_path, names, message):
    for name in names:
        write(tmp_path, name, ROWS)
    with pytest.raises(DataError, match=message):
        read_splits(tmp_path, "iob")


def test_files_and_folders_can_be_assigned_to_splits(tmp_path):
    for name in ("a/more.tsv", "a/rest.tsv", "b/more.tsv", "test.tsv"):
        write(tmp_path, name, ROWS)
    assert sizes(read_splits(tmp_path, "iob", {"train": ["a"], "test": ["test.tsv"]})) == {"train": 2, "test": 1}
    assert sizes(read_splits(tmp_path, "iob", {"train": ["a/rest"], "dev": ["b/more.tsv"]})) == {"train": 1, "dev": 1}
    ids = [document.id for document in read_splits(tmp_path, "iob", {"train": ["more"]})["train"]]
    assert ids == ["a/more-1", "b/more-1"], "the names of the folders make the ids distinct"
    with pytest.raises(DataError, match=r"nothing is named 'c'; the names are 'a/more\.tsv', 'a/rest\.tsv'"):
        read_splits(tmp_path, "iob", {"train": ["c"]})
    with pytest.raises(DataError, match="there is no split 'training'; expected train, dev, test"):
        read_splits(tmp_path, "iob", {"training": ["a"]})
    assert sizes(read_splits(tmp_path / "test.tsv", "iob", {"train": ["test"]})) == {"train": 1}
    with pytest.raises(DataError, match="there is no training split, only test"):
        read_splits(tmp_path / "test.tsv", "iob")


def test_files_with_other_suffixes_are_named_in_a_warning(tmp_path, caplog):
    for name in ("part1.conll", "part2.bioes", "README", "types.json"):
        write(tmp_path, name, ROWS)
    assert sizes(read_splits(tmp_path, "conll")) == {"train": 1}
    assert "the suffixes of the format conll are .tsv" in caplog.text
    assert "so these files are left out: 'README', 'part2.bioes'." in caplog.text


def test_names_of_brat_folders_or_files_determine_splits(tmp_path):
    """Names of folders determine the splits.

    File names are used only if every file name contains the name of a split.
    """
    for name in ("x/train/1", "x/dev/blood-test", "y/train-1", "y/test-1", "z/blood-test", "z/other"):
        write(tmp_path, f"{name}.txt", "Oslo")
        write(tmp_path, f"{name}.ann", "T1\tX 0 4\tOslo\n")
    assert sizes(read_splits(tmp_path / "x", "brat")) == {"train": 1, "dev": 1}
    assert sizes(read_splits(tmp_path / "y", "brat")) == {"train": 1, "test": 1}
    assert sizes(read_splits(tmp_path / "z", "brat")) == {"train": 2}
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "x", arcname="corpus")
    assert sizes(read_splits(tmp_path / "x.tar", "brat")) == {"train": 1, "dev": 1}
    write(tmp_path, "x/2.txt", "Rome")
    write(tmp_path, "x/2.ann", "")
    with pytest.raises(DataError, match=r"cannot tell the split of '\.':"):
        read_splits(tmp_path / "x", "brat")


@pytest.fixture
def dataset(tmp_path):
    """Return a function that writes a dataset. Its argument maps configuration -> split -> rows of (tokens, tags)."""
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    names = ["O", "B-LOC", "I-LOC"]

    def build(configs, tag="ner_tags", class_names=names):
        tag_type = ClassLabel(names=class_names) if class_names else Value("int64")
        features = Features({"tokens": Sequence(Value("string")), tag: Sequence(tag_type)})
        yaml = ["---", "configs:"]
        for config, splits in configs.items():
            yaml += [f"- config_name: {config}", "  data_files:"]
            for split, rows in splits.items():
                path = tmp_path / "data" / config / f"{split}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                columns = {"tokens": [row[0] for row in rows], tag: [row[1] for row in rows]}
                Dataset.from_dict(columns, features=features).to_parquet(path)
                yaml += [f"  - split: {split}", f"    path: {config}/{split}.parquet"]
        (tmp_path / "data" / "README.md").write_text("\n".join([*yaml, "---", ""]))
        return str(tmp_path / "data")

    return build


ROW = (["New", "", "York", "won"], [1, 2, 2, 0])


def test_a_dataset_with_class_numbers_is_read(dataset):
    splits = read_splits(dataset({"default": {"train": [ROW], "validation": [ROW]}}), "hub")
    assert sizes(splits) == {"train": 1, "dev": 1}
    assert splits["train"][0] == Document("0", "New York won", (Mention(0, 8, "LOC"),), ((0, 3), (4, 8), (9, 12)))


def test_splits_of_a_dataset_can_be_chosen_for_train_dev_and_test(dataset):
    name = dataset({"default": {"train_en": [ROW], "train_fr": [ROW], "test_en": [ROW], "extra": [ROW]}})
    with pytest.raises(DataError, match="cannot tell the split of 'extra':"):
        read_splits(name, "hub")
    chosen = read_splits(name, "hub", {"train": ["train_en"], "test": ["test_en"]})
    assert sizes(chosen) == {"train": 1, "test": 1}
    both = read_splits(name, "hub", {"train": ["train_en", "train_fr"]})["train"]
    assert [document.id for document in both] == ["train_en/0", "train_fr/0"]


def test_several_dataset_splits_that_match_one_split_raise_an_error(dataset):
    name = dataset({"default": {"train_en": [ROW], "train_fr": [ROW]}})
    with pytest.raises(
        DataError, match=r"'train_fr' would all belong to the split train; .*--split train=train_en, or"
    ):
        read_splits(name, "hub")


def test_a_dataset_with_several_configurations_needs_a_choice(dataset):
    name = dataset({"en": {"train": [ROW]}, "fr": {"train": [ROW, ROW]}})
    with pytest.raises(DataError, match=r"(?s)cannot be loaded: Config name is missing.*Choose one with .*--config"):
        read_splits(name, "hub")
    assert sizes(read_splits(name, "hub", config="fr")) == {"train": 2}
    with pytest.raises(DataError, match=r"(?s)cannot be loaded: .*--config"):
        read_splits(name, "hub", config="de")


def test_invalid_datasets_raise_an_error(dataset, tmp_path):
    with pytest.raises(DataError, match="row 0: -1 is not the number of a tag; expected 0 to 2"):
        read_splits(dataset({"default": {"train": [(["a"], [-1])]}}), "hub")
    with pytest.raises(DataError, match="train, row 0: the tag 1 is not a string"):
        read_splits(dataset({"numbers": {"train": [(["a"], [1])]}}, class_names=None), "hub")
    name = dataset({"other": {"train": [(["a"], [0])]}}, tag="labels")
    with pytest.raises(
        DataError, match=r"the split train has no column 'ner_tags'; its columns are tokens, labels. .*--tag-column"
    ):
        read_splits(name, "hub")
    assert sizes(read_splits(name, "hub", tag_column="labels")) == {"train": 1}
    with pytest.raises(DataError, match="the format hub has no option 'text_field'"):
        read_splits(name, "hub", text_field="x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: the dataset cannot be loaded"):
        read_splits(tmp_path / "empty", "hub")


def test_splits_of_jsonl_files_are_read(tmp_path):
    write_jsonl(tmp_path / "corpus-train.jsonl.gz", [Document("a", "x")])
    assert sizes(read_splits(tmp_path, "jsonl")) == {"train": 1}
