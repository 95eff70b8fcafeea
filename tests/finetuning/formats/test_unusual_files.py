"""Unusual files that real tools write.

The reader returns the right documents, or raises an error that names the reason.
"""

import codecs
import gzip
import json

import pytest

from modeling_binder.finetuning import DataError, Document, Mention, load_corpus
from modeling_binder.finetuning.data import read_entity_types
from modeling_binder.finetuning.formats import FORMATS, read_documents, read_splits, write_format
from modeling_binder.finetuning.iob import documents_from_words
from modeling_binder.finetuning.splits import splits_in
from tests.finetuning.formats.helpers import write

WORDS = [("Mila", "B-PER"), ("moved", "O"), ("to", "O"), ("Port", "B-LOC"), ("Ellen", "I-LOC"), (".", "O")]
MENTIONS = [("Mila", "PER"), ("Port Ellen", "LOC")]


def found(documents):
    """Return the text and the label of each mention in all documents."""
    return [(document.text[m.start : m.end], m.label) for document in documents for m in document.entities]


def columns(cells):
    """Return a column file with the sentence WORDS twice. `cells(number, word, tag)` returns the cells of a row."""
    sentence = "".join("\t".join(cells(n, word, tag)) + "\n" for n, (word, tag) in enumerate(WORDS, 1))
    return f"{sentence}\n{sentence}"


@pytest.mark.parametrize(
    "first",
    [
        lambda n, word: f"1-{n}",
        lambda n, word: f"w{n}",
        lambda n, word: f"s2_w{n}",
        lambda n, word: f"{5 * n}:{5 * n + len(word)}",
        lambda n, word: "PROPN" if word[0].isupper() else "PUNCT" if word == "." else "VERB",
        lambda n, word: "NNP" if word[0].isupper() else "." if word == "." else "VBD",
    ],
)
def test_indices_and_parts_of_speech_are_not_read_as_tokens(tmp_path, first):
    path = write(tmp_path, "a.tsv", columns(lambda n, word, tag: (first(n, word), word, tag)))
    assert found(read_documents(path)) == MENTIONS * 2


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (lambda n: f"0.{97 - 7 * n}", r"column 1 \(first cell: '0\.90'\) holds numbers only;"),
        (lambda n: f"{n % 3}.5%", "column 1 .* holds numbers only"),
        (lambda n: f"{chr(90 - n)}{10 - n}", "column 1 .* holds numbers in every cell"),
    ],
)
def test_a_column_of_numbers_is_not_read_as_the_column_of_tokens(tmp_path, first, message):
    path = write(tmp_path, "a.tsv", columns(lambda n, word, tag: (first(n), word, tag)))
    with pytest.raises(DataError, match=message):
        read_documents(path)
    assert found(read_documents(path, token_column=2)) == MENTIONS * 2


