"""Parts of the demo page without a browser: bars, charts, limits, files, and functions on a ZeroGPU Space."""

import csv
import importlib
import io
import itertools
import json
import pickle
import re
import runpy
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo import app, files, recognizer
from demo.charts import heat_map, margin_bars
from demo.drawing import PALETTE, draw, lanes, margin, pieces
from demo.limits import MAX_CHARACTERS, MAX_RECORDS, MAX_TYPES, Refused, check_text, check_types
from tests.tiny import TYPES

TEXT = "IL-2 gene <b>promoter</b>\nof  T cells 東京"


def entity(start, end, label="Gene", score=0.9):
    return {"start": start, "end": end, "entity_group": label, "score": score, "word": TEXT[start:end]}


SPANS = st.lists(
    st.tuples(st.integers(0, len(TEXT) - 1), st.integers(1, 12), st.sampled_from(["A", "B<i>"])).filter(
        lambda span: not TEXT[span[0]].isspace() and not TEXT[min(span[0] + span[1], len(TEXT)) - 1].isspace()
    ),
    max_size=7,
)


def entities_of(spans):
    return [entity(*span) for span in {(s, min(s + width, len(TEXT)), label) for s, width, label in spans}]


@given(SPANS)
@settings(deadline=None)
def test_overlapping_entities_have_different_lanes_and_longer_entities_lie_below(spans):
    found = entities_of(spans)
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
def test_pieces_cover_their_entities_and_never_cross(spans):
    placed = lanes(entities_of(spans))
    cut = pieces(placed)
    for one in placed:
        own = sorted((piece.start, piece.end) for piece in cut if piece.entity is one)
        assert own[0][0] == one.start and own[-1][1] == one.end
        assert all(before[1] == after[0] for before, after in itertools.pairwise(own))
    for a, b in itertools.combinations(cut, 2):
        nested = (a.start <= b.start and b.end <= a.end) or (b.start <= a.start and a.end <= b.end)
        assert nested or a.end <= b.start or b.end <= a.start
    assert len(cut) == len(placed) or any(a.start < b.start < a.end < b.end for a in placed for b in placed), (
        "only crossing entities are cut"
    )


class Drawing(HTMLParser):
    """A parser that extracts the visible text and the pieces of entities from a drawing."""

    def __init__(self, drawn):
        super().__init__()
        self.text, self.open, self.spans, self.inside = "", [], set(), False
        self.feed(drawn)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.inside = self.inside or attributes.get("class") == "bn-text"
        if tag == "span":
            self.open.append((attributes["data-span"], len(self.text)))

    def handle_endtag(self, tag):
        if tag == "span":
            name, start = self.open.pop()
            self.spans.add((name, start, len(self.text)))
        self.inside = self.inside and tag != "div"

    def handle_data(self, data):
        self.text += data if self.inside else ""


@given(SPANS)
@settings(deadline=None)
def test_the_drawing_contains_exactly_the_text(spans):
    found = entities_of(spans)
    drawn = draw(TEXT, found, ["A", "B<i>"])
    parsed = Drawing(drawn)
    assert parsed.text == TEXT and not parsed.open
    assert "<b>" not in drawn and "<i>" not in drawn
    expected = {(f"{p.entity.start}-{p.entity.end}-{p.entity.lane}", p.start, p.end) for p in pieces(lanes(found))}
    assert parsed.spans == expected
    assert drawn.count('tabindex="0"') == len(found)


def bars_of(drawn):
    """Return the SVG images of the bars in a drawing."""
    return [unquote(image) for image in re.findall(r"url\(data:image/svg\+xml,([^)]*)\)", drawn)]


def test_labels_scores_and_descriptions():
    drawn = draw("IL-2 gene", [entity(0, 9), entity(0, 4, "Protein", 0.98)], ["Gene", "Protein"])
    description = "IL-2, Protein, score 0.98, +3.9 over its threshold, characters 0 to 4, inside IL-2 gene"
    assert f'aria-label="{description}"' in drawn and f'title="{description}"' in drawn
    assert [re.search(r">(\w*)</div>", bar)[1] for bar in bars_of(drawn)] == ["Gene", "Protein"]
    assert "Protein (1)" in drawn
    assert "Nothing was found" in draw("a", [], ["Gene"])
    assert margin(0.5) == 0 and margin(1) == float("inf") and margin(0) == -float("inf")


def test_the_longest_piece_of_a_crossing_entity_has_the_label():
    drawn = draw("ab cdef gh", [entity(0, 7, "A"), entity(5, 10, "B")], ["A", "B"])
    shown = [re.search(r">(\w*)</div>", bar)[1] for bar in bars_of(drawn)]
    assert shown == ["A", "", "B"], "B is cut where A ends, and its second piece is the longer one"


