"""The page's parts without a page: bars, limits, files, borrowing a GPU."""

import csv
import html
import io
import json
import re
import runpy
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo import files
from demo.drawing import PALETTE, draw, heat_map, lanes, margin, margin_bars
from demo.limits import MAX_CHARACTERS, MAX_RECORDS, MAX_TYPES, Refused, check_text, check_types

TEXT = "IL-2 gene <b>promoter</b>\nof  T cells 東京"


def entity(start, end, kind="Gene", score=0.9):
    return {"start": start, "end": end, "entity_group": kind, "score": score, "word": TEXT[start:end]}


SPANS = st.lists(
    st.tuples(st.integers(0, len(TEXT) - 1), st.integers(1, 12), st.sampled_from(["A", "B<i>"])).filter(
        lambda span: not TEXT[span[0]].isspace() and not TEXT[min(span[0] + span[1], len(TEXT)) - 1].isspace()
    ),
    max_size=7,
)


@given(SPANS)
@settings(deadline=None)
def test_every_entity_has_a_lane_of_its_own_and_outer_ones_lie_below(spans):
    found = [entity(*span) for span in {(s, min(s + width, len(TEXT)), kind) for s, width, kind in spans}]
    placed = lanes(found)
    assert len(placed) == len(found)
    for a in placed:
        for b in placed:
            if a is not b and a.start < b.end and b.start < a.end:
                assert a.lane != b.lane
                if a.end - a.start > b.end - b.start:
                    assert a.lane > b.lane


@given(SPANS)
@settings(deadline=None)
def test_the_drawing_holds_the_text_and_no_markup_of_it(spans):
    found = [entity(*span) for span in {(s, min(s + width, len(TEXT)), kind) for s, width, kind in spans}]
    drawn = draw(TEXT, found, ["A", "B<i>"])
    shown = re.sub(r"<br>", '<span class="bn-chars">\n</span>', drawn)
    assert html.unescape("".join(re.findall(r'class="bn-chars">(.*?)</span>', shown, re.DOTALL))) == TEXT
    assert "<b>" not in drawn and "<i>" not in drawn
    for row in lanes(found):
        columns = re.findall(rf'data-span="{row.start}-{row.end}-{row.lane}"', drawn)
        assert columns
    assert drawn.count('tabindex="0"') == len({(row.start, row.end, row.kind, row.lane) for row in lanes(found)})


def test_labels_are_text_and_tell_score_margin_and_what_is_around():
    drawn = draw("IL-2 gene", [entity(0, 9), entity(0, 4, "Protein", 0.98)], ["Gene", "Protein"])
    assert (
        'aria-label="IL-2, Protein, score 0.98, +3.9 over its threshold, characters 0 to 4, inside IL-2 gene"' in drawn
    )
    assert ">Gene</span>" in drawn and ">Protein</span>" in drawn and "Protein (1)" in drawn
    assert "Nothing was found" in draw("a", [], ["Gene"])
    assert margin(0.5) == 0 and margin(1) == float("inf") and margin(0) == -float("inf")


def luminance(color):
    color = color.lstrip("#")
    color = "".join(2 * c for c in color) if len(color) == 3 else color
    parts = [int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("background", "ink"), PALETTE)
def test_ink_is_readable_on_every_colour(background, ink):
    dark, light = sorted([luminance(background), luminance(ink)])
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_heat_map_and_the_margins():
    nan = float("nan")
    drawn = heat_map("a <b>", [(0, 1), (2, 5)], [[-1.0, 2.5], [nan, -9.0]], "X<i>")
    assert drawn.count("<td") == 4 and '<td class="bn-found"' in drawn and ">+2.5<" in drawn and "&lt;b&gt;" in drawn
    assert "<b>" not in drawn and "<i>" not in drawn and 'title="a &lt;b&gt;: +2.50"' in drawn
    bars = margin_bars("a<b>", {"X": -1.0, "Y": 3.0}, ["X", "Y"])
    assert bars.index(">Y<") < bars.index(">X<") and "+3.00" in bars and "<b>" not in bars


def test_types_of_a_table():
    rows = [
        ["Gene", "A gene.", ""],
        ["Cell", None, 0.7],
        ["", "nothing", ""],
        [None, None, None],
        ["Drug", "", " 0.2 "],
    ]
    assert check_types(rows) == ({"Gene": "A gene.", "Cell": "Cell", "Drug": "Drug"}, {"Cell": 0.7, "Drug": 0.2})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "There are no entity types"),
        ([["A", "", ""], ["A", "", ""]], "'A' is there twice"),
        ([["A" * 61, "", ""]], "too long"),
        ([["A", "b" * 501, ""]], "too long"),
        ([["A", "", "high"]], "threshold of 'A' is 'high'; it must be a number between 0 and 1"),
        ([["A", "", "1.5"]], "between 0 and 1"),
        ([[f"T{i}", "", ""] for i in range(MAX_TYPES + 1)], f"up to {MAX_TYPES} at once"),
    ],
)
def test_types_that_are_refused(rows, message):
    with pytest.raises(Refused) as refused:
        check_types(rows)
    assert message in refused.value.sentence
    assert "<" not in str(Refused("<b>"))


