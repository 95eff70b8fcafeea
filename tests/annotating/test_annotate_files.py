"""Tests of annotating tables on one machine: entities, errors in rows, output folders, and interrupted jobs."""

import json
import random
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_binder.annotating.annotator import Annotator, Settings, TypeVectors
from modeling_binder.annotating.job import annotate_files, prepare
from modeling_binder.annotating.output import OutputFolder
from modeling_binder.annotating.source import Columns
from tests.tiny import assert_same_entities, build_pipeline

TYPES = {"Gene": None, "drug": "a medicine"}


def write_table(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(number):
    return [f"the IL-{row} gene {'promoter ' * (row % 5)}in cells" for row in range(number)]


def rows_in(folder):
    return pq.read_table(folder).to_pylist()


def assert_entities_of_the_pipeline(rows, **arguments):
    """Check that the rows have the entities that the pipeline finds in their texts."""
    pipe = build_pipeline()
    for row, expected in zip(rows, pipe([row["text"] for row in rows], **arguments), strict=True):
        assert_same_entities([{**entity, "entity_group": entity["label"]} for entity in row["entities"]], expected)
        assert all(row["text"][entity["start"] : entity["end"]] == entity["word"] for entity in row["entities"])


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "table.jsonl", [{"text": text, "n": n} for n, text in enumerate(texts(30))])


def test_annotate_files_finds_the_entities_of_the_pipeline(tmp_path, table, checkpoint):
    summary = annotate_files(table, tmp_path / "out", checkpoint, rows_per_part=8, entity_types=TYPES, decoding="flat")
    assert summary == (30, 0, 0)
    rows = rows_in(tmp_path / "out")
    assert [row["n"] for row in rows] == list(range(30)) and any(row["entities"] for row in rows)
    assert [row["id"] for row in rows] == [f"table.jsonl:{n}" for n in range(30)]
    assert_entities_of_the_pipeline(rows, entity_types=TYPES, decoding="flat")


def test_parts_can_be_written_as_jsonl(tmp_path, table, checkpoint):
    annotate_files(table, tmp_path / "out", checkpoint, format="jsonl", rows_per_part=20)
    annotate_files(table, tmp_path / "parquet", checkpoint, rows_per_part=20)
    parts = sorted((tmp_path / "out").glob("part-*.jsonl"))
    rows = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    assert len(parts) == 2 and rows == rows_in(tmp_path / "parquet")


def test_a_row_without_a_text_has_an_error(tmp_path, checkpoint):
    columns = {"text": pa.array(["the gene", None, "caf\xe9".encode("latin-1"), ""], pa.binary()), "n": [0, 1, 2, 3]}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    assert annotate_files(tmp_path / "table.parquet", tmp_path / "out", checkpoint).errors == 2
    found, missing, broken, blank = rows_in(tmp_path / "out")
    assert found["entities"] and found["error"] is None
    assert (missing["entities"], missing["error"]) == (None, "there is no text")
    assert (broken["entities"], broken["error"]) == (None, "byte 3 of the text, 0xe9, is not UTF-8")
    assert (blank["entities"], blank["error"]) == ([], None)


def test_a_text_that_fails_does_not_end_the_job(checkpoint, monkeypatch):
    annotator = Annotator(Settings(str(checkpoint)), Columns())
    preprocess = annotator.pipeline.preprocess

    def fail(text, **options):
        if "promoter" in text:
            raise RuntimeError("no room")
        return preprocess(text, **options)

    monkeypatch.setattr(annotator.pipeline, "preprocess", fail)
    rows = annotator(pa.table({"text": ["the gene", "a promoter", "cells"]})).to_pylist()
    assert [row["error"] for row in rows] == [None, "RuntimeError: no room", None]
    assert rows[0]["entities"] and rows[1]["entities"] is None
    with pytest.raises(RuntimeError, match="no room"):  # a model that fails for all texts must end the job
        annotator(pa.table({"text": ["a promoter", "promoters"]}))


