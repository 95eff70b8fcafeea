"""Detection of the format of a file."""

import json

import pytest

from modeling_binder.finetuning import DataError, Document, Mention, read_documents
from modeling_binder.finetuning.formats import detect_format
from tests.finetuning.formats.helpers import write


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.jsonl", '{"text": "a", "entities": []}', "jsonl"),
        ("a.json", '{"text": "a", "entities": [{"start": 0, "end": 1, "label": "X"}]}', "jsonl"),
        ("a", '{"text": "a", "entities": [], "spans": []}', "jsonl"),
        ("a.jsonl", '{"text": "a", "spans": [], "answer": "accept"}', "prodigy"),
        ("a.json", '[{"id": 1, "text": "a", "annotator": 1}]', "label-studio"),
        ("a.json", '[{"text": "a", "label": [{"start": 0, "end": 1, "labels": ["X"]}]}]', "label-studio"),
        ("a.json", '[{"id": 1, "data": {"text": "a"}, "completions": []}]', "label-studio"),
        ("a.jsonl", '{"text": "a", "labels": [[0, 1, "X"]]}', "doccano"),
        ("a.jsonl", "nonsense", "jsonl"),
        ("a.tsv", "#FORMAT=WebAnno TSV 3.3\n", "webanno"),
        ("a.tsv", "a\tO\n", "conll"),
        ("eng.testa", "a NN O\n", "conll"),
        ("a.txt", "\ufeff\n12-a|t|Title\n", "pubtator"),
        ("a.conll", "# global.columns = ID FORM NER\n1\ta\tO\n", "conllu"),
        ("a.conllu", "", "conllu"),
        ("a.spacy", b"\x00", "docbin"),
        ("a.xml", "<?xml version='1.0'?><!-- x --><collection/>", "bioc"),
        ("a.nxml", "<PubmedArticleSet/>", "pubmed"),
        ("a.ann", "", "brat"),
    ],
)
def test_the_format_is_detected_from_content_and_suffix(tmp_path, name, content, format):
    assert detect_format(write(tmp_path, name, content)) == format


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xml", "<html/>", "XML with <html> is unknown; expected BioC"),
        ("a.zip", "PK", "this is a zip archive; unpack it"),
        ("a/b.txt", "x", "this is a folder without .ann files"),
    ],
)
def test_files_in_unknown_formats_raise_an_error(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(DataError, match=message):
        read_documents(path.parent if "/" in name else path)


TEXT = {"id": 1, "text": "Amy ran in Paris."}
SPAN = {"start": 0, "end": 3, "label": "X"}
OWN = {**TEXT, "entities": [SPAN]}
DOCCANO = {**TEXT, "label": [[0, 3, "X"]]}
RELATIONS = {**TEXT, "entities": [{"start_offset": 0, "end_offset": 3, "label": "X"}], "relations": []}
PRODIGY = {**TEXT, "spans": [SPAN]}
JSON_MIN = {**TEXT, "name": [{"start": 0, "end": 3, "text": "Amy", "labels": ["X"]}]}
# Fields of other formats. Tools keep such fields of the imported texts, and export them again.
METADATA = [
    {"annotator": "kim"},
    {"lead_time": 1.5},
    {"answer": "accept", "_task_hash": 1},
    {"documents": ["a.pdf"], "passages": None},
    {"relations": [], "Comments": []},
    {"meta": {"source": "b"}, "tokens": ["Amy"]},
    {"sentences": [{"start_offset": 0, "end_offset": 17}]},
    {"topics": [{"labels": ["a"]}], "boxes": [[10, 20, 30]]},
]


@pytest.mark.parametrize("metadata", METADATA)
@pytest.mark.parametrize(
    ("record", "format"),
    [(OWN, "jsonl"), (DOCCANO, "doccano"), (RELATIONS, "doccano"), (PRODIGY, "prodigy"), (JSON_MIN, "label-studio")],
)
def test_annotations_show_the_format_whatever_metadata_a_file_has(tmp_path, record, format, metadata):
    path = write(tmp_path, "a.jsonl", json.dumps({**metadata, **record}))
    assert detect_format(path) == format
    assert read_documents(path) == [Document("1", TEXT["text"], (Mention(0, 3, "X"),))]


@pytest.mark.parametrize(
    ("metadata", "format"),
    [
        ({"annotations": [{"result": []}]}, "jsonl"),
        ({"spans": [[0, 3, "Y"]]}, "jsonl"),
        ({"spans": [{"start": 4, "end": 7, "label": "Y"}], "answer": "accept"}, "jsonl"),
        ({"passages": [{"offset": 0, "text": "x"}]}, "jsonl"),
    ],
)
def test_our_entities_weigh_more_than_annotations_in_other_fields(tmp_path, metadata, format):
    empty = {"id": 0, "text": "Oslo", "entities": []}
    path = write(tmp_path, "a.jsonl", "\n".join(json.dumps({**metadata, **record}) for record in (empty, OWN)))
    assert detect_format(path) == format
    assert [len(document.entities) for document in read_documents(path)] == [0, 1]


@pytest.mark.parametrize(
    ("record", "format"),
    [
        ({"id": "1", "text": "x", "passages": [{"offset": 0, "text": "x"}]}, "bioc"),
        ({"text": "x", "labels": ["X"], "answer": "accept"}, "prodigy"),
        ({"text": "x", "label": ["a"], "annotator": 1}, "label-studio"),
        ({"text": "x", "label": []}, "doccano"),
        ({"text": "x", "entities": [], "spans": [{"start": 0, "end": 1, "label": "X"}]}, "jsonl"),
    ],
)
def test_formats_of_unusual_records(tmp_path, record, format):
    assert detect_format(write(tmp_path, "a.jsonl", json.dumps(record))) == format


def test_the_labels_of_doccano_weigh_more_than_imported_entities(tmp_path):
    imported = {"text": "Oslo", "entities": [{"start": 0, "end": 4, "label": "Y"}], "label": []}
    exported = {**imported, **DOCCANO, "entities": []}
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, [imported] * 60 + [exported])))
    documents = read_documents(path)
    assert [mention.label for document in documents for mention in document.entities] == ["Y"] * 60 + ["X"]


