"""Tests of reading tables: files are found, scanned and read in chunks, and invalid rows and files have errors."""

import gzip
import json
from datetime import date

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.annotating.files import find_files
from modeling_binder.annotating.source import PART_COLUMN, Columns, Source

ROWS = [{"text": f'text {row}\u2028with\r\nends, "quotes" and é\U0001f600', "n": str(row)} for row in range(23)]
WRITERS = {}


def writer(suffix):
    """Return a decorator that registers the function that writes a file format."""

    def register(function):
        WRITERS[suffix] = function
        return function

    return register


@writer(".jsonl")
def _jsonl(path, rows):
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8", newline="")


@writer(".jsonl.gz")
def _compressed(path, rows):
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\r\n" for row in rows).encode()))


@writer(".csv")
def _csv(path, rows, delimiter=","):
    cells = [list(rows[0]), *([str(value).replace('"', '""') for value in row.values()] for row in rows)]
    lines = [delimiter.join(f'"{cell}"' for cell in line) for line in cells]
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())


@writer(".tsv")
def _tsv(path, rows):
    _csv(path, rows, "\t")


@writer(".parquet")
def _parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)


def read(path, rows_per_part=4, done=frozenset(), **columns):
    """Return the source, and the tables of all chunks that are not in `done`."""
    source = Source(find_files(path), Columns(**columns), rows_per_part, str(path))
    return source, [table for task in source.tasks(done) for table in task()]


def rows_of(tables):
    """Return the rows of several tables as dictionaries."""
    return [row for table in tables for row in table.drop_columns([PART_COLUMN]).to_pylist()]