def test_a_second_run_writes_only_the_missing_parts(tmp_path, table, checkpoint):
    out = tmp_path / "out"
    annotate_files(table, out, checkpoint, rows_per_part=8)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    (out / "part-00000-000000000008.parquet").unlink()
    (out / ".tmp-left").write_bytes(b"half")
    assert annotate_files(table, out, checkpoint, rows_per_part=8) == (8, 0, 22)
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert {name for name in before if before[name] != after[name]} == {"part-00000-000000000008.parquet"}
    assert [row["n"] for row in rows_in(out)] == list(range(30)) and not (out / ".tmp-left").exists()
    assert annotate_files(table, out, checkpoint, rows_per_part=8) == (0, 0, 30)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"rows_per_part": 9}, "Its rows_per_part is 8, but now it is 9."),
        ({"threshold": 0.7}, r"Its threshold is \[0.5, 0.5, 0.5\], but now it is \[0.7, 0.7, 0.7\]."),
        ({"entity_types": ["Gene"]}, "Its entity types is "),
        ({"decoding": "flat"}, 'Its decoding is "nested", but now it is "flat".'),
        ({"stride": 3}, "Its stride is 16, but now it is 3."),
        ({"dtype": "bfloat16"}, 'Its dtype is "float32", but now it is "bfloat16".'),
        ({"format": "jsonl"}, 'Its format is "parquet", but now it is "jsonl".'),
        ({"new_id_column": "key"}, 'Its id_column is "id", but now it is "key".'),
    ],
)
def test_the_output_folder_of_another_job_is_rejected(tmp_path, table, checkpoint, options, difference):
    annotate_files(table, tmp_path / "out", checkpoint, rows_per_part=8)
    with pytest.raises(ValueError, match=f"belongs to another job. .*{difference}"):
        prepare(table, tmp_path / "out", checkpoint, **{"rows_per_part": 8, **options})


def test_changed_data_or_weights_are_rejected_as_another_job(tmp_path, table, checkpoint, model):
    annotate_files(table, tmp_path / "out", checkpoint)
    model.span_head.text_projection.bias.data += 0.1
    model.save_pretrained(checkpoint)
    with pytest.raises(ValueError, match=r"Its model is .*, but now it is"):
        prepare(table, tmp_path / "out", checkpoint)
    write_table(table, [{"text": "another"}])
    with pytest.raises(ValueError, match=r"differs in 1 files, such as table.jsonl"):
        prepare(table, tmp_path / "out", checkpoint)


def test_the_output_folder_may_lie_in_the_folder_of_the_source(tmp_path, checkpoint):
    source, target = tmp_path / "source", tmp_path / "source" / "out"
    source.mkdir()
    write_table(source / "table.jsonl", [{"text": text} for text in texts(6)])
    annotate_files(source, target, checkpoint, rows_per_part=2, format="jsonl")
    for part in sorted(target.glob("part-*"))[1:]:
        part.unlink()
    assert annotate_files(source, target, checkpoint, rows_per_part=2, format="jsonl") == (4, 0, 2)
    for number, folder in enumerate((target, tmp_path / "results")):  # if there are only output folders, they are read
        target.rename(tmp_path / "results" / "a") if number else (tmp_path / "results").mkdir()
        again = annotate_files(folder, tmp_path / f"{number}", checkpoint, entities_column="e", error_column="x")
        assert again.rows == 6


def test_objects_without_fields_are_rejected_before_the_work(tmp_path, checkpoint):
    table = write_table(tmp_path / "table.jsonl", [{"text": "the gene", "meta": {"inner": [{}]}}])
    with pytest.raises(ValueError, match=r"Parquet cannot store the column 'meta', .*--format jsonl"):
        prepare(table, tmp_path / "out", checkpoint)
    assert not (tmp_path / "out").exists()
    assert annotate_files(table, tmp_path / "out", checkpoint, format="jsonl").rows == 1


