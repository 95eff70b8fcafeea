"""The benchmark of speed and memory, with complete runs on a tiny model and corpus.

A contender is a pipeline or a model that the benchmark measures. The contender "floor" is the bare text encoder.
No test depends on measured times.
"""

import json
import re
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from modeling_binder.finetuning import write_jsonl
from tests.tiny import TYPES, build_model, build_tokenizer, corpus
from training.benchmarks import bench, environments, speed
from training.benchmarks.contenders import CONTENDERS
from training.benchmarks.contenders.base import Job, Settings, calibrate, words_and_mentions
from training.benchmarks.processes import ContenderError, Process, environment
from training.benchmarks.tables import NOT_MEASURED, contenders_table, latency_table, page, types_table
from training.benchmarks.worker import Worker, spread
from training.benchmarks.workloads import long_documents, made_up_types, read_documents, sentences

NAMES = ["floor", "binder", "tokens"]
PAGE = "before\n<!-- speed -->\nold\n<!-- /speed -->\nafter\n"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Write a tiny checkpoint, its encoder and two tiny corpora, and return the folder that contains them."""
    folder = tmp_path_factory.mktemp("speed")
    model, tokenizer = build_model(), build_tokenizer()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    model.text_encoder.save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    for name in ("ncbi", "genia"):
        for split in ("train", "test"):
            write_jsonl(folder / "corpora" / name / f"{split}.jsonl", corpus(2))
        (folder / "corpora" / name / "types.json").write_text(json.dumps(TYPES))
    (folder / "speed.md").write_text(PAGE)
    return folder


def arguments(workspace: Path, *more: str) -> list[str]:
    return [
        *(
            "--model",
            str(workspace / "model"),
            "--encoder",
            str(workspace / "encoder"),
            "--corpora",
            str(workspace / "corpora"),
        ),
        *("--out", str(workspace / "out" / "speed.json"), "--page", str(workspace / "speed.md"), "--threads", "1"),
        *("--batch-size", "4", "--train-batch-size", "2", "--steps", "1", "--characters", "400", "--sentences", "6"),
        *more,
    ]


class InProcess(Process):
    """A contender that runs in the process of the test. This is faster, because torch is imported only once."""

    def __init__(self, name, settings, folder, log, seconds):
        folder.mkdir(exist_ok=True)
        self.folder, self.started = folder, time.perf_counter()
        self.worker = Worker(name, settings)

    def ask(self, do, **arguments):
        answer = json.loads(json.dumps(self.worker.answer(json.loads(json.dumps({"do": do, **arguments})))))
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def close(self):
        pass


@pytest.fixture(scope="module")
def in_process():
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "Process", InProcess)
        patch.setattr(bench, "NUM_NEW_TYPES", 20)
        patch.setattr(bench, "WARM_UP_SECONDS", 1e-9)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def results(workspace, in_process):
    workloads = ["--workloads", "ncbi", "long", "latency", "new-types", "cold", "train"]
    return speed.main(arguments(workspace, "--contenders", *NAMES, *workloads, "--types", "1", "5", "--rounds", "2"))


def test_each_round_runs_every_contender_and_the_results_contain_all_rounds(workspace, results):
    assert results == json.loads((workspace / "out" / "speed.json").read_text())
    cells = [
        (workload, types, name)
        for workload in ("ncbi", "long")
        for types, names in ((None, ["floor", "tokens"]), (1, ["binder"]), (5, ["binder"]))
        for name in names
    ]
    order = [(step["round"], step["workload"], step["types"], step["contender"]) for step in results["order"]]
    assert order[: 3 * len(cells)] == [(number, *cell) for number in range(3) for cell in cells]
    assert [step[3] for step in order if step[1] == "latency"] == NAMES * 3
    assert [step[3] for step in order if step[1] == "new-types"] == ["binder"] * 3
    assert [step[3] for step in order if step[1] == "cold"] == NAMES * 3
    assert [step[3] for step in order if step[1] == "train"] == ["floor", "binder"] * 2
    assert [(row["workload"], row["types"], row["contender"]) for row in results["throughput"]] == cells
    for row in results["throughput"]:
        assert "failed" not in row, row["failed"]
        assert len(row["seconds"]) == 2 and min(row["seconds"]) > 0
        assert row["texts"] == (6 if row["workload"] == "ncbi" else 2)
        assert row["characters_read"] == row["characters"] and not row["truncates"]
        assert row["characters"] == 800 or row["workload"] == "ncbi"
        assert row["peak"] >= row["peak_above_loaded"] > 0 or row["peak"] is None
    assert any(row["entities"] for row in results["throughput"] if row["contender"] == "binder")
    for row in results["latency"]:
        assert [len(seconds) for seconds in row["rounds"]] == [6, 6], row
        assert row["p95_milliseconds"]["median"] >= row["p50_milliseconds"]["median"] > 0
    (encoding,) = results["new_types"]
    assert len(encoding["seconds"]) == 2
    assert encoding["types_per_second"]["median"] == pytest.approx(
        20 * sum(1 / seconds for seconds in encoding["seconds"]) / 2
    )
    for row in results["cold_start"]:
        assert all(len(row[part]) == 2 for part in ("import", "load", "first", "total"))
        assert row["total"][0] > row["import"][0] + row["load"][0] + row["first"][0]
    for row in results["training"]:
        assert len(row["rounds"]) == len(row["seconds"]) == 2, row


def test_results_contain_command_machine_settings_and_versions(results):
    about = results["about"]
    assert about["command"].startswith("python -m training.benchmarks.speed --model model --encoder encoder ")
    assert about["rounds"] == 2 and about["types"] == [1, 5]
    assert set(about["machine"]["allocator"]) == set(speed.ALLOCATOR_VARIABLES) and about["machine"]["processor"]
    assert about["max_length"] == 64 and about["stride"] == 16, "the values must equal the values in the checkpoint"
    for name in NAMES:
        assert {"python", "torch", "transformers"} <= set(results["contenders"][name]["versions"])


def test_a_run_writes_tables_and_plots(workspace, results):
    text = (workspace / "speed.md").read_text()
    assert text.startswith("before\n<!-- speed -->\n") and text.endswith("\n<!-- /speed -->\nafter\n")
    assert contenders_table(results) in text and types_table(results) in text and latency_table(results) in text
    plots = re.findall(r"!\[[^]]+]\(([^)]+)\)", text)
    assert plots == ["images/throughput.svg", "images/types.svg", "images/memory.svg"]
    for plot in plots:
        drawn = (workspace / plot).read_text()
        assert ElementTree.fromstring(drawn).tag.endswith("svg") and "prefers-color-scheme: dark" in drawn
        assert "binder-ner, fp32" in drawn
    (workspace / "speed.md").write_text(PAGE)
    speed.main(["--tables", *arguments(workspace)])
    assert (workspace / "speed.md").read_text() == text, "the tables must depend only on the JSON file"


def test_keep_adds_the_workloads_that_were_not_measured_again(workspace, results, in_process, tmp_path, capsys):
    def run(*more):
        options = ["--contenders", *NAMES, "--types", "1", "5", "--rounds", "2", "--keep", "--out", str(out), *more]
        return speed.main([*arguments(workspace), *options])

    out, origin = tmp_path / "speed.json", {name: results["about"][name] for name in ("command", "commit", "date")}
    out.write_text(json.dumps(results))
    kept = run("--workloads", "latency")
    assert kept["latency"] != results["latency"] and len(kept["latency"]) == len(NAMES)
    for part in ("throughput", "new_types", "cold_start", "training"):
        assert kept[part] == results[part]
    assert kept["about"]["kept"] == dict.fromkeys(("ncbi", "long", "new-types", "cold", "train"), origin)
    sentence = "Earlier results of ncbi, long, new-types, cold, train: `python -m"
    assert sentence in (workspace / "speed.md").read_text()
    again = run("--workloads", "cold")  # each workload keeps the command that measured it
    assert again["about"]["kept"]["train"] == origin
    assert again["about"]["kept"]["latency"]["command"] == kept["about"]["command"]
    with pytest.raises(SystemExit, match="cannot be kept, because they differ in threads"):
        run("--workloads", "cold", "--threads", "2")
    assert json.loads(out.read_text()) == again
    long = run("--workloads", "long")  # the rows of another workload stay in the same part
    rows = {name: [row for row in results["throughput"] if row["workload"] == name] for name in ("ncbi", "long")}
    assert [row for row in long["throughput"] if row["workload"] == "ncbi"] == rows["ncbi"]
    assert len(long["throughput"]) == len(rows["ncbi"] + rows["long"])
    assert long["about"]["kept"]["ncbi"] == origin and "long" not in long["about"]["kept"]


def test_a_contender_that_cannot_be_built_is_skipped_with_the_reason(workspace, in_process, capsys):
    (workspace / "broken").mkdir(exist_ok=True)
    (workspace / "broken" / "config.json").write_text((workspace / "model" / "config.json").read_text())
    options = ["--contenders", "floor", "binder", "--workloads", "ncbi", "--types", "1", "--rounds", "1", "--no-tables"]
    found = speed.main(
        [*arguments(workspace, *options), "--model", str(workspace / "broken"), "--out", str(workspace / "b.json")]
    )
    assert "skipped" not in found["contenders"]["floor"]
    assert found["contenders"]["binder"]["skipped"]
    assert [row["contender"] for row in found["throughput"]] == ["floor"]
    assert "not measured" in capsys.readouterr().out
    assert "not run: " in page(found)


def test_short_runs_are_a_warm_up_and_the_last_run_counts(workspace, monkeypatch):
    monkeypatch.setattr(bench, "WARM_UP_SECONDS", 1.0)
    durations = [0.4, 0.4, 0.3, 0.2]

    class Timed:
        def ask(self, do, cell):
            return {"seconds": durations.pop(0), "entities": 0}

    row = {"workload": "ncbi", "types": None, "contender": "floor", "texts": 1, "seconds": []}
    bench.Bench._time(None, row, Timed())
    assert row["seconds"] == [0.3] and durations == [0.2]
    durations[:] = [2.0, 0.5]
    bench.Bench._time(None, row, Timed())
    assert row["seconds"] == [0.3, 2.0] and durations == [0.5]


def test_each_round_encodes_other_new_types(workspace, in_process, monkeypatch):
    seen = []
    encode = Worker.encode_types
    monkeypatch.setattr(Worker, "encode_types", lambda worker, types: seen.append(types) or encode(worker, types))
    options = ["--contenders", "binder", "tokens", "--workloads", "new-types", "--rounds", "2", "--no-tables"]
    found = speed.main([*arguments(workspace, *options), "--out", str(workspace / "new.json")])
    assert [row["contender"] for row in found["new_types"]] == ["binder"]
    assert len(seen) == 3 and len(set.union(*(set(types.values()) for types in seen))) == 60
    table = latency_table(found)
    assert "binder-ner, fp32" in table and "token classification" not in table


def test_a_contender_is_not_measured_with_more_types_than_it_can_process(workspace, in_process, monkeypatch):
    monkeypatch.setitem(CONTENDERS, "binder", replace(CONTENDERS["binder"], max_types=5))
    options = [
        "--contenders",
        "binder",
        "--workloads",
        "ncbi",
        "--types",
        "1",
        "5",
        "6",
        "--rounds",
        "1",
        "--no-tables",
    ]
    found = speed.main([*arguments(workspace, *options), "--out", str(workspace / "most.json")])
    assert [row["types"] for row in found["throughput"]] == [1, 5]
    assert "| binder-ner, fp32 |" in types_table(found)


def test_made_up_types_have_different_descriptions():
    types = made_up_types(10_000)
    assert len(types) == len(set(types.values())) == 10_000
    assert list(made_up_types(5)) == list(types)[:5], "a longer list of types must start with the shorter list"
    with pytest.raises(ValueError, match="between 1 and 10000, got 10001"):
        made_up_types(10_001)


def test_the_texts_of_a_sample_are_spread_over_all_lengths(workspace):
    texts = ["x" * length for length in (9, 1, 5, 3, 7)]
    assert spread(texts, 9) == [0, 1, 2, 3, 4] and spread(texts, 1) == [2] and spread(texts, 2) == [3, 4]
    documents = read_documents(workspace / "corpora", "ncbi", "test")
    assert len(sentences(documents, 3).texts) == 3 and len(sentences(documents, None).texts) == len(documents)
    long = long_documents([documents, documents[:1]], 1000)
    assert [len(text) for text in long.texts] == [1000, 1000] and min(long.gold) > 0


def test_calibration_finds_the_level_that_gives_a_number_of_entities():
    scores = [index / 10 for index in range(-50, 50)]
    level = calibrate(lambda level: sum(score > level for score in scores), 10, seconds=60)
    assert 9 <= sum(score > level for score in scores) <= 11


def test_fast_gliner_runs_each_job_with_its_own_level(workspace, tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    scores = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [3])
    given = onnx.helper.make_tensor("given", onnx.TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    node = onnx.helper.make_node("Identity", ["given"], ["logits"])
    graph = onnx.helper.make_graph([node], "model", [], [scores], [given])
    (tmp_path / "exported").mkdir()
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=10),
              tmp_path / "exported" / "model.onnx")  # fmt: skip

    class FastGLiNER:
        """A model that finds an entity for each score above 0 in each text."""

        loaded = 0

        def __init__(self, folder, name):
            FastGLiNER.loaded += 1
            self.session = runtime.InferenceSession(f"{folder}/{name}")

        from_pretrained = classmethod(lambda cls, folder, name: cls(folder, name))

        def predict_entities(self, texts, labels):
            return [["entity"] * int((self.session.run(None, {})[0] > 0).sum()) for _ in texts]

    settings = Settings(str(workspace / "encoder"), "", 2, 2, 64, 16, 1, str(tmp_path))
    worker = Worker("fast-gliner", settings)
    worker.contender.library = SimpleNamespace(FastGLiNER=FastGLiNER)
    worker.contender._with_level(tmp_path / "exported" / "model.onnx")
    worker.load(str(tmp_path))
    worker.jobs = {"low": Job(["a", "b", "c"], {}, 0.5), "high": Job(["a", "b", "c"], {}, 2.5)}
    assert [worker.run(cell)["entities"] for cell in ("low", "high", "high", "low")] == [9, 3, 3, 9]
    assert FastGLiNER.loaded == 4  # the model is loaded again only if the level changes
    assert worker.contender.level(Job(["a"], {}), 2, seconds=60) == pytest.approx(1.5, abs=0.5)
    words = " ".join(["some-word"] * 600)
    assert worker.contender.characters_read(words, {}) == len(" ".join(["some-word"] * 512))
    assert worker.contender.characters_read("two words", {}) == 9


def test_words_and_mentions_leaves_out_mentions_that_start_inside_a_word():
    document = {
        "text": "IL-2 gene.",
        "entities": [
            {"start": 0, "end": 4, "label": "Protein"},
            {"start": 0, "end": 9, "label": "Gene"},
            {"start": 1, "end": 4, "label": "inside a word"},
        ],
    }
    assert words_and_mentions(document) == (["IL", "-", "2", "gene", "."], [(0, 2, "Protein"), (0, 3, "Gene")])


def test_errors_for_missing_files_contain_the_command_that_creates_them(workspace, capsys):
    with pytest.raises(
        SystemExit, match=r"ncbi/test.jsonl does not exist.*python -m training.corpora ncbi DOWNLOADED_FOLDER"
    ):
        speed.main(["--model", str(workspace / "model"), "--corpora", str(workspace / "nowhere"), "--no-tables"])
    with pytest.raises(SystemExit, match=r"no checkpoint in .*python -m training.finetune"):
        speed.main(["--model", str(workspace / "nowhere")])
    for wrong in (["--types", "0"], ["--rounds", "0"], ["--seconds", "0"], ["--contenders", "unknown"]):
        with pytest.raises(SystemExit):
            speed.main(arguments(workspace, *wrong))
    assert "--rounds must be at least 1, got 0" in capsys.readouterr().err


def settings(workspace: Path) -> Settings:
    return Settings(str(workspace / "encoder"), str(workspace / "model"), 4, 2, 64, 16, 1, str(workspace))


def test_a_failed_installation_is_reported(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr("training.benchmarks.processes.python_of", lambda peer: environments.python_of(peer, tmp_path))
    monkeypatch.setattr(environments.venv, "create", lambda workspace, **_: workspace.mkdir(exist_ok=True))
    (tmp_path / "gliner.txt").write_text("gliner==0\n")

    class FailedInstallation:
        returncode, stdout = 1, "no matching distribution"

    monkeypatch.setattr(environments.subprocess, "run", lambda *_, **__: FailedInstallation())
    with pytest.raises(ContenderError, match="gliner could not be installed: no matching distribution"):
        Process("gliner", settings(workspace), tmp_path / "model", tmp_path / "log", 60)
    FailedInstallation.returncode = 0
    python = environments.python_of("gliner", tmp_path)
    monkeypatch.setattr(environments.subprocess, "run", None)
    assert environments.python_of("gliner", tmp_path) == python, "the environment must be installed only once"


def test_contenders_run_with_the_given_threads_and_the_default_waiting_policy(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("LANG", "C.UTF-8")
    found = environment(3)
    assert found["OMP_NUM_THREADS"] == found["RAYON_NUM_THREADS"] == "3" and found["LANG"] == "C.UTF-8"
    assert "OMP_WAIT_POLICY" not in found


def test_a_process_that_ends_unexpectedly_is_reported(workspace, tmp_path):
    process = Process("floor", settings(workspace), tmp_path / "model", tmp_path / "log", 60)
    with pytest.raises(ContenderError, match="has no attribute"):
        process.ask("unknown command")
    imported = process.ask("imports")
    assert imported["seconds"] > 0 and "transformers" in imported["versions"] and process.since_start() > 0
    process._process.kill()
    with pytest.raises(ContenderError, match="floor ended with exit status"):
        process.ask("load", folder="")
    process.close()


def test_a_process_that_takes_too_long_is_reported(workspace, tmp_path):
    process = Process("floor", settings(workspace), tmp_path / "model", tmp_path / "log", 0.01)
    with pytest.raises(ContenderError, match="no answer to 'imports' within"):
        process.ask("imports")
    process.close()


def test_the_documentation_shows_the_measured_figures():
    text = (speed.DOCS / "speed.md").read_text()
    if not speed.RESULTS.exists():
        assert f"<!-- speed -->\n{NOT_MEASURED}\n<!-- /speed -->" in text
        return
    known = json.loads(speed.RESULTS.read_text())
    assert contenders_table(known) in text and types_table(known) in text and latency_table(known) in text


@pytest.mark.parametrize("name", ["floor-bf16", "binder-bf16"])
def test_bfloat16_is_skipped_on_a_cpu_without_bfloat16_instructions(workspace, tmp_path, monkeypatch, name):
    monkeypatch.setattr("modeling_binder.machine.cpu_multiplies_bf16", lambda: False)
    answer = Worker(name, settings(workspace)).answer({"do": "build", "folder": str(tmp_path)})
    assert answer == {"error": "RuntimeError: this CPU has no bfloat16 instructions"}