def test_texts_that_are_refused():
    with pytest.raises(Refused, match="There is no text yet"):
        check_text(" \n")
    with pytest.raises(Refused, match=f"{MAX_CHARACTERS + 1:,} characters"):
        check_text("a" * (MAX_CHARACTERS + 1))


# ---- files ----


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_files_of_each_kind(tmp_path):
    assert files.read_records(written(tmp_path, "a.txt", "one\n\ntwo\r\n")) == [{"text": "one"}, {"text": "two"}]
    lines = '\ufeff{"text": "one", "id": 3}\n\n{"text": "two\\u2028"}\n'
    assert files.read_records(written(tmp_path, "a.JSONL", lines)) == [{"text": "one", "id": 3}, {"text": "two\u2028"}]
    table = io.StringIO()
    csv.writer(table).writerows([["id", "text"], ["1", "one,\ntwo"]])
    assert files.read_records(written(tmp_path, "a.csv", table.getvalue())) == [{"id": "1", "text": "one,\ntwo"}]


def test_lines_end_at_line_feeds_only(tmp_path):
    """U+2028, NEL, VT and FF are characters of a text; quoted cells may hold line ends."""
    text = "one\u2028two\x85three\x0bfour\x0cfive"
    assert files.read_records(written(tmp_path, "a.txt", f"{text}\r\nsix\n")) == [{"text": text}, {"text": "six"}]
    assert files.read_records(written(tmp_path, "a.csv", f"id,text\r\n1,{text}\r\n")) == [{"id": "1", "text": text}]
    assert files.read_records(written(tmp_path, "a.csv", 'text\n"one\r\ntwo"\n')) == [{"text": "one\r\ntwo"}]
    assert files.read_records(written(tmp_path, "a.jsonl", json.dumps({"text": text}, ensure_ascii=False))) == [
        {"text": text}
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", "x", "named '.pdf'; this page reads .txt, .jsonl, .csv"),
        ("a.txt", b"\xff\xfe", "not UTF-8: byte 0"),
        ("a.txt", "\n \n", "The file has no text"),
        ("a.jsonl", '{"text": "a"}\n{', "Line 2 is no JSON"),
        ("a.jsonl", '{"text": 3}', "Line 1 must be an object"),
        ("a.csv", "id\n1", 'must name a column "text"'),
        ("a.csv", "", 'must name a column "text"'),
        ("a.csv", "id,text\n1,a\n2", "Line 3 has not as many columns"),
        ("a.csv", 'text\n"a\nb\n', "unexpected end of data"),
        ("a.csv", "text\n" + "a" * 200_000, "field larger than field limit"),
        ("a.csv", '"te"xt\n', "expected after"),
        ("a.jsonl", '{"text": "a\\ud83d"}', "Line 1 holds half a character"),
        ("a.jsonl", '{"text": "a", "id": "\\ud83d"}', "Line 1 holds half a character"),
        ("a.jsonl", "[" * 100_000, "Line 1 is no JSON"),
        ("a.txt", "a\n" * (MAX_RECORDS + 1), "more than 2,000 texts"),
        ("a.txt", "a" * (MAX_CHARACTERS + 1), "Line 1: the text has 20,001 characters"),
        ("a.txt", "a" * 2_000_001, "The file has 2.0 MB; this page reads up to 2 MB"),
    ],
)
def test_files_that_are_refused(tmp_path, name, content, message):
    with pytest.raises(Refused) as refused:
        files.read_records(written(tmp_path, name, content))
    assert message in refused.value.sentence


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    records = [{"text": "one", "id": 1}, {"text": "two"}]
    told = list(files.write_records(records, iter([[{"word": "one"}], []])))
    assert [number for number, _ in told] == [1, 2, 2] and told[0][1] is None
    lines = [json.loads(line) for line in Path(told[-1][1]).read_text().splitlines()]
    assert lines == [{"text": "one", "id": 1, "entities": [{"word": "one"}]}, {"text": "two", "entities": []}]
    before = sorted(tmp_path.rglob("*"))
    cancelled = files.write_records(records, iter([[], []]))
    next(cancelled)
    cancelled.close()
    with pytest.raises(ValueError, match="zip"):
        list(files.write_records(records, iter([[]])))
    assert sorted(tmp_path.rglob("*")) == before


# ---- a GPU that is lent ----


def test_functions_that_need_the_model_borrow_a_gpu(monkeypatch):
    borrowed = []

    def gpu(function):
        borrowed.append(function.__name__)
        return function

    monkeypatch.setitem(sys.modules, "spaces", types.SimpleNamespace(GPU=gpu))
    path = Path(files.__file__).parent / "recognizer.py"
    runpy.run_path(str(path))
    assert borrowed == ["find", "find_all", "margins"]
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert runpy.run_path(str(path))["find"].__name__ == "find" and len(borrowed) == 3