def test_views_of_strings_are_annotated(tmp_path, checkpoint):
    columns = {"text": pa.array(texts(3), pa.string_view()), "title": pa.array(list("abc"), pa.large_string())}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    annotate_files(tmp_path / "table.parquet", tmp_path / "out", checkpoint)
    assert [row["text"] for row in rows_in(tmp_path / "out")] == texts(3)


def test_unsuitable_output_folders_are_rejected(tmp_path, table, checkpoint):
    with pytest.raises(ValueError, match="has files of other programs"):
        prepare(table, tmp_path, checkpoint)
    for name in ("out.parquet", "table.jsonl"):
        with pytest.raises(ValueError, match="the output is a folder with several files"):
            prepare(table, tmp_path / name, checkpoint)
    with pytest.raises(ValueError, match="format must be one of 'parquet', 'jsonl', got 'csv'"):
        prepare(table, tmp_path / "out", checkpoint, format="csv")
    with pytest.raises(ValueError, match="each file would be a commit"):
        prepare(table, "hf://datasets/alice/out", checkpoint)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_binder.json").write_text("{")
    with pytest.raises(ValueError, match=r"_binder\.json is broken"):
        prepare(table, tmp_path / "out", checkpoint)


def test_nothing_is_written_if_an_argument_is_invalid(tmp_path, table, checkpoint):
    for model, options, error in (
        (checkpoint, {"text_column": "body"}, "no column 'body'"),
        (checkpoint, {"decoding": "best"}, "decoding must be one of"),
        (checkpoint, {"rows_per_part": 0}, "rows_per_part must be at least 1"),
        (checkpoint, {"id_column": "n", "new_id_column": "key"}, "pass only one"),
        (tmp_path / "nowhere", {}, "cannot load the model '.*nowhere'"),
    ):
        with pytest.raises(ValueError, match=error):
            prepare(table, tmp_path / "out", model, **options)
        assert not (tmp_path / "out").exists()


def test_the_output_folder_may_be_on_another_file_system(table, checkpoint):
    annotate_files(table, "memory://out", checkpoint, rows_per_part=20)
    folder = OutputFolder("memory://out")
    assert folder.done() == {"00000-000000000000", "00000-000000000020"}
    with folder.filesystem.open("memory://out/part-00000-000000000020.parquet") as file:
        assert pq.read_table(file).num_rows == 10
    folder.filesystem.rm("memory://out/part-00000-000000000020.parquet")
    assert annotate_files(table, "memory://out", checkpoint, rows_per_part=20) == (10, 0, 20)


def test_types_are_encoded_once(checkpoint, monkeypatch):
    settings = Settings(str(checkpoint), entity_types=TYPES)
    types = TypeVectors.of(Annotator(settings, Columns()).pipeline, TYPES)
    table = pa.table({"text": texts(3)})
    expected = Annotator(settings, Columns())(table)
    annotator = Annotator(settings, Columns(), types)
    monkeypatch.setattr(annotator.pipeline, "_encode_types", None)
    assert annotator(table).equals(expected)


def test_a_job_continues_after_its_process_was_killed(tmp_path, checkpoint):
    """A killed process leaves only complete parts. The next process writes the missing parts."""
    table = write_table(tmp_path / "table.jsonl", [{"text": text, "n": n} for n, text in enumerate(texts(400))])
    out = tmp_path / "out"
    code = (
        "from modeling_binder.annotating.job import annotate_files; import sys; "
        "annotate_files(*sys.argv[1:], rows_per_part=10, progress=False)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(table), str(out), str(checkpoint)]) as process:
        wanted = random.Random(3).randint(1, 30)
        while process.poll() is None and len(list(out.glob("part-*"))) < wanted:
            time.sleep(0.002)
        process.kill()
    parts = len(list(out.glob("part-*")))
    assert wanted <= parts < 40 and not (out / "_SUCCESS").exists()
    assert annotate_files(table, out, checkpoint, rows_per_part=10) == (400 - 10 * parts, 0, 10 * parts)
    rows = rows_in(out)
    assert [row["n"] for row in rows] == list(range(400)) and (out / "_SUCCESS").exists()
    assert_entities_of_the_pipeline(rows)
