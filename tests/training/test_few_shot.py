"""The few-shot experiment: samples of training texts, the runs, the summary, and the command on tiny corpora."""

import json

import pytest

from modeling_binder.finetuning import DataError, Document, Mention, write_jsonl
from tests.tiny import TYPES, corpus, small_model
from training.experiments import few_shot
from training.experiments.few_shot import Run, Settings, draw_texts, main, planned
from training.experiments.few_shot_summary import CHECKPOINT, ENCODER, percent, report, summarise


def test_a_sample_has_a_mention_of_each_type_if_possible():
    documents = [Document(str(i), "a", (Mention(0, 1, "common"),)) for i in range(50)]
    documents += [Document("r1", "a", (Mention(0, 1, "rare"),)), Document("r2", "a", (Mention(0, 1, "rarest"),))]
    documents += [Document("r3", "a", (Mention(0, 1, "rare"),)), Document("none", "a")]
    for seed in range(20):
        drawn = draw_texts(documents, 5, seed)
        assert {mention.label for document in drawn for mention in document.entities} == {"common", "rare", "rarest"}
        assert len({document.id for document in drawn}) == 5
    assert [document.id for document in draw_texts(documents, 1, 0)] == ["r2"]
    assert draw_texts(documents, 8, 3) == draw_texts(documents, 8, 3) != draw_texts(documents, 8, 4)
    assert len(draw_texts(documents, len(documents), 0)) == len(documents)
    with pytest.raises(DataError, match="cannot draw 99 texts: there are only 54"):
        draw_texts(documents, 99, 0)


def test_the_fewer_texts_there_are_the_more_passes_training_makes():
    assert [Settings().passes(size) for size in (10, 50, 200, 1000)] == [60, 48, 12, 6]


def test_the_first_planned_runs_evaluate_the_unchanged_checkpoint_and_no_run_occurs_twice():
    runs = list(planned(["a", "b"], [10, 50], 3, [0.0, 0.3], True))
    assert runs[:2] == [Run("a", 0, 0, CHECKPOINT), Run("b", 0, 0, CHECKPOINT)]
    assert len(runs) == len(set(runs)) == 2 + 2 * 2 * 3 * 3
    assert not any(run.start == ENCODER for run in planned(["a"], [10], 1, [0.0], False))


def test_the_summary_contains_means_and_deviations_over_samples():
    runs = [
        {"corpus": "a", "size": 10, "start": CHECKPOINT, "replay": 0.0, "f1": f1, "kept_f1": kept}
        for f1, kept in ((0.2, 0.5), (0.4, 0.7))
    ]
    runs.append({"corpus": "a", "size": 10, "start": ENCODER, "replay": 0.0, "f1": 0.1, "kept_f1": None})
    first, second = summarise(runs)
    assert (first["draws"], first["f1"], first["kept_f1"]) == (2, pytest.approx(0.3), pytest.approx(0.6))
    assert first["f1_deviation"] == pytest.approx(0.02**0.5)
    assert second["kept_f1"] is None and second["f1_deviation"] is None
    assert (
        percent(first, "f1") == "30.0 ± 14.1" and percent(second, "f1") == "10.0" and percent(second, "kept_f1") == ""
    )
    assert "30.0 ± 14.1" in report([first, second])


@pytest.fixture
def folders(tmp_path):
    """Write three corpora, and return the folder that contains them.

    "nested" has nested mentions, and "flat" has no test set. The experiment measures how well
    a model still finds the types of "kept".
    """
    for name in ("nested", "flat", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "types.json").write_text(json.dumps(TYPES))
    write_jsonl(tmp_path / "nested" / "train.jsonl", corpus(3))
    write_jsonl(tmp_path / "nested" / "test.jsonl", corpus(1))
    flat = [Document(f"f{i}", "cells of the in", (Mention(0, 5, "Cell"),)) for i in range(3)]
    write_jsonl(tmp_path / "flat" / "train.jsonl", flat)
    write_jsonl(tmp_path / "flat" / "dev.jsonl", flat[:1])
    own = [Document(f"k{i}", "the in of p5", (Mention(7 + 2, 12, "Gene"),), types=("Gene", "Place")) for i in range(4)]
    write_jsonl(tmp_path / "kept" / "train.jsonl", own)
    write_jsonl(tmp_path / "kept" / "dev.jsonl", own[:2])
    return tmp_path


