"""Reading mentions from column files and lists of tags, in all tagging schemes."""

import logging
import os
from collections import Counter
from pathlib import Path

import pytest

from modeling_binder.finetuning import DataError, documents_from_words, read_iob

DATA = os.environ.get("BINDER_DATA")


def read(tmp_path, content, **options):
    path = tmp_path / "file.tsv"
    path.write_bytes(content.encode())
    return read_iob(path, **options)


def mentions(document):
    """Return the text and the label of each mention."""
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
        ("B-G M-G E-G S-C", [("a b c", "G"), ("d", "C")]),  # BMES
        ("O E-G O B-G", [("b", "G"), ("d", "G")]),  # an invalid sequence, which the rules of conlleval repair
        ("O O O O", []),
    ],
)
def test_mentions_are_read_in_all_tagging_schemes(tmp_path, tags, expected):
    (document,) = read(tmp_path, "\n".join(f"{t}\t{g}" for t, g in zip("abcd", tags.split(), strict=True)))
    assert mentions(document) == expected
    assert document.text == "a b c d" and document.words == ((0, 1), (2, 3), (4, 5), (6, 7))
    (same,) = documents_from_words([list("abcd")], [tags.split()])
    assert same.entities == document.entities


def test_rows_between_sentences_are_skipped(tmp_path):
    content = "-DOCSTART- -X- O O\n\nIL-2 NN B B-G\ngene NN I I-G\n \n\n###MEDLINE:1\nx y z O\n\n"
    first, second = read(tmp_path, content)
    assert (first.id, first.text, second.id, second.text) == ("file-1", "IL-2 gene", "file-2", "x")
    assert mentions(first) == [("IL-2 gene", "G")]


def test_a_row_that_starts_a_document_ends_the_sentence(tmp_path):
    first, second = read(tmp_path, "a\tB-G\n###MEDLINE:1\nb\tI-G\n")
    assert mentions(first) == [("a", "G")] and mentions(second) == [("b", "G")]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("# id = 1\n# vitamin B\na\tB-G\n#\tO\n", "a #"),  # tabs separate the columns, and the comments contain no tab
        ("# id = 1\n# vitamin B\na B-G\n# O\n", "a #"),  # "# O" has two columns, like the row with a token
        ("# id 1\tdomain=en\na\tB-G\n#tag\tO\n", "a #tag"),
    ],
)
def test_comments_are_skipped(tmp_path, content, text):
    (document,) = read(tmp_path, content)
    assert document.text == text and mentions(document) == [("a", "G")]


def test_no_break_spaces_and_line_separators_do_not_split_rows(tmp_path):
    """A no-break space does not separate columns, and U+2028 does not separate lines. Blank tokens are left out."""
    (document,) = read(tmp_path, "5\u00a0mg B-G\na\u2028b O\n👩\u200d🔬 B-G\n")
    assert mentions(document) == [("5\u00a0mg", "G"), ("👩\u200d🔬", "G")]
    (document,) = read(tmp_path, "\ufeffa\tB-G\t\r\n\u00a0\tO\r\nb\tO\r\n")
    assert document.text == "a b" and mentions(document) == [("a", "G")]


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("B-G I-G O B-G", None),
        ("O O", None),
        ("O I-G B-G I-C", "file.tsv:2: I-G opens a mention; the file is read as IOB1 by conlleval's rules."),
        ("I-G I-G O I-G", "file.tsv:1: I-G opens a mention; the file is read as IO by conlleval's rules."),
        (
            "O B-G O I-G",
            "file.tsv:4: I-G opens a mention; the file is read as IOB2 with missing B- tags by conlleval's rules.",
        ),
        ("B-G E-G S-G", "file.tsv: the tags are read as BIOES."),
        ("B-G L-G U-G", "file.tsv: the tags are read as BILOU."),
        ("B-G M-G E-G", "file.tsv: the tags are read as BMES."),
    ],
)
def test_a_tagging_scheme_other_than_iob2_is_logged_once(tmp_path, caplog, tags, message):
    with caplog.at_level(logging.WARNING):
        read(tmp_path, "\n".join(f"a\t{tag}" for tag in tags.split()))
    assert [record.getMessage().removeprefix(f"{tmp_path}{os.sep}") for record in caplog.records] == (
        [message] if message else []
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tO\nb", r"file\.tsv:2: expected a token and a tag, got 'b'"),
        ("a\tO\nb\t", r"file\.tsv:2: expected a token and a tag"),
        ("a\tX-G", r"file\.tsv:1: unknown tag 'X-G'; expected O, or B-"),
        ("a\tO\nb\tI-ORG|B-LOC", r"file\.tsv:2: the tag 'I-ORG\|B-LOC' contains several tags; expected one for"),
        ("a\tB-", r"file\.tsv:1: unknown tag 'B-'"),
        ("a\tO\n\tB-G", r"file\.tsv:2: the tag 'B-G' has a blank token"),
        ("a\tB", r"file\.tsv:1: the tag 'B' has no type; write B-TYPE, or pass label="),
        ("-DOCSTART-\tO\n", "there is no token"),
        ("", "the file is empty"),
    ],
)
def test_errors_contain_the_file_and_the_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def test_tags_without_a_type_get_the_given_label(tmp_path):
    (document,) = read(tmp_path, "a\tB\nb\tI\nc\tO", label="Gene")
    assert mentions(document) == [("a b", "Gene")]


