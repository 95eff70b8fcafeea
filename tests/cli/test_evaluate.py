"""Tests of `binder-ner evaluate`: files of predictions, pages of errors, and the comparison of two models."""

import json
import shutil

import pytest

from modeling_binder.cli import main
from modeling_binder.finetuning import (
    Document,
    Mention,
    compute_span_metrics,
    paired_bootstrap,
    read_jsonl,
    write_jsonl,
)
from tests.tiny import corpus


@pytest.fixture
def files(tmp_path):
    """Return a folder with a corpus (test.jsonl), correct predictions (perfect.jsonl) and wrong ones (other.jsonl)."""
    documents = [
        Document(str(index), "the IL-2 gene in T cells", (Mention(4, 13, "Gene"), Mention(17, 24, "Cell")))
        for index in range(8)
    ]
    write_jsonl(tmp_path / "test.jsonl", documents)
    write_jsonl(tmp_path / "perfect.jsonl", documents)
    other = [Document(d.id, d.text, (Mention(4, 8, "Gene"), Mention(17, 24, "Gene"))) for d in documents]
    write_jsonl(tmp_path / "other.jsonl", other)
    return tmp_path


def evaluate(*arguments):
    return main(["evaluate", *map(str, arguments)])


def test_evaluating_saved_predictions_gives_the_same_metrics(checkpoint, tmp_path, capsys):
    write_jsonl(tmp_path / "test.jsonl", corpus(1))
    found, page = tmp_path / "found.jsonl", tmp_path / "errors.html"
    outputs = []
    for number, model in enumerate((checkpoint, found)):
        report = tmp_path / f"{number}.json"
        options = ["--predictions", found] if number == 0 else ["--errors", page, "--types", tmp_path / "types.json"]
        (tmp_path / "types.json").write_text(json.dumps({"Gene": "a", "Cell": "b", "Place": "c"}))
        assert evaluate(model, tmp_path / "test.jsonl", "--json", report, *options) == 0
        outputs.append(json.loads(report.read_text()))
        capsys.readouterr()
    assert outputs[0] == outputs[1] and outputs[0]["micro"]["predicted"] > 0
    assert outputs[0]["schemes"]["strict"]["micro"] == outputs[0]["micro"]
    entities = [json.loads(line)["entities"] for line in found.read_text().splitlines()]
    assert set(next(filter(None, entities))[0]) == {"start", "end", "label", "score", "word"}
    assert f"Errors of {found} on {tmp_path / 'test.jsonl'}" in page.read_text()


def test_files_of_predictions_are_compared_without_the_training_packages(files, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "modeling_binder.finetuning.evaluation", None)
    options = ["--against", files / "other.jsonl", "--resamples", 99, "--seed", 5, "--json", files / "report.json"]
    assert evaluate(files / "perfect.jsonl", files / "test.jsonl", *options) == 0
    shown = capsys.readouterr().out
    assert f"100.00 for {files}/perfect.jsonl, 0.00 for {files}/other.jsonl: difference +100.00" in shown
    assert "8 documents, 99 samples, seed 5" in shown and "\npartial " in shown
    gold, one, two = (read_jsonl(files / f"{name}.jsonl") for name in ("test", "perfect", "other"))
    report = json.loads((files / "report.json").read_text())
    expected = paired_bootstrap(gold, one, two, resamples=99, seed=5)
    assert report["against"] == {"model": str(files / "other.jsonl"), **expected.to_dict()}
    assert report["micro"] == compute_span_metrics(gold, one).micro.to_dict()