@pytest.fixture
def encoder(folders, model, tokenizer):
    model.text_encoder.save_pretrained(folders / "encoder")
    tokenizer.save_pretrained(folders / "encoder")
    return folders / "encoder"


def command(folders, checkpoint, encoder, *more):
    names = [str(folders / name) for name in ("nested", "flat")]
    options = ["--keep", str(folders / "kept"), "--from-encoder", str(encoder), "--device", "cpu"]
    sizes = ["--sizes", "2", "5", "--draws", "2", "--replay", "0", "0.5", "--tokens-per-batch", "40"]
    return [str(checkpoint), *names, *options, *sizes, "--json", str(folders / "few.json"), *more]


def test_an_interrupted_command_continues_without_repeating_runs(checkpoint, encoder, folders, monkeypatch, capsys):
    monkeypatch.setattr(Settings, "passes", lambda settings, size: 2)
    measured, original = [], few_shot.Experiment.measure

    def measure(self, run):
        measured.append(run)
        if len(measured) == 4:
            raise ValueError("the power is cut")
        return original(self, run)

    monkeypatch.setattr(few_shot.Experiment, "measure", measure)
    with pytest.raises(SystemExit, match="the power is cut"):
        main(command(folders, checkpoint, encoder))
    assert len(json.loads((folders / "few.json").read_text())["runs"]) == 3

    results = main(command(folders, checkpoint, encoder))
    # The flat corpus has only three texts, so there are no runs with five texts.
    expected = [run for run in planned(["nested", "flat"], [2, 5], 2, [0.0, 0.5], True)
                if not (run.corpus == "flat" and run.size == 5)]  # fmt: skip
    assert measured == [*expected[:4], *expected[3:]]
    saved = json.loads((folders / "few.json").read_text())
    assert saved["runs"] == results["runs"] and len(saved["runs"]) == len(expected)
    assert "training.experiments.few_shot" in saved["origin"]["command"]
    assert all(run["kept_f1"] is None for run in saved["runs"] if run["start"] == ENCODER)
    assert all(run["steps"] > 0 for run in saved["runs"] if run["size"])
    assert saved["runs"][0]["steps"] == 0 and saved["runs"][0]["kept_f1"] is not None
    assert "F1 of kept types" in capsys.readouterr().out

    count = len(measured)
    assert main(command(folders, checkpoint, encoder))["runs"] == saved["runs"] and len(measured) == count
    with pytest.raises(SystemExit, match="holds runs with another learning_rate"):
        main(command(folders, checkpoint, encoder, "--learning-rate", "1e-3"))


def test_fine_tuning_raises_f1(folders, tokenizer):
    small_model(share_encoders=True).save_pretrained(folders / "small")
    tokenizer.save_pretrained(folders / "small")
    data = few_shot.read_data([folders / "nested"], 10)
    settings = Settings(learning_rate=5e-3, head_learning_rate=5e-3, tokens_per_batch=60)
    kept = few_shot.load_corpus(folders / "kept")
    experiment = few_shot.Experiment(str(folders / "small"), "none", data, kept, settings, "cpu")
    before = experiment.measure(Run("nested", 0, 0, CHECKPOINT))
    after = experiment.measure(Run("nested", 12, 0, CHECKPOINT))
    assert before["f1"] < 0.5 < after["f1"]


def test_unsuitable_corpora_raise_an_error(checkpoint, encoder, folders):
    with pytest.raises(SystemExit, match="two corpora are named 'flat'"):
        main([*command(folders, checkpoint, encoder)[:3], str(folders / "flat"), "--json", str(folders / "x.json")])
    (folders / "flat" / "dev.jsonl").unlink()
    with pytest.raises(SystemExit, match="neither a test nor a development set"):
        main(command(folders, checkpoint, encoder))
