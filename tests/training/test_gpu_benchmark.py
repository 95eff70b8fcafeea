"""The benchmark for GPUs, run with a tiny model on the CPU: rows of all contenders, and the table."""

import json

import pytest

from modeling_binder.finetuning import write_jsonl
from tests.tiny import corpus
from training.benchmarks import gpu


def test_the_benchmark_measures_finding_and_training_and_writes_the_table(checkpoint, tmp_path):
    write_jsonl(tmp_path / "texts.jsonl", corpus())
    page, out = tmp_path / "page.md", tmp_path / "gpu.json"
    page.write_text("before\n<!-- gpu -->\n<!-- /gpu -->\n")
    files = ["--out", str(out), "--page", str(page)]
    small = ["--device", "cpu", "--limit", "3", "--repeat", "2", "--steps", "2", "--rounds", "2"]
    gpu.main([str(checkpoint), "--texts", str(tmp_path / "texts.jsonl"), *small, *files])
    rows = json.loads(out.read_text())["rows"]
    assert {row["contender"] for row in rows} == {
        "bare encoder, fp32",
        "binder-ner, fp32",
        "bare encoder, bf16",
        "binder-ner, bf16",
        "bare encoders, training step",
        "binder-ner, training step",
    }
    assert all(len(row["rounds"]) == 2 and min(row["rounds"]) > 0 for row in rows)
    written = page.read_text()
    page.write_text("<!-- gpu -->\n<!-- /gpu -->\n")
    gpu.main(["--tables", *files])
    assert page.read_text() in written


def test_ratios_are_medians_over_rounds_relative_to_the_bare_encoder_of_the_same_precision():
    rows = [("bare encoder, bf16", [100.0, 200.0, 400.0]), ("binder-ner, bf16, compile", [90.0, 160.0, 380.0])]
    about = {
        "device": "a GPU",
        "texts": 8,
        "rounds": 3,
        "command": "python -m x",
        "commit": "abc",
        "date": "2026-01-01",
    }
    results = {"about": about, "rows": [{"model": "m", "contender": name, "rounds": rounds} for name, rounds in rows]}
    assert "| m | binder-ner, bf16, compile | 160 | 0.90 |" in gpu.page(results)


def test_models_and_texts_are_required(capsys):
    with pytest.raises(SystemExit):
        gpu.main(["demo/model"])
    assert "pass the models and --texts FILE, or --tables" in capsys.readouterr().err