def test_errors_are_written_as_html_or_json(files, capsys):
    assert evaluate(files / "other.jsonl", files / "test.jsonl", "--errors", files / "e.html", "--max-errors", 3) == 0
    assert (
        "e.html: 16 errors (8 type, 8 boundary, 0 type and boundary, 0 missed, 0 spurious)" in capsys.readouterr().out
    )
    page = (files / "e.html").read_text()
    assert page.count("<article>") == 6 and page.count("3 of 8 are shown.") == 2
    assert evaluate(files / "other.jsonl", files / "test.jsonl", "--errors", files / "e.json") == 0
    assert len(json.loads((files / "e.json").read_text())["mentions"]) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--errors", "errors.txt"], "--errors errors.txt: expected a name that ends in .html or .json."),
        (["--max-errors", 0], "--max-errors must be at least 1, got 0."),
        (["--resamples", 0], "--resamples must be at least 1, got 0."),
        (["--seed", -1], "--seed must be at least 0, got -1."),
        (["--decoding", "flat"], "--decoding has no effect on"),
    ],
)
def test_invalid_arguments_are_rejected_before_the_evaluation(files, options, message, capsys):
    assert evaluate(files / "other.jsonl", files / "test.jsonl", *options) == 1
    output = capsys.readouterr()
    assert message in output.err and output.out == ""


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("mine.jsonl.gz", [], "MODEL {0}/mine.jsonl.gz: there is no such file."),
        ("perfect.jsonl", ["--against", "nope.jsonl"], "--against nope.jsonl: there is no such file."),
        ("folder", [], "MODEL: cannot load the model '{0}/folder': there is no such folder, and loading from the Hub "),
        ("perfect.jsonl", ["--against", "./nope/x"], "--against: cannot load the model './nope/x': there is no such "),
        ("perfect.jsonl", ["--json", "/proc/x.json"], "--json /proc/x.json: cannot write to the folder /proc ("),
        ("perfect.jsonl", ["--predictions", "/"], "--predictions /: this is a folder;"),
        (
            "perfect.jsonl",
            ["--predictions", "{0}/test.jsonl"],
            "test.jsonl: the output is an input; choose another",
        ),
        ("perfect.jsonl", ["--json", "{0}/./perfect.jsonl"], "perfect.jsonl: the output is an input; choose another"),
        ("perfect.jsonl", ["--errors", "/dev/null/x.html"], "--errors /dev/null/x.html: cannot write to the folder"),
    ],
)
def test_missing_models_and_files_are_rejected_before_the_evaluation(files, model, options, message, capsys):
    options = [option.format(files) for option in options]
    assert evaluate(files / model, files / "test.jsonl", *options) == 1
    output = capsys.readouterr()
    assert message.format(files) in output.err and output.out == ""
    assert output.err.count("\n") == 1


def test_predictions_are_written_before_the_comparison(checkpoint, tmp_path, capsys):
    write_jsonl(tmp_path / "test.jsonl", corpus(1))
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    (other / "model.safetensors").unlink()
    found = tmp_path / "new" / "found.jsonl"
    assert evaluate(checkpoint, tmp_path / "test.jsonl", "--predictions", found, "--against", other) == 1
    assert "model.safetensors" in capsys.readouterr().err
    assert len(read_jsonl(found)) == len(corpus(1))


def test_an_invalid_file_of_predictions_is_rejected_before_the_evaluation(files, checkpoint, capsys):
    (files / "bad.jsonl").write_text("[")
    assert evaluate(checkpoint, files / "test.jsonl", "--against", files / "bad.jsonl") == 1
    output = capsys.readouterr()
    assert "bad.jsonl" in output.err and output.out == ""


def test_the_error_of_an_unknown_label_names_the_option_for_types(checkpoint, tmp_path, capsys):
    write_jsonl(tmp_path / "test.jsonl", [Document("a", "Rome", (Mention(0, 4, "city"),))])
    assert evaluate(checkpoint, tmp_path / "test.jsonl") == 1
    shown = capsys.readouterr().err
    assert "the label 'city' (1 mention, first in document 'a') has no description." in shown
    assert (
        'Add a line such as "city": "One sentence that says what it is." to the types to evaluate (--types FILE'
        in shown
    )


def test_predictions_of_other_documents_are_rejected(files, capsys):
    write_jsonl(files / "few.jsonl", read_jsonl(files / "other.jsonl")[:3])
    assert evaluate(files / "few.jsonl", files / "test.jsonl") == 1
    assert "lacks the document '3', '4', '5' and 2 more" in capsys.readouterr().err
