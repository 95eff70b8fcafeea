"""Tests of parts of the demo page without a browser: charts, limits, files, and functions on a ZeroGPU Space."""

import csv
import importlib
import io
import json
import pickle
import runpy
import sys
import types
from pathlib import Path

import pytest

from demo import app, files, recognizer
from demo.charts import heat_map, margin_bars
from demo.limits import MAX_CHARACTERS, MAX_RECORDS, MAX_TYPES, Refused, check_text, check_types
from tests.tiny import TYPES


def test_the_heat_map_and_the_margins_are_drawn():
    nan = float("nan")
    drawn = heat_map("a <b>", [(0, 1), (2, 5)], [[-1.0, 2.5], [nan, -9.0]], "X<i>")
    assert drawn.count("<td") == 4 and '<td class="bn-found"' in drawn and ">+2.5<" in drawn and "&lt;b&gt;" in drawn
    assert "<b>" not in drawn and "<i>" not in drawn and 'title="a &lt;b&gt;: +2.50"' in drawn
    bars = margin_bars("a<b>", {"X": -1.0, "Y": 3.0}, ["X", "Y"])
    assert bars.index(">Y<") < bars.index(">X<") and "+3.00" in bars and "<b>" not in bars


def test_types_and_thresholds_are_read_from_the_table():
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


def test_text_jsonl_and_csv_files_are_read(tmp_path):
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
    """Reload the recognizer as on a ZeroGPU Space. There, arguments and results of decorated functions are pickled."""
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


def test_functions_are_not_decorated_outside_of_zerogpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert runpy.run_path(recognizer.__file__)["find"].__name__ == "find"


def test_the_page_finds_its_model_in_three_places(tmp_path, monkeypatch):
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
def test_the_first_example_uses_the_types_of_the_model_if_their_number_is_suitable(count, monkeypatch):
    own = {f"T{i}": "A thing." for i in range(count)}
    monkeypatch.setattr(app.recognizer, "own_types", lambda: own)
    monkeypatch.setattr(app.recognizer, "tuned_thresholds", lambda: {})
    shown = app.examples()
    assert all(check_text(example.text) for example in shown)
    for example in shown:
        check_types(app._rows(example.types) if example.types else app.own_rows())
    assert (shown[0].types is None) == (count == 3), "otherwise, it has its own types"


def test_tuned_thresholds_are_the_defaults_of_the_page(monkeypatch):
    monkeypatch.setattr(app.recognizer, "own_types", lambda: {"Gene": "a gene", "Cell": "a cell"})
    monkeypatch.setattr(app.recognizer, "tuned_thresholds", lambda: {"Gene": 0.7})
    rows = app.own_rows()
    assert rows == [["Gene", "a gene", 0.7], ["Cell", "a cell", ""]]
    _, options = app._options(rows, "flat", "span", 0.4)
    assert options["threshold"] == {"Gene": 0.7, "Cell": 0.4}
    _, options = app._options([["Gene", "a gene", ""]], "flat", "span", None)
    assert options["threshold"] == {}, "the pipeline uses the thresholds of the model"
