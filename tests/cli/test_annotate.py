"""Tests of `binder-ner annotate`: arguments, output and exit codes."""

import json

import pyarrow.parquet as pq
import pytest

from modeling_binder.cli import main


@pytest.fixture
def table(tmp_path):
    rows = [{"title": "a", "abstract": "the IL-2 gene in cells"}, {"title": "b", "abstract": None}]
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 3))
    return tmp_path / "table.jsonl"


def annotate(table, checkpoint, *options):
    arguments = [table, table.parent / "out", "--model", checkpoint, "--text-column", "abstract", "--no-progress"]
    return main(["annotate", *map(str, arguments), *options])


def test_a_second_run_does_not_annotate_the_same_rows_again(table, checkpoint, capsys):
    options = ["--type", "drug: a medicine", "--rows-per-part", "4", "--new-id-column", "row", "--flat"]
    assert annotate(table, checkpoint, *options) == 0
    out = table.parent / "out"
    assert capsys.readouterr().out == f"{out}: 6 rows annotated; 3 of them have an error.\n"
    rows = pq.read_table(out).to_pylist()
    assert [row["row"] for row in rows] == [f"table.jsonl:{row}" for row in range(6)]
    assert {entity["label"] for row in rows for entity in row["entities"] or ()} <= {"drug"}
    assert [row["error"] for row in rows] == [None, "there is no text"] * 3
    assert annotate(table, checkpoint, *options) == 0
    assert capsys.readouterr().out == f"{out}: 0 rows annotated; 6 were annotated before.\n"


def test_parts_can_be_written_as_jsonl(table, checkpoint):
    assert annotate(table, checkpoint, "--format", "jsonl", "--entities-column", "found", "--error-column", "why") == 0
    lines = (table.parent / "out" / "part-00000-000000000000.jsonl").read_text().splitlines()
    assert list(json.loads(lines[0])) == ["title", "abstract", "id", "why", "found"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--text-column", "text"], "there is no column 'text'; choose the text_column from 'title', 'abstract'"),
        (["--actors", "2"], "--actors, --cpus-per-actor and --gpus-per-actor need --ray."),
        (["--split", "train"], "only datasets on the Hub have splits and configurations"),
        (["--model", "nowhere/at/all"], "cannot load the model 'nowhere/at/all': there is no such folder"),
    ],
)
def test_errors_have_one_line(table, checkpoint, capsys, options, error):
    assert annotate(table, checkpoint, *options) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("binder-ner annotate: error: ") and error in message


def test_an_invalid_number_of_actors_is_rejected(table, checkpoint, capsys):
    with pytest.raises(SystemExit):
        annotate(table, checkpoint, "--actors", "many")
    assert "expected a number, or a range such as 1-8, got 'many'" in capsys.readouterr().err


def test_the_error_names_a_missing_package(table, checkpoint, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert annotate(table, checkpoint, "--ray") == 1
    assert "the package ray is missing: pip install 'binder-ner[ray]'" in capsys.readouterr().err
