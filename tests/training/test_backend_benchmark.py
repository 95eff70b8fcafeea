"""The comparison of backends: the types of the corpus, the effect of the batch on scores, and the table."""

import json

import pytest

from modeling_binder.finetuning import write_jsonl
from tests.tiny import TYPES, corpus
from training.benchmarks import backends


def results(load):
    machine = {"processor": "2 threads of X", "load_before": [load, 0, 0]}
    about = {
        "command": "python -m x",
        "commit": "abc",
        "date": "2026-01-01",
        "machine": machine,
        "model": "mine",
        "corpus": "news",
        "documents": {"dev": 3, "test": 4},
        "sentences": 4,
        "threads": 2,
        "rounds": 3,
        "batch_size": 8,
    }
    rows = [("binder-ner, fp32", 100.0, 1.0, 80.0, 0.0), ("binder-ner, OpenVINO int8", 312.4, 3.124, 79.9, 0.0)]
    contenders = [
        {
            "title": title,
            "texts_per_second": {"median": speed},
            "relative": ratio,
            "f1": {"dev": score, "test": score + 1},
            "batch_dependence": dependence,
        }
        for title, speed, ratio, score, dependence in rows
    ]
    return {"about": about, "contenders": contenders}


def test_the_table_has_speeds_ratios_and_differences_of_f1(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(results(load=0.0)))
    (tmp_path / "page.md").write_text("before\n<!-- backends -->\n<!-- /backends -->\nafter\n")
    backends.main(["--tables", "--out", str(tmp_path / "results.json"), "--page", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    assert "| binder-ner, OpenVINO int8 | 312 | 3.12 | 79.90 (-0.10) | 80.90 (-0.10) | 0 |" in page
    assert page.startswith("before") and page.endswith("after\n") and "Other programs" not in page
    assert "Other programs used the machine (load 4)" in backends.page(results(load=4.2))


def test_the_model_gets_the_types_of_the_corpus(checkpoint, tmp_path):
    types = {"Thing": "A thing.", "Cell": TYPES["Cell"]}
    (tmp_path / "types.json").write_text(json.dumps(types))
    backends.with_types(str(checkpoint), tmp_path, tmp_path / "copy")
    pipe = backends.load_pipeline(str(tmp_path / "copy"))
    assert pipe.model.config.type_descriptions == types
    texts = ["the gene of cells in oslo", "", "il-2 " * 30]
    assert backends.batch_dependence(pipe, texts) == pytest.approx(0, abs=1e-5)


def test_a_missing_corpus_ends_with_an_error(checkpoint, tmp_path):
    write_jsonl(tmp_path / "dev.jsonl", corpus(1))
    with pytest.raises(SystemExit, match=r"error: .*test"):
        backends.main(["--model", str(checkpoint), "--corpus", str(tmp_path), "--no-tables"])