@pytest.mark.parametrize("suffix", WRITERS)
def test_all_rows_are_read_in_chunks(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    WRITERS[suffix](path, ROWS)
    source, tables = read(path)
    assert source.num_rows == len(ROWS) and max(table.num_rows for table in tables) <= 4
    expected = [{**row, "id": f"{path.name}:{number}", "error": None} for number, row in enumerate(ROWS)]
    assert rows_of(tables) == expected


@pytest.mark.parametrize("suffix", WRITERS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_any_chunks_can_be_skipped(tmp_path_factory, suffix, data):
    """The chunks of an earlier run are not read. All other rows are read once."""
    path = tmp_path_factory.mktemp("tables") / f"table{suffix}"
    WRITERS[suffix](path, ROWS)
    source, _ = read(path, data.draw(st.integers(1, 30)))
    names = [chunk.name for chunk in source.chunks]
    done = data.draw(st.sets(st.sampled_from(names)))
    found = rows_of(table for task in source.tasks(done) for table in task())
    expected = [
        ROWS[row]["n"]
        for chunk in source.chunks
        if chunk.name not in done
        for row in range(chunk.first, chunk.first + chunk.rows)
    ]
    assert [row["n"] for row in found] == expected


def test_tables_are_found_by_folder_pattern_and_url(tmp_path):
    for name in ("b/two.jsonl", "a/one.jsonl", "_hidden/x.jsonl", "a/.x.jsonl", "a/readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        _jsonl(tmp_path / name, [{"text": name}])
    for source in (tmp_path, f"file://{tmp_path}", str(tmp_path / "[ab]/*.jsonl")):
        assert [row["id"] for row in rows_of(read(source)[1])] == ["a/one.jsonl:0", "b/two.jsonl:0"]
    with fsspec.open("memory://tables/one.jsonl", "wb") as file:
        file.write(b'{"text": "in memory"}\n')
    assert rows_of(read("memory://tables")[1])[0]["text"] == "in memory"


def test_a_dataset_on_the_hub_is_read(hub, tmp_path):
    from huggingface_hub import HfApi

    HfApi().create_repo("alice/texts", repo_type="dataset")
    for split in ("train", "test"):
        _jsonl(tmp_path / f"{split}.jsonl", [{"text": split}])
    HfApi().upload_folder(repo_id="alice/texts", repo_type="dataset", folder_path=tmp_path)
    source = Source(find_files("alice/texts", "test"), Columns(), 10, "alice/texts")
    assert rows_of(table for task in source.tasks() for table in task())[0]["text"] == "test"
    with pytest.raises(ValueError, match="choose a split with --split; the splits are train, test"):
        find_files("alice/texts")
    with pytest.raises(ValueError, match="no such file or folder, and the dataset on the Hub cannot be read"):
        find_files("alice/other")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"text": "a"', "not valid JSON"),
        (b'{"text": "caf\xe9"}', "0xe9, is not UTF-8"),
        (b'{"text": "half \\ud83d"}', "half of a surrogate pair"),
        (b"[1]", "expected a JSON object"),
        (b'{"text": 5}', "the text is not a string but 5"),
    ],
)
def test_an_invalid_line_does_not_end_the_job(tmp_path, line, error):
    path = tmp_path / "table.jsonl"
    path.write_bytes(b'{"text": "before", "n": 1}\n' + line + b'\n{"text": "after", "n": 2.5}')
    before, broken, after = rows_of(read(path)[1])
    assert (before["text"], before["n"], after["text"], after["n"]) == ("before", 1, "after", 2.5)
    assert before["error"] is None and broken["text"] is None and error in broken["error"]


def test_invalid_rows_of_csv_have_an_error(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"text,n\na,1,2\nb\ncaf\xe9,3\n")
    rows = rows_of(read(path)[1])
    assert [row["text"] for row in rows] == ["a", "b", "caf\ufffd"]
    assert [row["error"] for row in rows] == [
        "the row has 3 fields, and the header has 2",
        "the row has 1 fields, and the header has 2",
        "the column 'text' is not UTF-8: 0xe9 at offset 3",
    ]


def test_invalid_strings_of_parquet_have_an_error(tmp_path):
    broken = pa.StringArray.from_buffers(2, pa.py_buffer(np.int32([0, 1, 3])), pa.py_buffer(b"a\xe9b"))
    pq.write_table(pa.table({"text": broken}), tmp_path / "table.parquet")
    rows = rows_of(read(tmp_path / "table.parquet")[1])
    assert [row["text"] for row in rows] == ["a", "\ufffdb"] and "0xe9" in rows[1]["error"] and not rows[0]["error"]


def test_columns_have_one_type_in_all_chunks(tmp_path):
    lines = [
        {"text": "a"},
        {"text": "b", "n": None, "tags": []},
        {"text": "c", "n": 1, "tags": ["x"], "more": {"k": 1}},
    ]
    _jsonl(tmp_path / "table.jsonl", lines)
    source, tables = read(tmp_path / "table.jsonl", rows_per_part=1)
    assert len(tables) == 3 and len({str(table.schema) for table in tables}) == 1
    assert source.schema.field("tags").type == pa.list_(pa.string())
    assert [row["n"] for row in rows_of(tables)] == [None, None, 1]


def test_ids_of_the_table_are_kept_and_missing_ids_are_generated(tmp_path):
    _jsonl(tmp_path / "table.jsonl", [{"text": "a", "id": 7}, {"text": "b"}, {"text": "b"}])
    assert [row["id"] for row in rows_of(read(tmp_path / "table.jsonl")[1])] == ["7", "table.jsonl:1", "table.jsonl:2"]
    tables = read(tmp_path / "table.jsonl", id="row", new_ids=True)[1]
    assert next((row["row"], row["id"]) for row in rows_of(tables)) == ("table.jsonl:0", 7)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_ids_must_be_unique(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"table{suffix}", [{"id": str(row % 9), "text": "a"} for row in range(10)])
    with pytest.raises(ValueError, match=r"the id '0' is in the rows table\S*:0 and table\S*:9; ids must be unique"):
        read(tmp_path / f"table{suffix}")


def test_different_ids_may_have_the_same_hash(tmp_path):
    assert hash(-1) == hash(-2)
    _parquet(tmp_path / "table.parquet", [{"id": -1, "text": "a"}, {"id": -2, "text": "a"}])
    assert [row["id"] for row in rows_of(read(tmp_path / "table.parquet")[1])] == [-1, -2]


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        ({"text": "body"}, "no column 'body'; choose the text_column from 'id', 'text', 'error', 'n', 'day'"),
        ({"text": "text", "id": "key", "new_ids": False}, "no column 'key'; choose the id_column"),
        ({}, "a column 'error' already; choose another error_column"),
        ({"entities": "n", "error": "e"}, "a column 'n' already; choose another entities_column"),
        ({"new_ids": True, "error": "e"}, "a column 'id' already; choose another new_id_column"),
        ({"text": "n", "error": "e"}, "the column 'n' has the type int64; texts must be strings"),
        ({"id": "day", "error": "e"}, "the column 'day' has the type date32.*; expected strings or integers"),
        ({"error": "entities"}, "must have different names"),
    ],
)
def test_unsuitable_columns_raise_an_error(tmp_path, columns, error):
    _parquet(tmp_path / "t.parquet", [{"id": "a", "text": "b", "error": "c", "n": 1, "day": date(2026, 1, 2)}])
    with pytest.raises(ValueError, match=error):
        read(tmp_path / "t.parquet", **columns)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("t.jsonl", b"", "there are no rows"),
        ("t.jsonl", b'[{"text": "a"}]', "expected one object per line, got a JSON array"),
        ("t.jsonl", '{"text": "a"}'.encode("utf-16"), "the file is UTF-16, not UTF-8"),
        (
            "t.jsonl",
            b'{"text": "a", "n": 1}\n{"text": "a", "n": "b"}',
            "the column 'n' cannot be stored: in the rows 0 to 1",
        ),
        (
            "t.jsonl",
            b'{"text": "a", "n": 1}\n{"text": "a"}\n{"text": "a", "n": "b"}',
            "differ from the columns of earlier rows",
        ),
        ("t.csv", b'text\n"a', "line 2 is not valid CSV"),
        ("t.csv", b"text,text\na,b", "the column 'text' twice"),
        (
            "t.jsonl",
            b'{"text": "a", "id": ["a"]}',
            "the column 'id' has the type list<.*; expected strings or integers",
        ),
        ("t.jsonl.gz", gzip.compress(b'{"text": "a"}')[:-9], r"t\.jsonl\.gz: not a complete compressed file"),
        ("t.jsonl.gz", b'{"text": "a"}', r"t\.jsonl\.gz: not a complete compressed file"),
        ("t.jsonl.bz2", b'{"text": "a"}', r"t\.jsonl\.bz2: not a complete compressed file"),
        ("t.csv.xz", b"text", r"t\.csv\.xz: not a complete compressed file"),
        ("t.parquet", b"PAR1", "not a Parquet file"),
        ("t.txt", b"a", r"'.txt' is not the suffix of a table; expected .jsonl"),
    ],
)
def test_invalid_files_raise_an_error(tmp_path, name, content, error):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=error):
        read(tmp_path / name, rows_per_part=2)


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz"])
def test_errors_of_the_network_are_not_reported_as_damaged_files(tmp_path, name):
    """Many of these errors are an OSError without a number, like the errors of gzip and bz2."""
    (tmp_path / name).write_bytes(gzip.compress(b"x"))
    (file,) = find_files(tmp_path / name)
    with pytest.raises(TimeoutError), file.open():
        raise TimeoutError("no answer")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("missing.jsonl", "no such file, folder or dataset"),
        ("s3://bucket/x.parquet", "s3:// needs a package that is not installed: pip install s3fs"),
        ("gs://bucket/x.parquet", "pip install gcsfs"),
        ("what://bucket/x.parquet", "Protocol not known: what; expected a path, or a URL such as"),
        (".", "there are no tables"),
    ],
)
def test_missing_sources_raise_an_error(tmp_path, monkeypatch, source, error):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=error):
        find_files(source)


def test_all_files_of_a_folder_must_have_one_format(tmp_path):
    _jsonl(tmp_path / "a.jsonl", ROWS)
    _csv(tmp_path / "b.csv", ROWS)
    with pytest.raises(ValueError, match=r"different formats \(csv, jsonl\)"):
        find_files(tmp_path)


def test_a_file_that_changes_after_the_scan_raises_an_error(tmp_path):
    path = tmp_path / "table.jsonl"
    _jsonl(path, ROWS)
    source, _ = read(path)
    _jsonl(path, ROWS[3:])
    with pytest.raises(ValueError, match="the file has changed while it was read"):
        [table for task in source.tasks() for table in task()]
