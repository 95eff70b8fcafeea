"""Tuning the thresholds of a checkpoint.

Evaluation and the pipeline use the tuned thresholds. Saving the thresholds changes only the necessary files.
"""

import json
import os
import shutil
from types import SimpleNamespace

import pytest
from transformers import pipeline

from modeling_binder import BinderConfig
from modeling_binder.finetuning import Document, Mention, evaluate, save_tuned, tune_thresholds
from tests.tiny import TYPES, build_model, build_tokenizer, corpus, keys


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_model().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("decoding", "goal"),
    [
        ("nested", {}),
        ("flat", {}),
        ("nested", {"metric": "macro-f1"}),
        ("flat", {"precision": 0.5}),
        ("nested", {"recall": 0.6}),
    ],
)
def test_tuning_improves_the_scores_and_evaluation_returns_the_same_scores(checkpoint, tmp_path, decoding, goal):
    before = contents(checkpoint)
    tuned = tune_thresholds(checkpoint, corpus(2), decoding=decoding, min_mentions=4, device="cpu", **goal)
    assert contents(checkpoint) == before, "only save_tuned writes files"
    assert set(tuned.thresholds) == {"Gene", "Cell"}, "the documents contain no mention of Place"
    output = save_tuned(tuned, checkpoint, tmp_path / "tuned")
    metrics, predictions = evaluate(output, corpus(2), decoding=decoding)
    assert metrics == tuned.after
    assert evaluate(checkpoint, corpus(2), decoding=decoding)[0] == tuned.before
    texts = [document.text for document in corpus(2)]
    found = pipeline("binder-ner", model=str(output), device="cpu")(texts, decoding=decoding)
    for one, two in zip(predictions, found, strict=True):
        assert sorted((e["label"], e["start"], e["end"]) for e in one) == sorted(keys(two))
    if not goal:
        assert tuned.after.micro.f1 > tuned.before.micro.f1 > 0
    elif "metric" in goal:
        f1 = [[score.per_type[label].f1 for label in ("Gene", "Cell")] for score in (tuned.before, tuned.after)]
        assert sum(f1[1]) > sum(f1[0])
    else:
        ((metric, target),) = goal.items()
        low = {label for label in ("Gene", "Cell") if getattr(tuned.after.per_type[label], metric) < target}
        assert set(tuned.unreached) == low


def test_calibration_is_saved_and_changes_scores_but_no_entities(checkpoint, tmp_path):
    tuned = tune_thresholds(checkpoint, corpus(2), calibrate=True, min_mentions=4, device="cpu")
    report = tuned.calibration
    assert report.spans > 10 and tuned.default_temperature != 1 and report.helped
    config = json.loads((save_tuned(tuned, checkpoint, tmp_path / "tuned") / "config.json").read_text())
    for name, value in tuned.fields().items():
        assert config.get(name) == value
    plain = tune_thresholds(checkpoint, corpus(2), min_mentions=4, device="cpu")
    assert plain.before == tuned.before and tuned.after.micro.f1 > tuned.before.micro.f1
    pipe, former = (pipeline("binder-ner", model=str(path), device="cpu") for path in (tmp_path / "tuned", checkpoint))
    text = corpus(1)[0].text
    assert keys(pipe(text, threshold=0.5)) == keys(former(text))
    assert [e["score"] for e in pipe(text, threshold=0.5)] != [e["score"] for e in former(text)]