def test_a_column_with_few_different_values_is_not_read_as_the_column_of_tokens(tmp_path):
    rows = "".join(f"{'NE' if n % 2 else 'ADJA'}\tword{chr(97 + n)}\t{'B-X' if n % 2 else 'O'}\n" for n in range(24))
    with pytest.raises(
        DataError, match=r"column 1 \(first cell: 'ADJA'\) holds 2 different values, and column 2 .* 24;"
    ):
        read_documents(write(tmp_path, "a.tsv", rows))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.conll", "Mila\tB-PER\rsings\tO\r"),
        ("a.pubtator", "1|t|Mila\r1|a|sings\r1\t0\t4\tMila\tPER\r"),
        ("a.conllu", "1\tMila\t_\tX\t_\t_\t0\troot\t_\tNER=B-PER\r2\tsings\t_\tX\t_\t_\t0\troot\t_\t_\r"),
    ],
)
def test_lines_that_end_with_a_carriage_return_alone_raise_an_error(tmp_path, name, content):
    with pytest.raises(DataError, match=r"the lines end at \\r alone"):
        read_documents(write(tmp_path, name, content), "pubtator" if name.endswith("pubtator") else None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.conll", "Mila\tB-PER\n"),
        ("a.jsonl", '{"text": "Mila", "entities": []}\n'),
        ("a.txt", "Мила поёт в хоре"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_byte_order_mark_raises_an_error(tmp_path, name, content, encoding):
    write(tmp_path, "a.ann", "")
    with pytest.raises(DataError, match=f"{name}:1: not UTF-8 but UTF-16"):
        read_documents(write(tmp_path, name, content.encode(encoding)))


@pytest.mark.parametrize("name", ["a.conll", "a.jsonl", "a.conllu"])
def test_byte_order_marks_of_concatenated_files_are_removed(tmp_path, name):
    part = {
        "a.conll": "-DOCSTART- O\n\nMila B-PER\n\n",
        "a.jsonl": '{"text": "Mila", "entities": [{"start": 0, "end": 4, "label": "PER"}]}\n',
        "a.conllu": "# x\n1\tMila\t_\tX\t_\t_\t0\troot\t_\tNER=B-PER\n\n",
    }[name]
    documents = read_documents(write(tmp_path, name, 2 * f"\ufeff{part}"))
    assert [document.text for document in documents] == ["Mila", "Mila"]
    assert found(documents) == [("Mila", "PER")] * 2


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.tsv", "test_a.tsv", "test_b.tsv"], {"train": 1, "dev": 1, "test": 1}),
        (["test_corpus/train.tsv", "test_corpus/dev.tsv"], {"train": 1, "dev": 1}),
        (["train.tsv", "types.json", "report.json"], {"train": 1}),
    ],
)
def test_unusual_names_of_files_determine_the_right_splits(tmp_path, names, splits):
    for name in names:
        write(tmp_path, name, columns(lambda n, word, tag: (word, tag)).split("\n\n")[0])
    assert {split: len(read) for split, read in read_splits(tmp_path, "conll").items()} == splits


@pytest.mark.parametrize("others", [["dev.bmes"], ["Test.txt.bak"], ["validation.char.bmes", "readme.md"]])
def test_leaving_out_the_only_file_of_a_split_raises_an_error(tmp_path, others):
    text = columns(lambda n, word, tag: (word, tag))
    for name in ("train.conll", *others):
        write(tmp_path, name, text)
    with pytest.raises(DataError, match=f"'{others[0]}' would be left out"):
        read_splits(tmp_path, "conll")
    read = read_splits(tmp_path, "conll", {"train": ["train.conll"], "dev": [others[0]]})
    assert {split: len(documents) for split, documents in read.items()} == {"train": 2, "dev": 2}


def test_a_file_name_that_contains_two_splits_raises_an_error(tmp_path):
    write(tmp_path, "test_of_train.tsv", "Mila\tB-PER\n")
    with pytest.raises(DataError, match=r"cannot tell the split of 'test_of_train\.tsv':"):
        read_splits(tmp_path, "conll")
    assert [splits_in(name) for name in ("eng.test-a", "latest_b")] == [["dev"], []]


