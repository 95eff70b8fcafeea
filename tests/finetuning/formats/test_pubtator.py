"""Reading and writing PubTator files."""

import pytest

from modeling_binder.finetuning import DataError, Document, Mention, read_documents
from modeling_binder.finetuning.formats import read_pubtator, write_pubtator
from tests.finetuning.formats.helpers import found

RECORDS = """11|t|Aspirin and headache.
11|a|Aspirin relieves a headache.
11	0	7	Aspirin	Chemical	D001
11	12	20	headache	Disease	D002
11	22	29	Aspirin	Chemical	D001	composite|marks
11	CID	D001	D002
11	Positive_Correlation	7124	3569	Novel

12|t|Nothing here.
12|a|
"""


def read(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text.encode())
    return read_documents(tmp_path / "a.txt")


def test_records_are_read_without_relations(tmp_path):
    first, second = read(tmp_path, RECORDS)
    assert first.text == "Aspirin and headache. Aspirin relieves a headache."
    assert found(first) == [("Aspirin", "Chemical"), ("headache", "Disease"), ("Aspirin", "Chemical")]
    assert second.text == "Nothing here. " and not second.entities
    assert found(read_pubtator(tmp_path / "a.txt", {"Disease": "Illness"})[0]) == [("headache", "Illness")]


@pytest.mark.parametrize(
    ("text", "ids", "mentions"),
    [
        ("PMC12-a|t|Oslo.\nPMC12-a|a|x\nPMC12-a\t0\t4\tOslo\tX\n", ["PMC12-a"], ["Oslo"]),  # an id with letters
        ("1|t|In Oslo.\n1\t3\t7\tOslo\tX\n", ["1"], ["Oslo"]),  # a title without an abstract
        ("1|t|a|b Oslo\n1|a|c|t|d\n1\t4\t8\tOslo\tX\n", ["1"], ["Oslo"]),  # bars in the text
        (
            "1|t|Oslo\n1|a|x\n2|t|Rome\n2|a|y\n2\t0\t4\tRome\tX\n",
            ["1", "2"],
            ["Rome"],
        ),  # there is no blank line between the records
        ("1|t|Oslo\n1|a|x\n\n1|t|Rome\n1|a|y\n", ["1", "1-2"], []),  # two records with the same id
        ("1|t|🎉 Oslo\r\n1|a|x\r\n1\t3\t7\tOslo\tX\r\n", ["1"], ["Oslo"]),  # UTF-16 units
        ("\ufeff1|t|In Oslo\n1|a|x\n1\t3\t7\tOslo\tX\n", ["1"], ["Oslo"]),  # a byte order mark
        ("1|t|a\u2028b\n1|a|x\n1\t2\t3\tb\tX\n", ["1"], ["b"]),
        (
            "1|t|In Oslo\n1|a|x\n1\t8\t10\tx \tX\n",
            ["1"],
            ["x"],
        ),  # the mention ends with a blank after the end of the text
    ],
)
def test_valid_records_are_read(tmp_path, text, ids, mentions):
    documents = read(tmp_path, text)
    assert [document.id for document in documents] == ids
    assert [words for document in documents for words, _ in found(document)] == mentions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("11|a|A.\n", r"a\.txt:1: expected 'ID\|t\|title' and 'ID\|a\|abstract'"),
        ("11|t|T.\n12|a|A.\n", r"a\.txt:1: expected 'ID\|t\|title'"),
        ("11|t|T.\n11|a|A.\n11\t0\t1\n", r"a\.txt:3: expected ID, start, end, text and class"),
        ("11|t|T.\n11|a|A.\n11\t-1\t1\tT\tX\n", r"a\.txt:3: expected ID, start, end"),
        ("11|t|T.\n11|a|A.\n12\t0\t1\tT\tX\n", r"a\.txt:3: expected a row of the record '11'"),
        ("11|t|T.\n11|a|A.\n11\t0\t1\tA\tX\n", r"a\.txt:3: the text at 0\.\.1 is 'T', not 'A'"),
        ("11|t|T.\n11|a|A.\n11\t0\t9\tT\tX\n", r"a\.txt:3: spans 0\.\.9 in a text of 5 characters"),
        ("11|t|T.\n11|a|A.\n11\t0\t1\tT\t \n", r"a\.txt:3: the mention 'T' has no type"),
    ],
)
def test_malformed_records_raise_an_error(text, message, tmp_path):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_pubtator(tmp_path / "a.txt")


def test_wrong_offsets_are_repaired_within_a_given_distance(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("11|t|Aspirin again.\n11|a|No ache.\n11\t2\t9\tAspirin\tX\n11\t18\t22\tfever\tX\n")
    (document,) = read_pubtator(tmp_path / "a.txt", repair_within=20)
    assert found(document) == [("Aspirin", "X")]
    assert "occurs at 0, not at 2; moved" in caplog.text and "'fever'; left out" in caplog.text


def test_documents_are_written_with_unchanged_offsets(tmp_path):
    first = Document(
        "a|1", "IL-2\tgene\r\nof 🎉 T\u2028cells\nhere", (Mention(0, 9, "Gene"), Mention(16, 23, "Cell type"))
    )
    write_pubtator([first, Document("2", "Oslo", (Mention(0, 4, "Place"),))], tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == (
        "a_1|t|IL-2 gene \na_1|a|of 🎉 T cells here\na_1\t0\t9\tIL-2 gene\tGene\na_1\t16\t23\tT cells\tCell type\n\n"
        "2|t|Oslo\n2|a|\n2\t0\t4\tOslo\tPlace\n\n"
    )
    assert [found(document) for document in read_documents(tmp_path / "a.txt")] == [
        [("IL-2 gene", "Gene"), ("T cells", "Cell type")],
        [("Oslo", "Place")],
    ]