def test_calibration_that_does_not_help_is_not_saved(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_binder.finetuning.calibration.fit_temperature", lambda margins, is_gold: 0.1)
    tuned = tune_thresholds(checkpoint, corpus(2), calibrate=True, min_mentions=4, device="cpu")
    assert not tuned.calibration.helped and tuned.calibration.error_after > tuned.calibration.error_before
    assert tuned.default_temperature == 1 and not tuned.temperatures and tuned.facts()["calibration"] is None
    folder = save_tuned(tuned, checkpoint, tmp_path / "tuned")
    assert not BinderConfig.from_pretrained(folder).temperatures
    card = (folder / "README.md").read_text()
    assert "Scores are not calibrated" in card and "Scores are calibrated" not in card and "temperature" not in card


def test_types_that_differ_from_the_types_of_the_model_affect_only_the_shared_threshold(checkpoint, tmp_path):
    types = {"gene": TYPES["Gene"], "Cell": "A small room in a prison.", "River": "Water.", "Place": TYPES["Place"]}
    documents = [document.to_dict() for document in corpus(2)]
    for entity in (entity for document in documents for entity in document["entities"]):
        entity["label"] = {"Gene": "gene"}.get(entity["label"], entity["label"])
    tuned = tune_thresholds(checkpoint, documents, entity_types=types, min_mentions=4, device="cpu")
    assert set(tuned.thresholds) == {"Gene"}, (
        "gene has the description of the model's type Gene; Cell has a different description"
    )
    assert tuned.own == {"gene": tuned.thresholds["Gene"]}
    assert (tuned.few, tuned.redescribed, tuned.unknown) == (["Place"], ("Cell",), ("River",))
    card = (save_tuned(tuned, checkpoint, tmp_path / "tuned") / "README.md").read_text()
    assert "Types with fewer than 4 mentions in these documents share a threshold: Place." in card
    assert "other descriptions than this model for Cell, so" in card and "only the shared threshold: River." in card


def test_saving_in_place_changes_only_the_configuration_and_the_card(checkpoint, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(checkpoint, folder)
    (folder / "notes.txt").write_text("mine")
    os.chmod(folder / "config.json", 0o640)
    tuned = tune_thresholds(folder, corpus(2), min_mentions=4, calibrate=True, device="cpu")
    assert save_tuned(tuned, folder) == folder
    before, after = contents(checkpoint) | {"notes.txt": b"mine"}, contents(folder)
    assert set(after) == set(before) | {"README.md", "model_card.json"}
    assert {name for name in before if before[name] != after[name]} == {"config.json"}
    assert (folder / "config.json").stat().st_mode & 0o777 == 0o640
    old, new = json.loads(before["config.json"]), json.loads(after["config.json"])
    assert {**new, **dict.fromkeys(tuned.fields())} == {**old, **dict.fromkeys(tuned.fields())}
    card = after["README.md"].decode()
    assert f"| Gene | {tuned.thresholds['Gene']:g} | " in card and "## Thresholds" in card
    assert f"| after | {100 * tuned.after.micro.precision:.2f} |" in card and "tuned on development data" in card
    assert f"{100 * tuned.calibration.error_before:.2f} % before" in card
    assert "not calibrated" not in card
    again = save_tuned(tuned, folder)
    assert contents(again) == after, "saving twice writes the same files"


def test_a_model_card_written_by_hand_is_not_changed(checkpoint, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(checkpoint, folder)
    (folder / "README.md").write_text("# Written by hand\n")
    save_tuned(tune_thresholds(folder, corpus(1), min_mentions=4, device="cpu"), folder)
    assert (folder / "README.md").read_text() == "# Written by hand\n" and not (folder / "model_card.json").exists()
    assert set(BinderConfig.from_pretrained(folder).thresholds) == {"Gene"}


def test_a_failure_while_saving_leaves_the_checkpoint_unchanged(checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    shutil.copytree(checkpoint, folder)
    before, replace = contents(folder), os.replace
    tuned = tune_thresholds(folder, corpus(1), device="cpu")

    def fail(source, target):
        if os.fspath(target).endswith("model_card.json"):
            raise OSError("no space left on the device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        save_tuned(tuned, folder)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("documents", "options", "message"),
    [
        ([{"text": "the gene", "entities": []}], {}, "none of the 1 documents has a mention"),
        ([Document("a", "in Oslo", (Mention(3, 7, "City"),))], {}, "not entity types: City.*--types"),
        (corpus(1), {"min_mentions": 0}, "min_mentions must be at least 1, got 0"),
        (corpus(1), {"precision": 0.9, "recall": 0.9}, "precision or recall, not both"),
        (corpus(1), {"precision": 95}, "must be above 0 and at most 1, got 95"),
        (corpus(1), {"decoding": "deep"}, "decoding='deep' is not allowed"),
        (corpus(1), {"device": "cuda:7"}, "device must be 'cpu' or None"),
    ],
)  # fmt: skip
def test_invalid_arguments_raise_an_error(checkpoint, documents, options, message):
    with pytest.raises(ValueError, match=message):
        tune_thresholds(checkpoint, documents, **options)


def test_the_copy_of_a_read_only_checkpoint_can_be_changed(tmp_path):
    source = tmp_path / "source"
    (source / "type_tokenizer").mkdir(parents=True)
    for name, content in (("config.json", "{}"), ("README.md", "by hand"), ("type_tokenizer/tokenizer.json", "{}")):
        (source / name).write_text(content)
    for path in (source, *source.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    copy = save_tuned(SimpleNamespace(fields=lambda: {"default_threshold": 0.4}), source, tmp_path / "copy")
    assert json.loads((copy / "config.json").read_text()) == {"default_threshold": 0.4}
    assert all(path.stat().st_mode & 0o200 for path in (copy, *copy.rglob("*"))) and len(
        contents(copy / "type_tokenizer")
    )