@pytest.mark.parametrize("name", ["dev.bmes", "validation.parquet", "test/a.jsonl"])
def test_a_corpus_folder_with_a_split_that_cannot_be_read_raises_an_error(tmp_path, name):
    write(tmp_path, "types.json", '{"PER": "The name of a person."}')
    write(tmp_path, "train.conll", "Mila\tB-PER\n")
    write(tmp_path, name, "Mila\tB-PER\n")
    with pytest.raises(DataError, match="is named like the split"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("suffixes", [(".ANN", ".TXT"), (".ann.gz", ".txt.gz"), (".Ann", ".txt")])
def test_brat_files_with_other_suffixes_are_read(tmp_path, suffixes):
    contents = ["T1\tPER 0 4\tMila\n", "Mila sings."]
    for name, content in zip(suffixes, contents, strict=True):
        write(tmp_path, f"b{name}", gzip.compress(content.encode()) if name.endswith(".gz") else content)
    write(tmp_path, "a.ann", "")
    write(tmp_path, "a.txt", "Nobody.")
    assert found(read_documents(tmp_path, "brat")) == [("Mila", "PER")]
    assert found(read_documents(tmp_path / f"b{suffixes[0]}")) == [("Mila", "PER")]


@pytest.mark.parametrize("offset", [0, 1])
def test_offsets_of_brat_may_count_the_byte_order_mark(tmp_path, offset):
    write(tmp_path, "a.txt", codecs.BOM_UTF8 + "Mila 🎻 in Ulm".encode())
    spans = [(0, 4, "PER", "Mila"), (10, 13, "LOC", "Ulm")]
    rows = (f"T{n}\t{label} {a + offset} {b + offset}\t{text}\n" for n, (a, b, label, text) in enumerate(spans))
    (document,) = read_documents(write(tmp_path, "a.ann", "".join(rows)))
    assert found([document]) == [("Mila", "PER"), ("Ulm", "LOC")]
    assert document.text == "Mila 🎻 in Ulm"


@pytest.mark.parametrize(
    "spans", [[[0, 1, "PER"], [3, 5, "LOC", "Port Ellen"]], [[3, 5, "LOC", "Port Ellen"], [0, 1, "PER"]]]
)
def test_the_ends_of_token_spans_in_a_file_are_all_inclusive_or_all_exclusive(tmp_path, spans):
    rows = [{"tokenized_text": [word for word, _ in WORDS], "ner": spans}]
    assert set(found(read_documents(write(tmp_path, "a.json", json.dumps(rows))))) == set(MENTIONS)


def region(text, start, end, **fields):
    value = {"start": start, "end": end, "text": text, "labels": ["PER"]}
    return {"id": "r", "type": "labels", "from_name": "label", "value": value, **fields}


def test_label_studio_regions_of_another_text_field_raise_an_error(tmp_path):
    data = {"title": "Mila sings", "text": "Mila and Ada"}
    results = [region("Mila", 0, 4, to_name="title"), region("Ada", 9, 12, to_name="text")]
    tasks = [{"id": 1, "data": data, "annotations": [{"id": 2, "result": results}]}]
    path = write(tmp_path, "a.json", json.dumps(tasks))
    with pytest.raises(DataError, match="task 1: a region is in the text 'title', not in 'text'"):
        read_documents(path)
    assert found(read_documents(path, text_field="text")) == [("Ada", "PER")]
    assert found(read_documents(path, text_field="title")) == [("Mila", "PER")]


@pytest.mark.parametrize("key", ["name", "role", "user"])
def test_json_min_regions_may_have_a_field_for_the_speaker(tmp_path, key):
    region = {"start": 0, "end": 4, "text": "Mila", "labels": ["PER"], key: "x"}
    record = {"id": 1, "text": "Mila sings", "ner": [region], "annotator": 1, "annotation_id": 1}
    assert found(read_documents(write(tmp_path, "a.json", json.dumps([record])))) == [("Mila", "PER")]


ENTITY = {"id": 1, "label": "PER", "start_offset": 0, "end_offset": 4}


@pytest.mark.parametrize(
    "rows",
    [
        [{"id": 1, "text": "Mila sings", "label": [], "entities": [ENTITY], "relations": []}],
        [{"id": n, "text": "Mila sings", "entities": [ENTITY] if n == 60 else [], "Comments": []} for n in range(61)],
        [{"id": 1, "text": "Mila sings", "label": [[0, 4, "PER"]], "entities": []}],
    ],
)
def test_doccano_files_with_empty_fields_are_read(tmp_path, rows):
    path = write(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert found(read_documents(path)) == [("Mila", "PER")]


@pytest.mark.parametrize("fields", [{"options": [{"id": "A"}], "accept": ["A"]}, {"label": "A"}, {"accept": []}])
def test_prodigy_tasks_without_spans_raise_an_error(tmp_path, fields):
    task = {"text": "Mila sings", "_input_hash": 1, "answer": "accept", **fields}
    with pytest.raises(DataError, match="expected 'text' and 'spans'"):
        read_documents(write(tmp_path, "a.jsonl", json.dumps(task)), "prodigy")


def conllu_sentence(*rows):
    """Return a sentence in CoNLL-U. Each item of `rows` is (ID, FORM, MISC)."""
    return "".join(f"{n}\t{form}\t_\tX\t_\t_\t0\troot\t_\t{misc}\n" for n, form, misc in rows) + "\n"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("1-2", "dell'UE", "NER=O"), ("1", "di", "_"), ("2", "UE", "NER=B-ORG")], [("UE", "ORG")]),
        ([("1-2", "al", "NER=O"), ("1", "a", "NER=B-LOC"), ("2", "il", "NER=I-LOC")], [("al", "LOC")]),
        ([("1", "Ulm", "Name=Ulm|NER=B-LOC")], [("Ulm", "LOC")]),
    ],
)
def test_all_tags_of_a_conllu_file_are_read(tmp_path, rows, expected):
    assert found(read_documents(write(tmp_path, "a.conllu", conllu_sentence(*rows)))) == expected


