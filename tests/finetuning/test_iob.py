"""Column files in every tagging scheme."""

import logging
import os
from collections import Counter
from pathlib import Path

import pytest

from modeling_binder.finetuning import DataError, documents_from_words, read_iob

DATA = os.environ.get("BINDER_DATA")


def read(tmp_path, content, **options):
    path = tmp_path / "file.tsv"
    path.write_text(content)
    return read_iob(path, **options)


def mentions(document):
    return [(document.text[m.start : m.end], m.label) for m in document.entities]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-G I-G O B-G", [("a b", "G"), ("d", "G")]),  # IOB2
        ("B-G B-G I-G O", [("a", "G"), ("b c", "G")]),
        ("I-G I-G O I-G", [("a b", "G"), ("d", "G")]),  # IOB1 and IO
        ("I-G B-G I-C I-C", [("a", "G"), ("b", "G"), ("c d", "C")]),
        ("B-G E-G S-G S-C", [("a b", "G"), ("c", "G"), ("d", "C")]),  # BIOES
        ("B-G I-G L-G U-C", [("a b c", "G"), ("d", "C")]),  # BILOU
        ("O E-G O B-G", [("b", "G"), ("d", "G")]),  # broken: repaired by conlleval's rules
        ("O O O O", []),
    ],
)
def test_schemes(tmp_path, tags, expected):
    (document,) = read(tmp_path, "\n".join(f"{t}\t{g}" for t, g in zip("abcd", tags.split(), strict=True)))
    assert mentions(document) == expected
    assert document.text == "a b c d" and document.words == ((0, 1), (2, 3), (4, 5), (6, 7))
    (same,) = documents_from_words([list("abcd")], [tags.split()])
    assert same.entities == document.entities


def test_layout(tmp_path):
    content = "-DOCSTART- -X- O O\n\nIL-2 NN B B-G\ngene NN I I-G\n \n\n###MEDLINE:1\nx y z O\n\n"
    first, second = read(tmp_path, content)
    assert (first.id, first.text, second.id, second.text) == ("file-1", "IL-2 gene", "file-2", "x")
    assert mentions(first) == [("IL-2 gene", "G")]


def test_another_scheme_than_iob2_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read(tmp_path, "a\tO\nb\tI-G\nc\tB-G")
    assert "file.tsv:2: I-G opens a mention; the file is read as IOB1 by conlleval's rules" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        read(tmp_path, "a\tB-G\nb\tI-G")
    assert not caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tO\nb", r"file\.tsv:2: expected a token and a tag, got 'b'"),
        ("a\tX-G", r"file\.tsv:1: unknown tag 'X-G'"),
        ("a\tB", r"file\.tsv:1: the tag 'B' names no type; write B-TYPE, or pass label="),
        ("-DOCSTART-\tO\n", "there is no token"),
        ("", "the file is empty"),
    ],
)
def test_problems_name_file_and_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def test_bare_tags_with_a_label(tmp_path):
    (document,) = read(tmp_path, "a\tB\nb\tI\nc\tO", label="Gene")
    assert mentions(document) == [("a b", "Gene")]


def test_lists_of_different_length():
    with pytest.raises(DataError, match="row 1: 2 words but 1 tags"):
        documents_from_words([["a"], ["b", "c"]], [["O"], ["O"]])
    with pytest.raises(DataError, match="got 1 lists of words and 0"):
        documents_from_words([["a"]], [])


@pytest.mark.skipif(not DATA, reason="BINDER_DATA does not name the folder of the real corpora")
@pytest.mark.parametrize(
    ("file", "sentences", "expected"),
    [
        ("ncbi-disease/iob/train.tsv", 5424, 5134),
        ("ncbi-disease/iob/devel.tsv", 923, 787),
        ("ncbi-disease/iob/test.tsv", 940, 960),
        ("bc5cdr/iob/test.tsv", 4797, 5385 + 4424),
        ("bc2gm/iob/devel.tsv", 2519, 3061),
        ("bionlp13cg/iob/test.tsv", 1906, 6881),
        ("jnlpba/iob/devel.tsv", None, 4551),
    ],
)
def test_counts_of_real_corpora(file, sentences, expected):
    documents = read_iob(Path(DATA) / file)
    assert sum(Counter(m.label for d in documents for m in d.entities).values()) == expected
    assert sentences is None or len(documents) == sentences