@pytest.mark.parametrize("label", ["<script>alert(1)</script>", "a\x00b", "half \ud83d", "', url(x)", "]]>&lt;"])
def test_a_bar_is_valid_xml_for_every_label(label):
    (bar,) = bars_of(draw("IL-2", [entity(0, 4, label)], [label]))
    tree = ElementTree.fromstring(bar)
    assert (
        len(list(tree.iter())) == 3 and "url(" not in draw("IL-2", [entity(0, 4, label)], [label]).split("url(", 2)[0]
    )
    shown = "".join(tree.itertext())
    assert shown == "".join(c if c.isprintable() else " " for c in label)


def luminance(color):
    color = color.lstrip("#")
    color = "".join(2 * c for c in color) if len(color) == 3 else color
    parts = [int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("background", "ink"), PALETTE)
def test_labels_are_readable_on_every_colour(background, ink):
    dark, light = sorted([luminance(background), luminance(ink)])
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_heat_map_and_the_margins():
    nan = float("nan")
    drawn = heat_map("a <b>", [(0, 1), (2, 5)], [[-1.0, 2.5], [nan, -9.0]], "X<i>")
    assert drawn.count("<td") == 4 and '<td class="bn-found"' in drawn and ">+2.5<" in drawn and "&lt;b&gt;" in drawn
    assert "<b>" not in drawn and "<i>" not in drawn and 'title="a &lt;b&gt;: +2.50"' in drawn
    bars = margin_bars("a<b>", {"X": -1.0, "Y": 3.0}, ["X", "Y"])
    assert bars.index(">Y<") < bars.index(">X<") and "+3.00" in bars and "<b>" not in bars


def test_types_from_the_table():
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
        ([["A", "", ""], ["A", "", ""]], "'A' appears twice"),
        ([["A" * 61, "", ""]], "too long"),
        ([["A", "b" * 501, ""]], "too long"),
        ([["A", "", "high"]], "threshold of 'A' is 'high'; it must be a number between 0 and 1"),
        ([["A", "", "1.5"]], "between 0 and 1"),
        ([[f"T{i}", "", ""] for i in range(MAX_TYPES + 1)], f"accepts at most {MAX_TYPES}"),
    ],
)
def test_invalid_types_raise_an_error(rows, message):
    with pytest.raises(Refused) as refused:
        check_types(rows)
    assert message in refused.value.reason
    assert "<" not in str(Refused("<b>"))


def test_empty_and_long_texts_raise_an_error():
    with pytest.raises(Refused, match="There is no text yet"):
        check_text(" \n")
    with pytest.raises(Refused, match=f"{MAX_CHARACTERS + 1:,} characters"):
        check_text("a" * (MAX_CHARACTERS + 1))


# ---- files ----


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_files_of_each_format(tmp_path):
    assert files.read_records(written(tmp_path, "a.txt", "one\n\ntwo\r\n")) == [{"text": "one"}, {"text": "two"}]
    lines = '\ufeff{"text": "one", "id": 3}\n\n{"text": "two\\u2028"}\n'
    assert files.read_records(written(tmp_path, "a.JSONL", lines)) == [{"text": "one", "id": 3}, {"text": "two\u2028"}]
    table = io.StringIO()
    csv.writer(table).writerows([["id", "text"], ["1", "one,\ntwo"]])
    assert files.read_records(written(tmp_path, "a.csv", table.getvalue())) == [{"id": "1", "text": "one,\ntwo"}]


def test_lines_end_at_line_feeds_only(tmp_path):
    """U+2028, NEL, VT and FF do not end a line. Quoted cells of a CSV file may contain line ends."""
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
        ("a.pdf", "x", "type of the file is '.pdf'; this page reads .txt, .jsonl, .csv"),
        ("a.txt", b"\xff\xfe", "not UTF-8 (invalid byte at 0)"),
        ("a.txt", "\n \n", "The file has no text"),
        ("a.jsonl", '{"text": "a"}\n{', "Line 2 is not valid JSON"),
        ("a.jsonl", '{"text": 3}', "Line 1 must be an object"),
        ("a.csv", "id\n1", "must contain the column \"text\"; got ['id']"),
        ("a.csv", "", 'must contain the column "text"; got no columns'),
        ("a.csv", "id,text\n1,a\n2", "Line 3 does not have the same number of columns"),
        ("a.csv", 'text\n"a\nb\n', "unexpected end of data"),
        ("a.csv", "text\n" + "a" * 200_000, "Line 2: the text has 200,000 characters"),
        ("a.csv", '"te"xt\n', "expected after"),
        ("a.jsonl", '{"text": "a\\ud83d"}', "Line 1 contains half a character"),
        ("a.jsonl", '{"text": "a", "id": "\\ud83d"}', "Line 1 contains half a character"),
        ("a.jsonl", "[" * 100_000, "Line 1 is not valid JSON"),
        ("a.txt", "a\n" * (MAX_RECORDS + 1), "more than 2,000 texts"),
        ("a.txt", "a" * (MAX_CHARACTERS + 1), "Line 1: the text has 20,001 characters"),
        ("a.txt", "a" * 2_000_001, "The file has 2.0 MB; this page reads up to 2 MB"),
    ],
)
def test_invalid_files_raise_an_error(tmp_path, name, content, message):
    with pytest.raises(Refused) as refused:
        files.read_records(written(tmp_path, name, content))
    assert message in refused.value.reason


