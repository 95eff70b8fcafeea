"""Column files, with one token and its tag in each row.

The reader detects the columns of tokens and tags.
"""

import logging

import pytest

from modeling_binder.finetuning import DataError, Document, Mention, read_documents, read_iob
from modeling_binder.finetuning.formats import write_columns


def read(tmp_path, content, name="file.tsv", **options):
    path = tmp_path / name
    path.write_bytes(content.encode())
    return read_iob(path, **options)


def rows(tmp_path, content, **options):
    """Return the text and the mentions of each sentence of a file with this content."""
    return [
        (document.text, [(document.text[m.start : m.end], m.label) for m in document.entities])
        for document in read(tmp_path, content, **options)
    ]


ANNA = [("Anna B.", [("Anna B.", "PER")])]


@pytest.mark.parametrize(
    "content",
    [
        "1\tAnna\tB-PER\n2\tB.\tI-PER\n",  # the first column numbers the tokens
        "0 Anna B-PER\n1 B. I-PER\n",
        "7\tAnna\tB-PER\n8\tB.\tI-PER\n",
        "1\tAnna\tB-PER\t-\tann1\n2\tB.\tI-PER\t-\tann1\n",  # the columns of Universal NER: index, token, tag, two more
        "# sent_id = 1\n# text = Anna B.\n1\tAnna\tB-PER\t-\tx\n2\tB.\tI-PER\t-\tx\n",
        "Anna -X- _ B-PER\nB. -X- _ I-PER\n -X- _ O\n  -X- _ O\n",  # blank tokens
        "Anna\tB-PER\n \tI-PER\nB.\tI-PER\n\tO\n",  # a blank token inside a mention
        "B-PER\tAnna\nI-PER\tB.\n",  # the first column contains the tags
        "Anna NNP I-NP B-PER\nB. NNP I-NP I-PER\n",  # the third column has chunk tags instead of entity types
        "Anna O B-PER\nB. O I-PER\n",  # a column that contains only O
        "Anna B-PER B-PER\nB. I-PER I-PER\n",  # two equal tag columns
        "  Anna B-PER\n  B. I-PER\n",  # the lines are indented
        "\ufeffAnna\tB-PER\t\r\nB.\tI-PER\r\n",
        "Anna\tB-PER\nB.\tE-PER\n",
        "-DOCSTART- -X- O\n\nAnna NNP B-PER\nB. NNP I-PER\n",
        "# newdoc\nAnna B-PER\nB. I-PER\n",
        "#\thttp://a.example [2005-02-26]\nAnna\tNE\tB-PER\nB.\tNE\tI-PER\n",
        "Anna B-PER 0.98\nB. I-PER 0.7\n",
    ],
)
def test_the_columns_of_tokens_and_tags_are_detected(tmp_path, content):
    assert rows(tmp_path, content) == ANNA


def test_the_columns_of_a_single_row_are_detected(tmp_path):
    assert rows(tmp_path, "1\tAnna\tB-PER\n") == [("Anna", [("Anna", "PER")])]


def test_numbers_can_be_tokens(tmp_path):
    """Numbers are tokens if no other column can contain tokens.

    Numbers are also tokens if they decrease, because row numbers never decrease.
    """
    assert rows(tmp_path, "1\tB-N\n2\tO\n") == [("1 2", [("1", "N")])]
    assert rows(tmp_path, "5 CD B-N\n3 CD O\nx NN O\n") == [("5 3 x", [("5", "N")])]


