"""Offsets of annotation tools that do not count characters but other units, such as bytes or UTF-16 code units.

The offsets are converted to characters and compared with the texts of the mentions in the file.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.finetuning import DataError, Document, Mention, read_jsonl
from modeling_binder.finetuning.offsets import (
    BROWSER_UNITS,
    BYTES,
    CODE_POINTS,
    CODE_POINTS_CRLF,
    GRAPHEMES,
    JAVA_UNITS,
    PYTHON_UNITS,
    UTF16,
    UTF16_CRLF,
    RawDocument,
    RawMention,
    align,
    distinct_ids,
    same_text,
    to_unit,
    trim,
)

OSLO = "Great news 🎉 from Oslo"


def read(text, *spans, units=PYTHON_UNITS, **options):
    """Align mentions with a text and return the part of the text that each mention covers.

    Each item of `spans` is (start, end, stated). `stated` is the text of the mention in the file, or None.
    """
    mentions = [RawMention(((start, end),), "X", stated, "file:1") for start, end, stated in spans]
    (document,) = align([RawDocument("1", text, mentions)], units, **options)
    return [document.text[mention.start : mention.end] for mention in document.entities]


@pytest.mark.parametrize("units", [PYTHON_UNITS, BROWSER_UNITS, JAVA_UNITS])
@pytest.mark.parametrize("stated", ["Oslo", None])
@pytest.mark.parametrize("span", [(18, 22), (19, 23)])
def test_an_emoji_may_count_as_one_or_two_characters(span, stated, units):
    assert read(OSLO, (*span, stated), units=units) == ["Oslo"]


@pytest.mark.parametrize(
    ("text", "span", "stated"),
    [
        ("a\r\nb\r\nOslo", (6, 10), "Oslo"),
        ("a\r\nb\r\nOslo", (4, 8), "Oslo"),  # \r\n counts as one character
        ("🎉\r\nb\r\nOslo", (5, 9), "Oslo"),  # UTF-16 units, and \r\n counts as one unit
        ("🎉\r\nb\r\nOslo", (7, 11), "Oslo"),  # UTF-16 units
        ("New\r\nYork", (0, 8), "New York"),  # the text in the file has a blank instead of the line end
        ("New\nYork", (0, 8), "New\\nYork"),  # Label Studio writes a line end as a backslash and an n
        ("in Oslo .", (2, 8), "Oslo"),  # the span includes blanks
    ],
)
def test_offsets_are_read_in_the_unit_that_gives_the_text_in_the_file(text, span, stated):
    (mention,) = read(text, (*span, stated))
    assert same_text(mention, stated) and mention == mention.strip()


def test_all_documents_of_a_file_have_the_same_unit():
    """A mention may be correct in several units. The reader uses the unit in which all mentions are correct."""
    mentions = [RawMention(((2, 3),), "X", "1", "a:1"), RawMention(((6, 10),), "X", "Oslo", "a:1")]
    first, second = RawDocument("1", "🎉111", [mentions[0]]), RawDocument("2", "🎉 in Oslo", [mentions[1]])
    assert align([first, second])[0].entities == (Mention(1, 2, "X"),), (
        "UTF-16 units, in which both mentions are correct"
    )
    assert align([first])[0].entities == (Mention(2, 3, "X"),), (
        "code points, the first unit in which the mention is correct"
    )


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (
            [(17, 21, "Oslo")],
            r"file:1: the text at 17\.\.21 is ' Osl', not 'Oslo' \(units tried: code points, .*UTF-16",
        ),
        ([(18, 22, "Rome")], r"is 'Oslo', not 'Rome'"),
        ([(18, 99, "Oslo")], r"file:1: spans 18\.\.99 in a text of 22 characters"),
        ([(-1, 3, None)], r"spans -1\.\.3"),
        ([(3, 3, None)], r"spans 3\.\.3"),
        ([(5, 6, None)], r"file:1: the mention at 5\.\.6 contains only blanks; remove it"),
        ([(18, 99, "Oslo"), (3, 3, None)], r"2 problems in total"),
    ],
)
def test_offsets_that_are_wrong_in_every_unit_raise_an_error(spans, message):
    with pytest.raises(DataError, match=message):
        read(OSLO, *spans)


def test_mentions_that_start_or_end_inside_a_word_are_logged(caplog):
    assert read("🎉 Oslo", (3, 5, None)) == ["sl"]
    assert "1 mentions start or end inside a word if offsets count code points; the file does not" in caplog.text
    caplog.clear()
    read("in Oslo", (4, 6, None))
    assert not caplog.text, "no warning, because the offsets are equal in all units"


def test_an_offset_inside_an_emoji_raises_an_error():
    with pytest.raises(DataError, match=r"spans 12\.\.13"):
        read(OSLO, (12, 13, None), units=(UTF16,))


def test_fragments_of_a_mention_may_be_unsorted_and_nested():
    for fragments in (((14, 18), (18, 22)), ((18, 22), (14, 18)), ((14, 22), (18, 22))):
        raw = RawDocument("1", OSLO, [RawMention(fragments, "X", None, "file:1")])
        (document,) = align([raw], (CODE_POINTS,))
        assert document.entities == (Mention(14, 22, "X"),) or document.entities == (Mention(13, 22, "X"),)


def test_a_lone_surrogate_raises_an_error():
    with pytest.raises(
        DataError,
        match=r"file 3: the text contains a lone surrogate .* at offset 1 \('\\ud83d'\)",
    ):
        align([RawDocument("1", "a\ud83d", where="file 3")])


def test_wrong_offsets_are_repaired_within_a_given_distance(caplog):
    assert read(OSLO, (12, 16, "Oslo"), (0, 4, "Rome"), repair_within=10) == ["Oslo"]
    assert "'Oslo' occurs at 18, not at 12; moved" in caplog.text and "not 'Rome'; left out" in caplog.text


def test_grapheme_clusters_are_counted():
    text = "e\u0301 👩‍🔬 한\r\n"
    assert to_unit(text, GRAPHEMES, range(len(text) + 1)) == [0, 0, 1, 2, 2, 2, 3, 4, 5, 5, 6]
    assert read(text, (0, 1, None), (2, 3, None), (4, 5, None), units=(GRAPHEMES,)) == ["e\u0301", "👩‍🔬", "한"]


@given(st.text(alphabet="a🎉é\r\n \u0301東"), st.data())
@settings(deadline=None)
def test_offsets_converted_to_a_unit_and_back_are_unchanged(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    if trim(text, start, end) != (start, end) or start == end:
        return
    for unit in (CODE_POINTS, UTF16, CODE_POINTS_CRLF, UTF16_CRLF, BYTES):
        edges = to_unit(text, unit, (start, end))
        assert read(text, (*edges, None), units=(unit,)) == [text[start:end]]
    assert to_unit(text, UTF16, (end,)) == [len(text[:end].encode("utf-16-le")) // 2]
    assert to_unit(text, BYTES, (end,)) == [len(text[:end].encode())]


def test_trim_removes_blanks_of_all_kinds():
    assert trim(" \u00a0a b\u2028", 0, 6) == (2, 5)
    assert trim("  ", 0, 2) == (2, 2)


def test_duplicate_ids_are_made_distinct():
    documents = distinct_ids(Document(identifier, "") for identifier in ["a", "a", "a-2", "b", "a"])
    assert [document.id for document in documents] == ["a", "a-2", "a-2-2", "b", "a-3"]


# ---- texts of entities in JSONL files ----


@pytest.mark.parametrize("key", ["text", "word"])
@pytest.mark.parametrize("span", [(18, 22), (19, 23)])
def test_the_text_of_an_entity_in_jsonl_is_compared_with_its_offsets(tmp_path, span, key):
    row = {"text": OSLO, "entities": [{"start": span[0], "end": span[1], "label": "X", key: "Oslo"}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert read_jsonl(tmp_path / "a.jsonl")[0].entities == (Mention(18, 22, "X"),)
    row["entities"][0][key] = "Rome"
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=r"a\.jsonl:1: 'entities\[0\]': the text at .* not 'Rome'"):
        read_jsonl(tmp_path / "a.jsonl")
