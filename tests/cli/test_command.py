"""Tests of the command `binder-ner`: help without torch, exit codes, and errors in one line."""

import importlib
import re
import sys

import pytest

from modeling_binder import __version__
from modeling_binder.cli import COMMANDS, CommandError, main
from tests.cli import running
from tests.fresh_process import ROOT, run


@pytest.mark.parametrize("arguments", [["--help"], *([entry.name, "--help"] for entry in COMMANDS)], ids=" ".join)
def test_help_needs_neither_torch_nor_transformers(arguments, tmp_path):
    code = f"""
    import contextlib, io, json, sys
    from modeling_binder.cli import main
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main({arguments!r})
    loaded = [name for name in ("torch", "transformers") if name in sys.modules]
    print(json.dumps([loaded, shown.getvalue()]))
    """
    loaded, shown = run(code, package=True, cache=tmp_path)
    assert loaded == []
    assert f"usage: binder-ner {arguments[0] if len(arguments) > 1 else '[-h]'}" in shown
    assert "binder-ner " in shown.split("\n\n", 1)[1], "the help has an example"


def test_every_command_is_listed_in_the_help(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())  # argparse breaks lines
    for entry in COMMANDS:
        assert f" {entry.name} {entry.help} " in shown


def test_the_console_script_calls_main():
    (target,) = re.findall(
        r'^binder-ner = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    module, _, name = target.partition(":")
    assert getattr(importlib.import_module(module), name) is main


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"binder-ner {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["seek"], ["find"], ["find", "--model"], ["--model", "x", "find"]])
def test_invalid_arguments_have_the_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and "usage: binder-ner" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("the cause"), 1),
        (ValueError("the cause"), 1),
        (FileNotFoundError("the cause"), 1),
        (ModuleNotFoundError("the cause"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_in_the_input_have_no_traceback(error, code, monkeypatch, capsys):
    def fail(arguments):
        raise error

    monkeypatch.setattr("modeling_binder.cli.evaluate.run", fail)
    assert main(["evaluate", "model", "corpus"]) == code
    assert capsys.readouterr().err == ("" if code == 130 else "binder-ner evaluate: error: the cause\n")


def test_errors_in_the_program_have_a_traceback(monkeypatch):
    monkeypatch.setattr("modeling_binder.cli.evaluate.run", lambda arguments: {}["missing"])
    with pytest.raises(KeyError):
        main(["evaluate", "model", "corpus"])


def test_a_process_has_the_exit_code_and_prints_the_error(tmp_path):
    code, out, error = running.run("evaluate", tmp_path / "model", tmp_path / "nothing.jsonl")
    assert (code, out) == (1, "")
    message = f"binder-ner evaluate: error: MODEL: cannot load the model '{tmp_path}/model': there is no such folder"
    assert error.startswith(message) and error.count("\n") == 1


def test_the_error_names_the_packages_that_evaluate_needs(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "modeling_binder.finetuning.evaluation", None)
    assert main(["evaluate", "model", "corpus"]) == 1
    assert "an evaluation needs further packages: pip install 'binder-ner[train]'." in capsys.readouterr().err


def test_an_exported_model_has_the_metrics_of_the_original(checkpoint, tmp_path, capsys):
    from modeling_binder.finetuning import read_jsonl, write_jsonl
    from tests.tiny import corpus

    write_jsonl(tmp_path / "test.jsonl", corpus(1))
    assert main(["export", "frozen", str(checkpoint), str(tmp_path / "frozen")]) == 0
    assert "MB;" in capsys.readouterr().out and (tmp_path / "frozen" / "model.safetensors").exists()
    assert main(["export", "frozen", str(checkpoint), str(tmp_path / "frozen")]) == 1
    assert "already exists" in capsys.readouterr().err
    shown = []
    for model in (checkpoint, tmp_path / "frozen"):
        files = ["--json", str(tmp_path / "metrics.json"), "--predictions", str(tmp_path / "found.jsonl")]
        assert main(["evaluate", str(model), str(tmp_path / "test.jsonl"), *files]) == 0
        shown.append(capsys.readouterr().out)
    assert "micro" in shown[0] and shown[0] == shown[1], "both models have the same metrics"
    assert '"f1"' in (tmp_path / "metrics.json").read_text()
    assert [document.text for document in read_jsonl(tmp_path / "found.jsonl")] == [d.text for d in corpus(1)]
