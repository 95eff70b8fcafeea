"""The comparison with other packages at equal training time: data, clock, contenders, records, table and plot."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from modeling_binder.finetuning import DataError, Document, Mention, write_jsonl
from modeling_binder.finetuning.corpus import Corpus, load_corpus
from tests.tiny import TYPES, corpus, small_model
from training.experiments.peers import CONTENDERS, OURS, __main__, make, runs, worker
from training.experiments.peers.base import (
    SHARES,
    Clock,
    Contender,
    Run,
    Settings,
    Text,
    longest_mention,
    outermost,
    predictions_file,
    read_texts,
    write_found,
)
from training.experiments.peers.span_marker import tagged
from training.experiments.peers.spancat import Spancat
from training.experiments.peers.tables import peers_table
from training.experiments.tables import NOT_RUN

PAGE = f"before\n<!-- {__main__.MARKER} -->\n{NOT_RUN}\n<!-- /{__main__.MARKER} -->\nafter\n"


class Ticks:
    """A clock that advances by a second whenever it is read, so that no test depends on timing."""

    def __init__(self):
        self.time = 0.0

    def __call__(self):
        self.time += 1.0
        return self.time


@pytest.fixture
def folder(tmp_path, tokenizer):
    """Return a folder with a corpus with nested mentions, and an encoder beside it."""
    place = tmp_path / "small"
    write_jsonl(place / "train.jsonl", corpus(3))
    write_jsonl(place / "dev.jsonl", corpus(1))
    write_jsonl(place / "test.jsonl", corpus(1))
    (place / "types.json").write_text(json.dumps(TYPES))
    small_model().text_encoder.save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    return place


@pytest.fixture
def data(folder, tmp_path):
    return runs.write_data("small", load_corpus(folder), tmp_path / "data")


def settings(data, contender="binder", **others):
    encoder = str(data.folder.parent / "encoder")
    return Settings(contender, str(data.folder), encoder, 1e-3, 1.0, nested=data.nested, threads=1, **others)


def text_of(mentions, words=6):
    spans = [(2 * index, 2 * index + 1) for index in range(words)]
    return Text("t", "a " * words, spans, mentions)


def test_texts_have_word_indices_and_a_flat_text_keeps_the_longest_of_overlapping_mentions():
    row = {"id": "a", "text": "lung cancer cells", "words": [[0, 4], [5, 11], [12, 17]]}
    row["entities"] = [
        {"start": 0, "end": 4, "label": "Organ"},
        {"start": 0, "end": 11, "label": "Disease"},
        {"start": 0, "end": 17, "label": "Cell"},
        {"start": 6, "end": 11, "label": "Disease"},  # begins inside a word
    ]
    nested = Text.from_row(row, nested=True)
    assert nested.mentions == [(0, 0, "Organ"), (0, 1, "Disease"), (0, 2, "Cell")]
    assert Text.from_row(row, nested=False).mentions == [(0, 2, "Cell")]
    assert nested.tokens == ["lung", "cancer", "cells"] and nested.characters(0, 1) == (0, 11)
    assert outermost([(0, 1, "B"), (1, 3, "A"), (4, 4, "C"), (0, 1, "A")]) == [(1, 3, "A"), (4, 4, "C")]
    assert longest_mention([text_of([(0, 0, "A")] * 99 + [(0, 4, "A")])], least=1) == 1
    assert longest_mention([text_of([(0, 4, "A")])], least=3) == 5 and longest_mention([], least=3) == 3


def test_adjacent_mentions_stay_apart_in_the_tags_of_span_marker():
    rows = tagged([text_of([(0, 1, "A"), (2, 2, "A"), (4, 5, "B")]), text_of([], words=0)], ["A", "B"])
    assert rows["ner_tags"] == [[1, 2, 1, 0, 3, 4]] and rows["tokens"] == [["a"] * 6]


@pytest.mark.parametrize(("nested", "kept"), [(False, [(2, 5, "B")]), (True, [(2, 5, "B"), (0, 5, "A")])])
def test_spancat_keeps_only_the_overlapping_span_with_the_highest_score_if_the_corpus_is_flat(data, nested, kept):
    class Spans(list):
        attrs = {"scores": [0.6, 0.9]}

    spans = Spans([SimpleNamespace(start=0, end=3, label_="A"), SimpleNamespace(start=1, end=3, label_="B")])
    contender = Spancat(Run(replace(settings(data), nested=nested), data.folder))
    assert contender._entities(text_of([]), SimpleNamespace(spans={"sc": spans})) == kept
    assert contender._entities(text_of([]), SimpleNamespace(spans={})) == []


def test_pauses_do_not_count_as_training_time():
    times = iter([10.0, 15.0, 100.0, 101.0])
    clock = Clock(lambda: next(times))
    assert clock.seconds == 0
    clock.resume()
    clock.pause()
    assert clock.seconds == 5
    clock.resume()
    assert clock.seconds == 6


def test_the_learning_rate_follows_the_time(data):
    time = SimpleNamespace(now=0.0)
    run = Run(settings(data), data.folder, Clock(lambda: time.now))
    run.clock.resume()
    factors = []
    for time.now in (0.0, 3.0, 6.0, 33.0, 60.0, 70.0):  # the training takes 60 seconds, the warm-up 6
        factors.append(round(run.factor(), 6))
    assert factors == [0, 0.5, 1, 0.5, 0, 0]
    time.now = 3.0
    assert run.factor(warmup=0.5) == pytest.approx(0.1)


class Perfect(Contender):
    """A contender that learns nothing, and returns the gold mentions of every text."""

    libraries = ("torch", "no-such-library")
    steps = 1000

    def import_libraries(self):
        pass

    def train(self):
        for step in range(1, self.steps):
            if self.run.after_step(self, step, step / 10):
                return

    def predict(self, texts):
        return [[(*text.characters(first, last), label) for first, last, label in text.mentions] for text in texts]


def test_a_contender_is_evaluated_at_growing_times_and_then_stops(data, tmp_path):
    run = Run(settings(data, "tokens"), tmp_path, Clock(Ticks()))
    facts = worker.train(Perfect(run))
    assert [point["share"] for point in facts["points"]] == list(SHARES)
    assert [round(60 * point["minutes"]) for point in facts["points"]] == sorted(
        {round(60 * point["minutes"]) for point in facts["points"]}
    )
    assert all(point["minutes"] >= point["share"] for point in facts["points"])
    assert facts["versions"]["torch"] and facts["versions"]["no-such-library"] is None and facts["peak_memory_mb"] > 0
    points = runs.scored(data, facts, tmp_path, "test")
    assert {point["f1"] for point in points} == {100.0} and points[0]["nested_f1"] == 100.0


def test_a_slow_step_is_evaluated_once_even_if_several_evaluations_were_due(data, tmp_path):
    times = iter([0.0, 40.0, 40.0, 41.0])
    run = Run(settings(data), tmp_path, Clock(lambda: next(times)))
    run.clock.resume()
    assert run.after_step(Perfect(run), 1, 0.1) is False
    assert [point["share"] for point in run.points] == [0.5]


def test_a_training_that_ends_too_early_is_an_error(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Perfect, "steps", 3)
    with pytest.raises(RuntimeError, match="ended before its time was over"):
        worker.train(Perfect(Run(settings(data), tmp_path, Clock(Ticks()))))


@pytest.mark.parametrize("name", [OURS, "tokens"])
def test_our_contenders_train_and_predict_in_the_time_of_a_run(data, tmp_path, name):
    run = Run(replace(settings(data, name), nested=data.nested and CONTENDERS[name].nested), tmp_path, Clock(Ticks()))
    facts = worker.train(make(name, run))
    assert facts["settings"]["batch_size"] == 16 and [point["share"] for point in facts["points"]][-1] == 1
    assert facts["points"][-1]["steps"] > facts["points"][0]["steps"] > 0
    points = runs.scored(data, facts, tmp_path, "test")
    assert all(0 <= point["f1"] <= 100 for point in points)


def test_written_texts_have_words_and_texts_that_are_annotated_in_part_raise_an_error(tmp_path, data, folder):
    assert data.nested and data.documents == {"train": 12, "dev": 4, "test": 4}
    assert all(text.words for text in read_texts(data.folder / "train.jsonl"))
    some = runs.write_data("some", load_corpus(folder), tmp_path / "some", first=2)
    assert some.documents == {"train": 2, "dev": 2, "test": 2}
    flat = [Document("a", "one cell", (Mention(4, 8, "Cell"),))]
    assert not runs.write_data("flat", Corpus(TYPES, flat, flat, flat), tmp_path / "flat").nested
    with pytest.raises(DataError, match="flat: the split dev has no documents"):
        runs.write_data("flat", Corpus(TYPES, flat, [], flat), tmp_path / "flat")
    for change in ({"types": ("Cell",)}, {"undecided": ((0, 3),)}):
        partial = [replace(flat[0], **change)]
        with pytest.raises(DataError, match="document 'a' is annotated only in part"):
            runs.write_data("flat", Corpus(TYPES, partial, flat, flat), tmp_path / "flat")


@pytest.fixture
def started(monkeypatch):
    """Replace the processes by a function that finds part of the entities; return the settings of the started runs."""
    found: list[Settings] = []

    def run(command, **options):
        output = Path(command[-1])
        chosen = worker.read_settings(output)
        found.append(chosen)
        if chosen.contender == "gliner":
            options["stdout"].write("Traceback\nRuntimeError: no such encoder\n")
            return SimpleNamespace(returncode=1)
        texts = read_texts(Path(chosen.data) / f"{chosen.split}.jsonl")
        points = []
        for share in chosen.shares:
            kept = 1 if chosen.contender == OURS or chosen.learning_rate == 2e-5 else 2
            entities = [
                [
                    (*text.characters(first, last), label)
                    for first, last, label in text.mentions[: max(1, round(4 * share)) : kept]
                ]
                for text in texts
            ]
            write_found(predictions_file(output, chosen.split, share), texts, entities)
            points.append({"share": share, "minutes": share * chosen.minutes, "steps": 1, "epochs": 0.1})
        facts = {"points": points, "settings": {"batch_size": 1}, "versions": {"torch": "2"}}
        (output / worker.FINISHED).write_text(json.dumps(facts))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(run=run, STDOUT=None))
    monkeypatch.setattr(runs, "python_of", lambda peer: peer)
    return found


@pytest.fixture
def arguments(folder, tmp_path):
    (tmp_path / "page.md").write_text(PAGE)
    return [str(folder), "--encoder", str(tmp_path / "encoder"), "--threads", "1", "--minutes", "8", "--no-bf16",
            "--folder", str(tmp_path / "runs"), "--json", str(tmp_path / "peers.json"),
            "--page", str(tmp_path / "page.md"), "--plot", str(tmp_path / "images" / "peers.svg")]  # fmt: skip


def test_the_comparison_does_the_missing_runs_and_writes_json_table_and_plot(started, arguments, tmp_path, capsys):
    some = ["--contenders", "tokens", "gliner", "binder"]
    records = __main__.main([*arguments, *some])
    assert [record["contender"] for record in records] == ["binder", "tokens", "gliner"]
    assert json.loads((tmp_path / "peers.json").read_text()) == records
    ours, tokens, failed = records
    assert [point["minutes"] for point in ours["points"]] == [1, 2, 4, 8] and ours["points"][-1]["f1"] == 100
    assert ours["learning_rate"] == 6e-5 and ours["commit"] and ours["device"] and not ours["outermost"]
    assert "lead" not in ours and tokens["lead"]["difference"] > 0 and tokens["lead"]["f1"] == 1
    assert tokens["outermost"] and not started[1].nested and started[0].nested
    assert "RuntimeError: no such encoder" in failed["error"]

    page = (tmp_path / "page.md").read_text()
    assert peers_table(records) in page and "![F1 on the test set" in page and "(images/peers.svg)" in page
    assert "| small | 8 | BINDER | 6e-05 | " in page and "| 100.00 |  |\n" in page
    assert f"Each package used {ours['device']}. Command: `python -m training.experiments.peers small " in page
    assert str(tmp_path) not in page
    assert "transformers token classification†" in page and "failed: ended with exit status 1" in page
    assert page.startswith("before") and page.endswith("after\n")
    assert "<svg" in (tmp_path / "images" / "peers.svg").read_text()

    started.clear()
    again = __main__.main([*arguments, "--contenders", "tokens", "gliner", "--seeds", "42", "43"])
    assert [(run.contender, run.seed) for run in started] == [("gliner", 42), ("tokens", 43), ("gliner", 43)]
    assert len(again) == 5 and again[0] == ours and again[1]["lead"] == tokens["lead"]
    assert "lead" not in next(each for each in again if each["seed"] == 43 and each["contender"] == "tokens")
    with pytest.raises(SystemExit, match=r"holds a run with other settings \(threads\): delete it"):
        __main__.main([*arguments, "--contenders", "tokens", "--threads", "2"])


def test_tuning_chooses_the_learning_rate_with_the_highest_f1_on_dev(started, arguments):
    (record,) = __main__.main([*arguments, "--contenders", "tokens", "--tune", "2"])
    assert [(run.split, run.minutes, run.learning_rate) for run in started] == [
        ("dev", 2, 5e-5), ("dev", 2, 2e-5), ("dev", 2, 1e-4), ("test", 8, 2e-5)
    ]  # fmt: skip
    assert record["learning_rate"] == 2e-5 and record["tuning"][1]["dev_f1"] > record["tuning"][0]["dev_f1"]


def test_an_environment_that_cannot_be_installed_is_the_reason_of_the_failure(started, arguments, monkeypatch):
    def fail(peer):
        raise RuntimeError(f"the environment of {peer} could not be installed")

    monkeypatch.setattr(runs, "python_of", fail)
    (record,) = __main__.main([*arguments, "--contenders", "spancat", "--first", "2"])
    assert record["error"] == "the environment of spacy could not be installed" and record["first"] == 2
    table = peers_table([record])
    assert "small (first 2) | 8 | spaCy spancat |" in table and "failed: the environment" in table


def test_means_and_deviations_over_seeds():
    def record(seed, f1):
        points = [{"share": share, "minutes": 1, "f1": f1} for share in (0.125, 0.25, 0.5, 1)]
        return {"corpus": "a", "first": None, "minutes": 1.0, "contender": "gliner", "outermost": False, "seed": seed,
                "learning_rate": 5e-5, "points": points}  # fmt: skip

    table = peers_table([record(1, 80.0), record(2, 82.0)])
    assert table.count("81.00 ± 1.41") == 4 and peers_table([]) == NOT_RUN


def test_every_contender_has_its_module_and_its_requirements():
    for entry in CONTENDERS.values():
        module, _, name = entry.where.partition(":")
        assert (Path(worker.__file__).parent / f"{module}.py").is_file() and name and len(entry.learning_rates) == 3
        if entry.environment:
            requirements = runs.ROOT / "training" / "benchmarks" / "peers" / f"{entry.environment}.txt"
            assert "torch==2.13.0" in requirements.read_text()


def test_the_page_shows_the_table_of_the_stored_results():
    records = json.loads(__main__.JSON.read_text(encoding="utf-8")) if __main__.JSON.exists() else []
    assert f"<!-- {__main__.MARKER} -->\n{peers_table(records)}\n" in __main__.PAGE.read_text("utf-8")