def test_a_conllu_token_and_word_with_different_types_raise_an_error(tmp_path):
    rows = [("1-2", "dell'UE", "NER=B-ORG"), ("1", "di", "_"), ("2", "UE", "NER=B-LOC")]
    with pytest.raises(DataError, match=r"a\.conllu:3: the word 'UE' has the tag B-LOC, but the token"):
        read_documents(write(tmp_path, "a.conllu", conllu_sentence(*rows)))


@pytest.mark.parametrize(
    ("cell", "labels"),
    [(r"\*", ["*"]), (r"A\\[1]|B[2]", ["A\\", "B"]), (r"code\[1\]", ["code[1]"]), (r"A\|B\_C", ["A|B_C"])],
)
def test_escaped_characters_in_types_of_webanno_are_read(tmp_path, cell, labels):
    text = f"#FORMAT=WebAnno TSV 3.3\n#T_SP=webanno.custom.Drug|value\n\n\n#Text=Mila\n1-1\t0-4\tMila\t{cell}\t\n"
    assert [label for _, label in found(read_documents(write(tmp_path, "a.tsv", text)))] == labels


@pytest.mark.parametrize("encoding", ["FOO-8", "shift_jis", "utf-16"])
def test_xml_is_read_or_an_unknown_encoding_raises_an_error(tmp_path, encoding):
    xml = f'<?xml version="1.0" encoding="{encoding}"?><collection><document><id>1</id><passage><offset>0</offset>'
    xml += "<text>Mila</text></passage></document></collection>"
    path = write(tmp_path, "a.xml", xml.encode("utf-16" if encoding == "utf-16" else "ascii"))
    if encoding == "utf-16":
        assert [document.text for document in read_documents(path)] == ["Mila"]
    else:
        with pytest.raises(DataError, match=r"a\.xml: not valid XML .*; convert the file to UTF-8"):
            read_documents(path)


@pytest.mark.parametrize("identifier", ["", " ", "\t"])
@pytest.mark.parametrize("format", [name for name, format in FORMATS.items() if format.write])
def test_documents_with_a_blank_id_are_written_and_read_again(tmp_path, format, identifier):
    documents = [Document(identifier, text, (Mention(0, 4, "PER"),)) for text in ("Mila sings", "Otto reads")]
    path = tmp_path / f"out{FORMATS[format].suffixes[0]}" if format != "brat" else tmp_path
    write_format(documents, path, format)
    assert found(read_documents(path, format)) == [("Mila", "PER"), ("Otto", "PER")]


@pytest.mark.parametrize("value", ["[" * 200_000, '{"a":' * 200_000, "1" * 5_000])
def test_a_types_file_that_the_json_parser_cannot_read_raises_an_error(tmp_path, value):
    with pytest.raises(DataError, match=r"types\.json: not valid JSON"):
        read_entity_types(write(tmp_path, "types.json", f'{{"PER": {value}'))


@pytest.mark.parametrize(("words", "tags"), [(["ab"], ["OO"]), ([None], [[]]), ([["a"]], ["O"])])
def test_rows_that_are_not_lists_of_words_and_tags_raise_an_error(words, tags):
    with pytest.raises(DataError, match="row 0: expected a list of words and a list of tags"):
        documents_from_words(words, tags)