def test_lists_of_different_length_raise_an_error():
    with pytest.raises(DataError, match="row 1: 2 words but 1 tags"):
        documents_from_words([["a"], ["b", "c"]], [["O"], ["O"]])
    with pytest.raises(DataError, match="got 1 lists of words and 0"):
        documents_from_words([["a"]], [])


@pytest.mark.parametrize(
    ("word", "tag", "message"),
    [
        ("a", "X-G", "row 1: unknown tag 'X-G'"),
        ("a", "B", "row 1: the tag 'B' has no type; .* pass label='TYPE'"),
        ("a", 3, "row 1: the tag 3 is not a string"),
        (" ", "B-G", "row 1: the tag 'B-G' has a blank token"),
        (7, "O", "row 1: the word 7 is not a string"),
        (None, "O", "row 1: the word None is not a string"),
        ("a\ud83d", "O", "row 1: the text contains a lone surrogate"),
    ],
)
def test_errors_for_words_and_tags_contain_the_row(word, tag, message):
    with pytest.raises(DataError, match=message):
        documents_from_words([[], [word]], [[], [tag]])


def test_blank_words_are_left_out():
    (document,) = documents_from_words([["New", "", "York", "\u00a0", " won "]], [["B-G", "I-G", "I-G", "O", "O"]])
    assert document.text == "New York won" and document.words == ((0, 3), (4, 8), (9, 12))
    assert mentions(document) == [("New York", "G")]


def test_rows_may_be_empty():
    assert documents_from_words([], []) == []
    (document,) = documents_from_words([[]], [[]])
    assert (document.id, document.text, document.words) == ("0", "", ())


@pytest.mark.skipif(not DATA, reason="BINDER_DATA is not set")
@pytest.mark.parametrize(
    ("file", "sentences", "expected"),
    [
        ("ncbi-disease/iob/train.tsv", 5424, 5134),
        ("ncbi-disease/iob/devel.tsv", 923, 787),
        ("ncbi-disease/iob/test.tsv", 940, 960),
        ("bc5cdr/iob/train.tsv", 4560, 5203 + 4182),
        ("bc5cdr/iob/devel.tsv", 4581, 5347 + 4246),
        ("bc5cdr/iob/test.tsv", 4797, 5385 + 4424),
        ("bc2gm/iob/train.tsv", 12574, 15197),
        ("bc2gm/iob/devel.tsv", 2519, 3061),
        ("bc2gm/iob/test.tsv", 5038, 6325),
        ("bionlp13cg/iob/train.tsv", 3033, 10826),
        ("bionlp13cg/iob/devel.tsv", 1003, 3616),
        ("bionlp13cg/iob/test.tsv", 1906, 6881),
        ("jnlpba/iob/devel.tsv", None, 4551),
        ("jnlpba/iob/test.tsv", 3856, 8662),
        ("jnlpba/iob/Genia4EReval1.iob2", 3856, 8662),
    ],
)
def test_published_corpora_have_the_expected_numbers_of_sentences_and_mentions(file, sentences, expected):
    documents = read_iob(Path(DATA) / file)
    assert sum(Counter(m.label for d in documents for m in d.entities).values()) == expected
    assert sentences is None or len(documents) == sentences