def test_an_incomplete_file_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    records = [{"text": "one", "id": 1}, {"text": "two"}]
    progress = list(files.write_records(records, iter([[{"word": "one"}], []])))
    assert [number for number, _ in progress] == [1, 2, 2] and progress[0][1] is None
    lines = [json.loads(line) for line in Path(progress[-1][1]).read_text().splitlines()]
    assert lines == [{"text": "one", "id": 1, "entities": [{"word": "one"}]}, {"text": "two", "entities": []}]
    before = sorted(tmp_path.rglob("*"))
    cancelled = files.write_records(records, iter([[], []]))
    next(cancelled)
    cancelled.close()
    with pytest.raises(ValueError, match="zip"):
        list(files.write_records(records, iter([[]])))
    assert sorted(tmp_path.rglob("*")) == before


# ---- the model ----


@pytest.fixture
def space(monkeypatch):
    """Reload the recognizer as on a ZeroGPU Space, where arguments and results of decorated functions are pickled."""
    decorated = []

    def gpu(function):
        decorated.append(function.__name__)

        def called(*args, **kwargs):
            args, kwargs = pickle.loads(pickle.dumps((args, kwargs)))
            result = function(*args, **kwargs)
            if isinstance(result, types.GeneratorType):
                return (pickle.loads(pickle.dumps(item)) for item in result)
            return pickle.loads(pickle.dumps(result))

        return called

    monkeypatch.setitem(sys.modules, "spaces", types.SimpleNamespace(GPU=gpu))
    loaded = importlib.reload(recognizer)
    yield loaded, decorated
    monkeypatch.undo()
    importlib.reload(recognizer)


def test_arguments_and_results_can_be_pickled_on_zerogpu(space, checkpoint, tmp_path, monkeypatch):
    loaded, decorated = space
    assert decorated == ["find", "find_all", "margins"]
    monkeypatch.setenv("BINDER_MODEL", str(checkpoint))
    text = "the gene of cells"
    assert loaded.find(text, TYPES) == next(iter(loaded.find_all([text], TYPES))) != []
    words, margins = loaded.margins(text, TYPES, 0, 8)
    assert len(words) == 4 and set(margins) == set(TYPES)
    (tmp_path / "texts.txt").write_text("the gene\ncells\n")
    rows = [[name, description, ""] for name, description in TYPES.items()]
    *_, (path, message) = app.find_in_file(str(tmp_path / "texts.txt"), rows, "nested", "span", 0.5)
    assert path and "Done: 2 texts" in message


def test_outside_of_zerogpu_functions_are_unchanged(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert runpy.run_path(recognizer.__file__)["find"].__name__ == "find"


def test_which_model_the_page_uses(tmp_path, monkeypatch):
    monkeypatch.delenv("BINDER_MODEL", raising=False)
    monkeypatch.setattr(recognizer, "_HERE", tmp_path)
    with pytest.raises(FileNotFoundError, match="run `make demo`, or set BINDER_MODEL"):
        recognizer.model_id()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert recognizer.model_id() == str(tmp_path / "model")
    (tmp_path / "model_id.txt").write_text("alice/tiny\n")
    assert recognizer.model_id() == "alice/tiny"
    monkeypatch.setenv("BINDER_MODEL", "elsewhere")
    assert recognizer.model_id() == "elsewhere"


@pytest.mark.parametrize("count", [0, 3, MAX_TYPES + 1])
def test_examples_with_the_types_of_the_model_come_first_unless_it_has_none_or_too_many(count, monkeypatch):
    own = {f"T{i}": "A thing." for i in range(count)}
    monkeypatch.setattr(app.recognizer, "own_types", lambda: own)
    shown = app.examples()
    assert all(check_text(example.text) for example in shown)
    for example in shown:
        check_types(app._rows(example.types) if example.types else app.own_rows())
    assert (shown[0].types is None) == (count == 3), "without types of the model, the first example has its own types"
