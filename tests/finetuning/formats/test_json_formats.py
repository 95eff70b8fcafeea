"""JSON formats: doccano, Prodigy, BioC (JSON and XML), and lists of tokens with token spans."""

import gzip
import json

import pytest

from modeling_binder.finetuning import DataError, Document, Mention, read_documents
from modeling_binder.finetuning.formats import (
    detect_format,
    read_bioc,
    read_doccano,
    read_prodigy,
    read_token_spans,
    write_bioc,
    write_doccano,
)
from tests.finetuning.formats.helpers import found

EMOJI = "Great news 🎉 from Oslo"


def write_lines(tmp_path, *rows, name="a.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


# ---- doccano ----


@pytest.mark.parametrize(
    "row",
    [
        {"id": 3, "text": EMOJI, "label": [[19, 23, "X"]], "Comments": []},  # UTF-16 units, as in the editor
        {"id": 3, "text": EMOJI, "label": [[18, 22, "X"]]},  # code points, as in older versions
        {"id": 3, "text": EMOJI, "labels": [[18, 22, "X"]]},
        {"id": 3, "data": EMOJI, "label": [[19, 23, "X"]]},
        {"id": 3, "text": EMOJI, "entities": [[19, 23, "X"]]},
        {
            "id": 3,
            "text": EMOJI,
            "entities": [{"id": 1, "label": "X", "start_offset": 19, "end_offset": 23}],
            "relations": [],
        },
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_doccano_exports_are_read(tmp_path, row, name):
    path = write_lines(
        tmp_path, row, {"text": "Nothing", **{key: [] for key in row if key[:2] in ("la", "en")}}, name=name
    )
    assert detect_format(path) == "doccano"
    first, second = read_documents(path)
    assert first.id == "3" and found(first) == [("Oslo", "X")] and second == Document("a-2", "Nothing")


@pytest.mark.parametrize(
    ("text", "spans", "words"),
    [
        ("👨🏻‍🚒 saw Bob and e\u0301 Amy", [[6, 9, "X"], [16, 19, "X"]], ["Bob", "Amy"]),
        ("a\r\nक्षितिज in दिल्ली", [[2, 6, "X"], [10, 13, "X"]], ["क्षितिज", "दिल्ली"]),  # क्षि counts as two
    ],
)
def test_doccano_may_count_grapheme_clusters(tmp_path, text, spans, words):
    path = write_lines(tmp_path, {"text": text, "label": spans})
    (document,) = read_documents(path, "doccano", graphemes=True)
    assert found(document) == [(word, "X") for word in words]


def test_malformed_doccano_records_raise_an_error(tmp_path):
    for row, message in [
        ({"text": "a", "label": [[0, 9, "X"]]}, r"a\.jsonl:1: label\[0\]: spans 0\.\.9 in a text of 1"),
        ({"text": "a", "label": [[0, 1]]}, r"label\[0\]: expected \[start, end, type\], got \[0, 1\]"),
        ({"text": "a", "label": [[0, 1.0, "X"]]}, "'end' must be an integer, got 1.0"),
        ({"text": "a", "label": [[0, 1, ""]]}, "expected the name of an entity type"),
        ({"text": "a", "label": ["good"]}, r"label\[0\]: expected \[start, end, type\], got 'good'"),
        ({"text": "a", "label": "X"}, "'label' must be a list, got 'X'"),
        ({"label": [[0, 1, "X"]]}, "expected a string in 'text'"),
        ({"text": "a"}, "a.jsonl:1: expected 'text' and 'label'"),
        ({"text": "a", "annotations": [{"label": 3, "start_offset": 0, "end_offset": 1}]}, "the type is the number 3"),
        ({"text": "a \ud83d", "label": []}, "lone surrogate .* at offset 2"),
    ]:
        with pytest.raises(DataError, match=message):
            read_doccano(write_lines(tmp_path, row))


def test_doccano_is_written_in_utf16_units(tmp_path):
    write_doccano([Document("d", EMOJI, (Mention(18, 22, "X"), Mention(11, 12, "Emoji")))], tmp_path / "a.jsonl")
    row = json.loads((tmp_path / "a.jsonl").read_text())
    assert row == {"id": "d", "text": EMOJI, "label": [[19, 23, "X"], [11, 13, "Emoji"]], "offsets": "utf-16"}
    assert found(read_documents(tmp_path / "a.jsonl")[0]) == [("Oslo", "X"), ("🎉", "Emoji")]


# ---- Prodigy ----


def prodigy(text, *spans, **fields):
    """Return an accepted task of Prodigy."""
    return {"text": text, "spans": list(spans), "_input_hash": 5, "_task_hash": 6, "answer": "accept", **fields}


def test_accepted_prodigy_tasks_are_read(tmp_path, caplog):
    tokens = [{"text": word, "id": number} for number, word in enumerate(EMOJI.split())]
    path = write_lines(
        tmp_path,
        prodigy(EMOJI, {"start": 18, "end": 22, "label": "X", "token_start": 4, "token_end": 4}, tokens=tokens),
        prodigy(EMOJI, {"start": 19, "end": 23, "label": "X", "token_start": 4, "token_end": 4}, tokens=tokens),
        prodigy(EMOJI, {"start": 18, "end": 22, "label": "X", "text": "Oslo"}, meta={"id": 3}, id="mine"),
        prodigy("Rejected", {"start": 0, "end": 8, "label": "X"}, answer="reject"),
        prodigy("Ignored", answer="ignore"),
        {"text": "No spans", "answer": "accept", "_session_id": "a"},
    )
    documents = read_documents(path)
    assert [found(document) for document in documents] == [[("Oslo", "X")]] * 3 + [[]]
    assert [document.id for document in documents] == ["a-1", "a-2", "mine", "a-6"]
    assert "left out 2 of 6 tasks, which were rejected or ignored" in caplog.text


def test_malformed_prodigy_tasks_raise_an_error(tmp_path):
    for row, message in [
        (prodigy("a", answer="reject"), "none of the 1 tasks was accepted"),
        (prodigy("a", answer="maybe"), "'answer' must be accept, reject or ignore"),
        (
            prodigy("a", {"start": 0, "end": 1}),
            r"a\.jsonl:1: spans\[0\]: expected the name of an entity type, got None",
        ),
        (prodigy("ab", {"start": 0, "end": 1, "label": "X", "text": "b"}), r"the text at 0\.\.1 is 'a', not 'b'"),
        (prodigy("ab", 3), r"spans\[0\]: expected an object"),
        (prodigy(None), "expected a string in 'text'"),
        ({"text": "a", "label": "X"}, "expected 'text' and 'spans'"),
    ]:
        with pytest.raises(DataError, match=message):
            read_prodigy(write_lines(tmp_path, row))


# ---- BioC ----


def passage(offset, text, *annotations, **fields):
    """Return a passage of a BioC document."""
    return {"offset": offset, "infons": {}, "text": text, "annotations": list(annotations), **fields}


def annotation(offset, length, text, label="X", **fields):
    """Return an annotation of a BioC document, which is a mention."""
    locations = [{"offset": offset, "length": length}]
    return {"id": "1", "infons": {"type": label, "identifier": "9"}, "text": text, "locations": locations, **fields}


DOCUMENT = {
    "id": "PMC1",
    "passages": [
        passage(0, "In Oslo.", annotation(3, 4, "Oslo")),
        passage(9, "Rome 🎉 too, Oslo.", annotation(9, 4, "Rome"), annotation(21, 4, "Oslo", "Y"), relations=[]),
    ],
    "relations": [],
}


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"source": "x", "documents": [DOCUMENT]}, indent=1),
        json.dumps({"PubTator3": [DOCUMENT]}),
        json.dumps(DOCUMENT),
        json.dumps([DOCUMENT]),
    ],
)
def test_bioc_json_is_read(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert detect_format(tmp_path / "a.json") == "bioc"
    (document,) = read_documents(tmp_path / "a.json")
    assert document.id == "PMC1" and document.text == "In Oslo. Rome 🎉 too, Oslo."
    assert found(document) == [("Oslo", "X"), ("Rome", "X"), ("Oslo", "Y")]


BIOC_XML = """<?xml version="1.0" encoding="{encoding}"?>
<!DOCTYPE collection SYSTEM "BioC.dtd">
<collection><source>ours</source><date/><key/>
<document><id>1</id>
<passage><offset>0</offset><text>Café in Oslo &amp; Rome</text>
<annotation id="T1"><infon key="type">Place</infon><location offset="8" length="4"/><text>Oslo</text></annotation>
<annotation id="T2"><infon key="type">Place</infon><location offset="15" length="4"/><location offset="0" length="4"/>
<text>Café Rome</text></annotation></passage>
<passage><infon key="type">body</infon><offset>100</offset><sentence><offset>100</offset><text>A é Oslo.</text>
<annotation id="T3"><infon key="type">Place</infon><location offset="104" length="4"/><text>Oslo</text></annotation>
</sentence><sentence><offset>110</offset><text>More.</text></sentence></passage>
</document></collection>
"""


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1"])
def test_bioc_xml_is_read(tmp_path, encoding, caplog):
    path = tmp_path / "a.xml.gz"
    path.write_bytes(gzip.compress(BIOC_XML.format(encoding=encoding).encode(encoding)))
    assert detect_format(path) == "bioc"
    (document,) = read_documents(path)
    assert document.text == f"Café in Oslo & Rome{' ' * 81}A é Oslo. More."
    assert found(document) == [("Oslo", "Place"), ("Café in Oslo & Rome", "Place"), ("Oslo", "Place")]


def test_variants_of_bioc_are_read(tmp_path, caplog):
    """Offsets may count bytes. They have a gap if passages of the article are missing from the file.

    An annotation belongs to the document or to a passage.
    """
    sentences = [{"offset": 5005, "text": "Rome.", "annotations": []}]
    document = {
        "id": "1",
        "passages": [
            passage(
                0, "é in Oslo", annotation(6, 4, "Oslo"), {"id": "m", "infons": {"type": "Topic"}, "locations": []}
            ),
            {"offset": 5005, "sentences": sentences, "annotations": [annotation(5005, 4, "Rome")]},
        ],
        "annotations": [annotation(0, 2, "é")],
    }
    (read,) = read_bioc(write_lines(tmp_path, document))
    assert read.text == "é in Oslo\nRome." and found(read) == [("é", "X"), ("Oslo", "X"), ("Rome", "X")]
    assert "left out 1 annotations without a location" in caplog.text


def test_annotations_of_a_document_in_bioc_xml_are_read(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(
        "<collection><document><id>1</id><passage><offset>0</offset><text>In Oslo.</text></passage>"
        '<annotation id="T1"><infon key="type">Place</infon><location offset="3" length="4"/><text>Oslo</text>'
        "</annotation></document></collection>"
    )
    assert read_documents(path) == [Document("1", "In Oslo.", (Mention(3, 7, "Place"),))]


def test_malformed_bioc_raises_an_error(tmp_path):
    def document(*annotations):
        return {"id": "d", "passages": [passage(0, "Oslo", *annotations)]}

    for row, message in [
        (document(annotation(0, 4, "Rome")), r"document 'd', annotation '1': the text at 0\.\.4 is 'Oslo', not 'Rome'"),
        (document(annotation(2, 4, "lo")), r"spans 2\.\.6 in a text of 4"),
        (document(annotation(0, 4, "Oslo", infons={})), "the annotation has no type; expected the infon 'type'"),
        (document(annotation(0, "4", "Oslo")), "'length' must be an integer, got '4'"),
        (document(3), "expected an annotation, got 3"),
        ({"id": "d", "passages": [3]}, "expected a passage"),
        ({"id": "d", "passages": [{"text": "a"}]}, "'offset' must be an integer, got None"),
        ({"documents": []}, "the file contains no document"),
        ({"text": "a"}, "expected 'documents' or 'passages', got the fields 'text'"),
    ]:
        with pytest.raises(DataError, match=message):
            read_bioc(write_lines(tmp_path, row))
    for content, message in [("<collection>", "not valid XML"), ("<collection/>", "the file contains no <document>")]:
        (tmp_path / "a.xml").write_text(content)
        with pytest.raises(DataError, match=message):
            read_bioc(tmp_path / "a.xml")


def test_bioc_is_written_with_scores(tmp_path):
    entities = [{"start": 5, "end": 9, "label": "X", "score": 0.75}, {"start": 0, "end": 1, "label": "Emoji"}]
    write_bioc([{"id": 1, "text": "🎉 in\nOslo"[:4] + "\nOslo", "entities": entities}], tmp_path / "a.json")
    (document,) = json.loads((tmp_path / "a.json").read_text())["documents"]
    first, second = document["passages"][0]["annotations"]
    assert first == {
        "id": "1",
        "infons": {"type": "X", "score": "0.75"},
        "text": "Oslo",
        "locations": [{"offset": 5, "length": 4}],
    }
    assert second["infons"] == {"type": "Emoji"}
    assert found(read_documents(tmp_path / "a.json")[0]) == [("Oslo", "X"), ("🎉", "Emoji")]


# ---- lists of tokens with token spans ----

SPAN_ROWS = [
    {"tokens": ["The", "IL-2", "gene"], "entities": [{"start": 1, "end": 3, "type": "DNA"}]},
    {"sentence": ["The", "IL-2", "gene"], "ner": [{"index": [1, 2], "type": "DNA"}]},
    {"tokenized_text": ["The", "IL-2", "gene"], "ner": [[1, 2, "DNA"]]},
    {"tokenized_text": ["The", "IL-2", "gene"], "ner": [[1, 2, "DNA", "IL-2 gene"]]},
    {
        "tokenized_text": ["The", "IL-2", "gene"],
        "ner": [[1, 3, "DNA", "IL-2 gene"]],
    },  # the end is exclusive, as the text of the mention shows
    {"tokens": ["The", "IL-2", "gene"], "entities": [{"start": 1, "end": 2, "type": "DNA", "text": "IL-2 gene"}]},
    {"tokens": ["The", "", "IL-2", " ", "gene "], "entities": [{"start": 1, "end": 5, "label": "DNA"}]},  # blank tokens
]


@pytest.mark.parametrize("row", SPAN_ROWS)
@pytest.mark.parametrize("form", ["lines", "list"])
def test_all_variants_of_token_spans_are_read(row, form, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([row, row]) if form == "list" else f"{json.dumps(row)}\n\n{json.dumps(row)}\n")
    assert detect_format(path) == "gliner"
    first, second = read_documents(path)
    assert found(first) == [("IL-2 gene", "DNA")] and first.words == ((0, 3), (4, 8), (9, 13))
    assert first.id != second.id


def test_a_line_separator_in_a_token_is_kept(tmp_path):
    row = {"tokenized_text": ["a\u2028b", "c\x85"], "ner": [[0, 0, "X"]]}
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(row, ensure_ascii=False) + "\r\n")
    assert found(read_documents(tmp_path / "a.json")[0]) == [("a\u2028b", "X")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no row"),
        ('{"tokens": ["a"], "ner": []}\n{"tokens"', r"a\.json:2: not valid JSON"),
        ('{"words": ["a"]}', r"a\.json:1: expected 'tokens' and 'entities'"),
        ('{"tokens": ["a"]}', r"a\.json:1: expected 'tokens' and .*, got the fields 'tokens'"),
        (
            '{"tokens": ["a"], "entities": [{"start": 0, "end": 2, "type": "X"}]}',
            r"spans the tokens 0\.\.1, but there are 1 tokens",
        ),
        ('{"tokens": ["a"], "entities": [{"start": "0", "end": 1, "type": "X"}]}', "expected 'tokens' and 'entities'"),
        ('{"tokens": ["a"], "entities": [{"start": 0, "end": 1, "type": ""}]}', "has no type"),
        ('{"tokens": ["a", " "], "entities": [{"start": 1, "end": 2, "type": "X"}]}', r"the tokens 1\.\.1 of a X are"),
        ('{"tokens": ["a", 3], "entities": []}', "the token 3 is not a string"),
        ('{"tokens": ["a", "b"], "ner": [[0, 0, "X", "b"]]}', r"the tokens 0\.\.0 are 'a', but the text .* is 'b'"),
        ('{"tokens": ["\\ud83d"], "ner": []}', "lone surrogate"),
    ],
)
def test_malformed_token_spans_raise_an_error(text, message, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_token_spans(tmp_path / "a.json")
