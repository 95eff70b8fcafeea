"""Tests of `binder-ner tune-thresholds`."""

import json
import re
import tempfile

import pytest

from modeling_binder import BinderConfig
from modeling_binder.cli import main
from modeling_binder.finetuning import Document, Mention, write_jsonl
from tests.tiny import TYPES, build_model, build_tokenizer, corpus


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build_model().save_pretrained("model")
    build_tokenizer().save_pretrained("model")
    write_jsonl("dev.jsonl", corpus(2))
    return tmp_path


def test_the_command_writes_a_tuned_copy_and_a_plot(files, capsys):
    arguments = ["--calibrate", "--plot", "plot.svg", "--output", "tuned", "--min-mentions", "4", "--device", "cpu"]
    assert main(["tune-thresholds", "model", "dev.jsonl", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "F1 before" in shown and "expected calibration error: " in shown and "thresholds written to " in shown
    assert "is the shared threshold\n  Place: fewer than 4 mentions\n" in shown and "described" not in shown
    assert (files / "plot.svg").read_text().lstrip().startswith("<?xml")
    config = BinderConfig.from_pretrained("tuned")
    assert set(config.thresholds) == {"Gene", "Cell"} and config.default_temperature != 1
    assert BinderConfig.from_pretrained("model").thresholds is None
    assert main(["evaluate", "tuned", "dev.jsonl", "--json", "metrics.json"]) == 0
    f1 = 100 * json.loads((files / "metrics.json").read_text())["micro"]["f1"]
    assert f"{f1:.2f}" in next(line for line in shown.splitlines() if line.startswith("all types"))


def test_the_report_names_types_that_do_not_reach_the_recall(files, capsys):
    """A mention of 14 tokens exceeds the model's max_span_width. So no threshold finds all mentions of its type."""
    wide = "a b c d e f g h i j k l m n"
    write_jsonl("dev.jsonl", [*corpus(1), Document("w", wide, (Mention(0, len(wide), "Cell"),))])
    assert main(["tune-thresholds", "model", "dev.jsonl", "--recall", "1", "--min-mentions", "3"]) == 0
    assert "Cell: does not reach recall 1; it reaches 0." in capsys.readouterr().out
    assert BinderConfig.from_pretrained("model").thresholds, "the model is changed in place"


def test_the_report_names_types_with_other_descriptions(files, capsys):
    (files / "types.json").write_text(json.dumps({"Gene": TYPES["Gene"], "Cell": "A small room in a prison."}))
    arguments = ["--types", "types.json", "--min-mentions", "3"]
    assert main(["tune-thresholds", "model", "dev.jsonl", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "  Cell: the description differs from the model's, so the type has no threshold in the model\n" in shown
    assert "fewer than" not in shown


def test_a_calibration_that_does_not_help_is_not_saved(files, capsys, monkeypatch):
    monkeypatch.setattr("modeling_binder.finetuning.calibration.fit_temperature", lambda margins, is_gold: 0.1)
    assert main(["tune-thresholds", "model", "dev.jsonl", "--calibrate", "--plot", "plot.svg"]) == 0
    shown = capsys.readouterr().out
    assert re.search("calibration error: .* spans: calibration did not help and is not saved\n", shown)
    assert BinderConfig.from_pretrained("model").default_temperature == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["user/name", "dev.jsonl"], "user/name is not a local folder, .*: add --output FOLDER"),
        (["model", "dev.jsonl", "--output", "model"], "model already exists: choose another folder"),
        (["model", "dev.jsonl", "--plot", "x.png"], "add --calibrate"),
        (["model", "dev.jsonl", "--calibrate", "--plot", "x.txt"], r"x.txt: a plot has one of the suffixes \.png"),
        (["model", "nothing.jsonl"], "nothing.jsonl"),
        (["/nowhere", "dev.jsonl", "--output", "x"], "cannot load the model '/nowhere': there is no such folder"),
        (["/nowhere", "dev.jsonl"], "cannot load the model '/nowhere': there is no such folder"),
        (["empty", "dev.jsonl"], "empty is not a checkpoint: it has no config.json"),
    ],
)
def test_errors_have_one_line(files, capsys, arguments, message):
    (files / "empty").mkdir()
    assert main(["tune-thresholds", *arguments]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line)


def test_a_folder_that_cannot_be_written_raises_an_error(files, capsys, monkeypatch):
    def refuse(*, dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert main(["tune-thresholds", "model", "dev.jsonl"]) == 1
    assert "model cannot be written: Permission denied. Write a changed copy instead" in capsys.readouterr().err


def test_metric_and_precision_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as end:
        main(["tune-thresholds", "model", "dev.jsonl", "--metric", "f1", "--precision", "0.9"])
    assert end.value.code == 2