def test_our_fields_are_kept_in_files_with_fields_of_other_tools(tmp_path):
    record = {**OWN, "relations": [], "types": ["X"], "undecided": [[11, 16]], "words": [[0, 3]]}
    expected = Document("1", TEXT["text"], (Mention(0, 3, "X"),), ((0, 3),), ((11, 16),), ("X",))
    assert read_documents(write(tmp_path, "a.jsonl", json.dumps(record))) == [expected]
    del record["entities"][:]
    assert read_documents(write(tmp_path, "a.jsonl", json.dumps(record)))[0].types == ("X",)


def test_objects_with_offsets_in_the_field_annotations_are_read(tmp_path):
    path = write(tmp_path, "a.json", json.dumps([{**TEXT, "annotations": [SPAN]}]))
    assert read_documents(path) == [Document("1", TEXT["text"], (Mention(0, 3, "X"),))]
    with pytest.raises(DataError, match=r"task 1: expected 'result' in each item of 'annotations', got the fields"):
        read_documents(path, "label-studio")


@pytest.mark.parametrize("record", [DOCCANO, RELATIONS])
def test_annotations_of_doccano_raise_an_error_if_they_are_read_as_label_studio(tmp_path, record):
    path = write(tmp_path, "a.jsonl", json.dumps(record))
    with pytest.raises(DataError, match=r"a\.jsonl:1: .* has annotations as in doccano; read the file as 'doccano'"):
        read_documents(path, "label-studio")


@pytest.mark.parametrize("record", [DOCCANO, PRODIGY, OWN])
@pytest.mark.parametrize("position", [0, 3])
def test_the_error_for_a_broken_line_names_this_line(tmp_path, record, position):
    lines = [json.dumps({**record, "id": number}) for number in range(6)]
    lines[position] = lines[position][:-9]
    with pytest.raises(DataError, match=rf"^\S*a\.jsonl:{position + 1}: not valid JSON"):
        read_documents(write(tmp_path, "a.jsonl", "\n".join(lines)))