def test_columns_can_be_chosen(tmp_path):
    content = "s1 Anna B-PER O\ns1 of O O\ns1 Rome I-PER B-LOC\n"
    assert rows(tmp_path, content, token_column=2, tag_column=3)[0][1] == [("Anna", "PER"), ("Rome", "PER")]
    both = rows(tmp_path, "Anna B-PER O\nof I-PER O\nRome I-PER B-LOC\n", tag_column=[2, 3])
    assert both == [("Anna of Rome", [("Anna of Rome", "PER"), ("Rome", "LOC")])]
    assert rows(tmp_path, "He PRP B-NP\n", tag_column=3) == [("He", [("He", "NP")])]
    assert [d.text for d in read_documents(tmp_path / "file.tsv", tag_column=3)] == ["He"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "Anna _ O B-PER\nLast Name _ O I-PER\nx _ O O\n",
            r"file\.tsv:2: expected 4 columns as in most rows, got 5: 'Las",
        ),
        ("Anna\tB-PER\nx\ty\tO\nz\tO\n", r"file\.tsv:2: expected 2 columns as in most rows, got 3"),
        ("Anna\tB-PER\nx\n\nz\tO\n", r"file\.tsv:2: expected a token and a tag, got 'x'"),
        (
            "Anna B-PER B-ORG\nx O B-LOC\n",
            r"columns 2 and 3 all contain tags; choose one with tag_column=\.\.\. \(--tag-c",
        ),
        ("Anna NNP I-NP PER\n", r"the only tags are tags of chunks, such as NP, in column 3"),
        ("Anna NNP I-NP I-PER\nx NN I-NP X-PER\n", r"file\.tsv:2: unknown tag 'X-PER'"),
        ("s1 Anna B-PER\ns1 B. I-PER\ns1 x O\n", r"column 1 \(first cell: 's1'\) holds one value in each sentence;"),
        ("d1 0 Anna B-PER\nd1 1 B. I-PER\n\nd2 0 x O\n", r"column 1 \(first cell: 'd1'\) holds one value in each"),
        ("4 Anna B-PER\n4 B. I-PER\n", r"the column of the tokens cannot be detected: column 1 .* holds numbers only"),
        ("word tag\nAnna B-PER\n", r"file\.tsv:1: unknown tag 'tag'"),
        ("Anna\tB-PER\n# x\tNOTE\nb\tO\n", r"file\.tsv:2: unknown tag 'NOTE'"),  # a sentence cannot contain a comment
        ("Anna NE B-PER\n# O\nb NN O\n", r"file\.tsv:2: expected 3 columns as in most rows, got 2: '# O'"),
        ("Anna\tB-PER\n#tag\nb\tO\n", r"file\.tsv:2: expected a token and a tag, got '#tag'"),
        (" \tB-PER\nx\tO\n", r"file\.tsv:1: the tag 'B-PER' has a blank token"),
        ("# only = comments\n", "there is no token in this file"),
        ("One sentence of raw text.\nAnother one that is longer.\n", r"file\.tsv:"),
    ],
)
def test_malformed_files_raise_an_error(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "options", [{"token_column": 3}, {"tag_column": 0}, {"tag_column": [2, 9]}, {"tag_column": "x"}]
)
def test_missing_columns_raise_an_error(tmp_path, options):
    with pytest.raises(DataError, match=r"there is no column .*; the rows have 2 columns, counted from 1"):
        read(tmp_path, "Anna\tB-PER\n", **options)


def test_other_encodings_raise_an_error_and_line_separators_are_kept(tmp_path):
    with pytest.raises(DataError, match=r"file\.tsv:1: not UTF-8: byte 3"):
        (tmp_path / "file.tsv").write_bytes("Café\tO\n".encode("latin-1"))
        read_iob(tmp_path / "file.tsv")
    assert rows(tmp_path, "a\u2028b\tB-X\nc\x85\tO\n") == [("a\u2028b c", [("a\u2028b", "X")])]


def test_conllu_with_tags_in_misc_is_read_as_conllu(tmp_path):
    content = "# text = Oslo\n1\tOslo\t_\t_\t_\t_\t0\t_\t_\tSpaceAfter=No|name=B-LOC\n\n"
    assert rows(tmp_path, content) == [("Oslo", [("Oslo", "LOC")])]


# ---- writing column files ----


def test_only_the_longest_of_overlapping_mentions_is_written(tmp_path, caplog):
    text = "The IL-2\r\ngene in 🎉 cells"
    nested = {"id": "a", "text": text}
    entities = [(4, 14, "Gene", 0.9), (4, 8, "Protein", 0.99), (18, 25, "Cell", 0.6), (18, 25, "Symbol", 0.7)]
    nested["entities"] = [{"start": s, "end": e, "label": label, "score": score} for s, e, label, score in entities]
    with caplog.at_level(logging.WARNING):
        write_columns([nested, Document("b", ""), Document("c", "x\ty", words=((0, 3),))], tmp_path / "a.tsv")
    assert "left out 2" in caplog.text
    assert (tmp_path / "a.tsv").read_text() == (
        "The\tO\nIL\tB-Gene\n-\tI-Gene\n2\tI-Gene\ngene\tI-Gene\nin\tO\n🎉\tB-Symbol\ncells\tI-Symbol\n\n\nx\tO\ny\tO\n\n"
    )
    documents = read_documents(tmp_path / "a.tsv")
    assert [document.text for document in documents] == ["The IL - 2 gene in 🎉 cells", "x y"]


def test_words_are_split_where_a_mention_starts_or_ends(tmp_path):
    document = Document("a", "IL-2-mediated x", (Mention(0, 4, "P"), Mention(4, 5, "Q")), words=((0, 13),))
    write_columns([document], tmp_path / "a.tsv")
    assert (tmp_path / "a.tsv").read_text() == "IL-2\tB-P\n-\tB-Q\nmediated\tO\n\n"
    outside = Document("a", "IL-2 and x", (Mention(9, 10, "P"),), words=((0, 4),))
    write_columns([outside], tmp_path / "a.tsv")
    assert (tmp_path / "a.tsv").read_text() == "IL-2\tO\nand\tO\nx\tB-P\n\n"


def test_a_type_with_a_tab_raises_an_error(tmp_path):
    with pytest.raises(DataError, match=r"the type 'a\\tb' contains a tab or a line end"):
        write_columns([Document("a", "x", (Mention(0, 1, "a\tb"),))], tmp_path / "a.tsv")
    assert not (tmp_path / "a.tsv").exists()
