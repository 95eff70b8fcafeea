"""Fine-tuning and evaluation from the command line: recipes, resuming and several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from modeling_binder.finetuning import DataError, write_jsonl
from tests.fresh_process import HANGS
from tests.tiny import TYPES, corpus
from training.arguments import DataArguments, expand, parse_recipe, read_recipe
from training.evaluate import main as evaluate
from training.finetune import main as finetune
from training.finetune_mix import is_mix_recipe
from training.finetune_mix import parse as parse_mix

ROOT = Path(__file__).resolve().parents[2]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def test_evaluate_returns_the_test_results_of_finetune(recipe, tmp_path, capsys):
    output = tmp_path / "run"
    results = finetune([str(recipe), "--output_dir", str(output), "--num_train_epochs", "10"])
    printed = capsys.readouterr().out
    assert "mentions" in printed and "without mentions" in printed and "Gene" in printed
    assert results["metrics"]["test"]["micro"]["f1"] > 0.9
    assert json.loads((output / "results.json").read_text())["metrics"] == results["metrics"]

    test_file = str(tmp_path / "corpus" / "test.jsonl")
    metrics = evaluate(
        [
            str(output),
            test_file,
            "--json",
            str(tmp_path / "metrics.json"),
            "--predictions",
            str(tmp_path / "found.jsonl"),
        ]
    )
    assert metrics.micro.f1 == results["metrics"]["test"]["micro"]["f1"]
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert set(written) == {"micro", "macro", "per_type", "nested", "schemes"}
    assert written["schemes"]["strict"]["micro"] == written["micro"]
    assert written["micro"]["f1"] == metrics.micro.f1
    assert len((tmp_path / "found.jsonl").read_text().splitlines()) == 4
    assert "nested" in capsys.readouterr().out
    flat = evaluate([str(output), test_file, "--decoding", "flat"])
    assert flat.nested.predicted == 0


def test_a_killed_run_resumes_and_ends_with_the_same_weights(recipe, tmp_path):
    command = [sys.executable, "-m", "training.finetune", str(recipe), "--save_strategy", "steps", "--save_steps", "2"]
    command += ["--eval_strategy", "steps", "--eval_steps", "2", "--num_train_epochs", "8"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(
        [*command, "--output_dir", str(whole)],
        env=environment(),
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=HANGS,
    )
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(
            [*command, "--output_dir", str(killed)], env=environment(), cwd=ROOT, stdout=log, stderr=log
        )
        deadline = time.time() + HANGS
        # Kill the run in the middle of a later epoch. An epoch has 6 steps.
        while not list(killed.glob("checkpoint-*/trainer_state.json")) or last_step(killed) < 8:
            assert run.poll() is None and time.time() < deadline, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert not (killed / "model.safetensors").exists() and last_step(killed) < 46
    # Imitate runs that were killed while they wrote a checkpoint. The last file that a run writes, trainer_state.json,
    # is missing or incomplete.
    for ahead in (2, 4):
        half = killed / f"checkpoint-{last_step(killed) + ahead}"
        half.mkdir(exist_ok=True)
        (half / "model.safetensors").write_bytes(b"")
    (half / "trainer_state.json").write_text("{")
    again = subprocess.run(
        [*command, "--output_dir", str(killed)],
        env=environment(),
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert "Resuming from" in again.stdout
    one, two = load_file(whole / "model.safetensors"), load_file(killed / "model.safetensors")
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    results = [json.loads((folder / "results.json").read_text())["metrics"] for folder in (whole, killed)]
    assert results[0] == results[1]


def last_step(folder):
    """Return the step of the last complete checkpoint."""
    return max(
        (int(path.parent.name.split("-")[1]) for path in folder.glob("checkpoint-*/trainer_state.json")), default=0
    )


def test_a_run_with_other_settings_raises_an_error_unless_it_is_restarted(recipe, tmp_path, capsys):
    output = tmp_path / "run"
    finetune([str(recipe), "--output_dir", str(output), "--max_steps", "6"])
    with pytest.raises(SystemExit, match=r"learning_rate: 0\.005 before, 0\.001 now.*--restart true"):
        finetune([str(recipe), "--output_dir", str(output), "--max_steps", "6", "--learning_rate", "0.001"])
    finetune(
        [
            *(str(recipe), "--output_dir", str(output), "--max_steps", "6", "--learning_rate", "0.001"),
            *("--restart", "true"),
        ]
    )


def test_two_processes_train_the_same_weights_as_one_process_with_twice_the_batch_size(recipe, tmp_path):
    common = [str(recipe), "--projection_dropout", "0", "--optim", "sgd", "--learning_rate", "0.1"]
    common += ["--num_train_epochs", "2", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    two = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29631"]
    for launcher, size, name in ((two, 4, "two"), ([sys.executable], 8, "one")):
        command = [*launcher, "-m", "training.finetune", *common, "--per_device_train_batch_size", str(size)]
        done = subprocess.run(
            [*command, "--output_dir", str(tmp_path / name)],
            env=environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=HANGS,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    results = {name: json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")}
    assert results["two"]["processes"] == 2 and results["one"]["processes"] == 1
    assert results["two"]["steps"] == results["one"]["steps"]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=2e-5, rtol=1e-3)
    assert results["one"]["metrics"] == results["two"]["metrics"]


def test_logs_for_tensorboard_are_written_if_report_to_is_tensorboard(recipe, tmp_path):
    logs = tmp_path / "logs"
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(logs)
    try:
        finetune([str(recipe), "--output_dir", str(tmp_path / "run"), "--max_steps", "2", "--report_to", "tensorboard"])
    finally:
        del os.environ["TENSORBOARD_LOGGING_DIR"]
    assert list(logs.rglob("events.out.tfevents.*"))


def test_early_stopping_ends_training(recipe, tmp_path):
    results = finetune(
        [
            *(str(recipe), "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "40"),
            *("--early_stopping_patience", "2"),
        ]
    )
    assert results["epochs"] < 40


def test_the_command_line_overrides_the_recipe(recipe):
    data, model, _, training, settings, *_ = parse_recipe([str(recipe), "--max_span_width", "5", "--bf16", "true"])
    assert data.corpus == str(recipe.parent / "corpus")
    assert (model.max_span_width, model.stride) == (5, 8)
    assert training.learning_rate == 5e-3 and training.use_cpu
    assert settings["max_span_width"] == 5 and settings["seed"] == 3
    assert training.output_dir == "checkpoints/recipe"


def test_parts_of_the_model_can_have_their_own_learning_rates(recipe, tmp_path):
    rates = '{"heads": 0, "type_encoder": 0}'
    for steps in ("1", "3"):
        finetune([str(recipe), "--output_dir", str(tmp_path / steps), "--max_steps", steps, "--learning_rates", rates])
    one, three = (load_file(tmp_path / steps / "model.safetensors") for steps in ("1", "3"))
    changed = {name.split(".")[0] for name, weights in one.items() if not torch.equal(weights, three[name])}
    assert changed == {"text_encoder"}
    recipe.write_text(f"{recipe.read_text()}\nlearning_rates: {rates}\n")
    parsed = parse_recipe([str(recipe)])
    assert parsed.training.learning_rates == parsed.settings()["learning_rates"] == {"heads": 0, "type_encoder": 0}
    with pytest.raises(SystemExit, match="--learning_rates must be JSON"):
        finetune([str(recipe), "--learning_rates", "heads=0"])
    with pytest.raises(SystemExit, match=r"learning_rates accepts the parts embeddings, .* got 'head'"):
        finetune([str(recipe), "--output_dir", str(tmp_path / "bad"), "--learning_rates", '{"head": 0}'])


@pytest.mark.parametrize("multiplies", [True, False])
def test_bf16_is_ignored_on_a_cpu_without_bfloat16_instructions(recipe, monkeypatch, caplog, multiplies):
    monkeypatch.setattr("training.arguments.cpu_multiplies_bf16", lambda: multiplies)
    training = parse_recipe([str(recipe), "--bf16", "true"]).training
    assert training.use_cpu and training.bf16 == multiplies
    assert ("this CPU has no bfloat16 instructions" in caplog.text) == (not multiplies)


def test_types_of_a_recipe_replace_the_types_of_the_corpus(recipe):
    types = {"Gene": ["A gene.", "Genes"], "Cell": "A cell.", "Place": {"description": "A place."}}
    loaded = DataArguments(corpus=str(recipe.parent / "corpus"), types=types).load()
    assert loaded.entity_types == {"Gene": "A gene.", "Cell": "A cell.", "Place": "A place."}
    assert [each.phrasings for each in loaded.types] == [("A gene.", "Genes"), ("A cell.",), ("A place.",)]
    with pytest.raises(DataError, match="the type 'Cell' needs a description"):
        DataArguments(corpus=str(recipe.parent / "corpus"), types={"Gene": "A gene.", "Cell": ""}).load()


def test_all_recipes_in_the_repository_can_be_parsed():
    recipes = sorted((ROOT / "training" / "recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        if is_mix_recipe(str(path)):
            assert parse_mix([str(path)]).mix.mix
        else:
            parse_recipe([str(path)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning_rat: 1", r"unknown setting 'learning_rat'\. Did you mean 'learning_rate'"),
        ("- a", "expected lines 'key: value', got list"),
        ("a: [", "not valid YAML"),
    ],
)
def test_malformed_recipes_raise_an_error(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(SystemExit, match=message):
        finetune([str(path)])
    with pytest.raises(SystemExit, match="does not exist"):
        finetune([str(tmp_path / "none.yaml")])


def test_a_recipe_inherits_the_keys_of_another_recipe(recipe, tmp_path):
    (tmp_path / "folder").mkdir()
    middle, heir = tmp_path / "folder" / "middle.yaml", tmp_path / "heir.yaml"
    middle.write_text("inherit: ../recipe.yaml\nseed: 5\nmax_span_width: 10\n")
    heir.write_text("inherit: folder/middle.yaml\nseed: 6\n")
    inherited = yaml.safe_load(recipe.read_text())
    assert read_recipe(heir) == {**inherited, "max_span_width": 10, "seed": 6}
    parsed = parse_recipe([str(heir), "--stride", "4"])
    assert (parsed.model.stride, parsed.model.max_span_width, parsed.training.seed) == (4, 10, 6)
    assert parsed.model.encoder == inherited["encoder"] and parsed.name == "heir"


def test_the_mpnet_recipe_differs_from_the_minilm_recipe_in_encoder_learning_rates_and_steps():
    small, base = (
        read_recipe(ROOT / "training" / "recipes" / f"open-types-{name}.yaml") for name in ("minilm", "mpnet")
    )
    different = {key for key in small if small[key] != base[key]}
    assert different == {"encoder", "learning_rate", "learning_rates", "max_steps"}
    assert small.keys() == base.keys() and base["encoder"] == "mpnet" and base["type_encoder"] == "minilm"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("inherit: 5", r"heir\.yaml: 'inherit' must be the path of a recipe, got 5"),
        ("inherit: none.yaml", r"heir\.yaml: the recipe in 'inherit' is missing: .*none\.yaml does not exist"),
        ("inherit: heir.yaml", r"heir\.yaml: 'inherit' leads back to .*heir\.yaml"),
        ("inherit: round.yaml", r"round\.yaml: 'inherit' leads back to .*heir\.yaml"),
        ("inherit: typo.yaml", r"typo\.yaml: unknown setting 'learning_rat'\. Did you mean 'learning_rate'"),
        ("inherit: list.yaml", r"list\.yaml: expected lines 'key: value'"),
    ],
)
def test_invalid_inheritance_raises_an_error(tmp_path, content, message):
    (tmp_path / "heir.yaml").write_text(content)
    (tmp_path / "round.yaml").write_text("inherit: heir.yaml")
    (tmp_path / "typo.yaml").write_text("learning_rat: 1")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(SystemExit, match=message):
        finetune([str(tmp_path / "heir.yaml")])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("examples: hello", r"bad\.yaml: examples must be a list, got 'hello'; write \[hello\]"),
        ("freeze: type_encoder", r"freeze must be a list, got 'type_encoder'"),
        ("seed: 4.5", r"seed must be a whole number, got 4\.5"),
        ("learning_rate:", "learning_rate has no value"),
        ("decoding: falt", "decoding must be one of nested, flat, got 'falt'"),
    ],
)
def test_values_of_a_wrong_type_in_a_recipe_raise_an_error(tmp_path, content, message):
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(SystemExit, match=message):
        finetune([str(tmp_path / "bad.yaml")])


def test_a_file_replaces_the_file_of_the_corpus(recipe, tmp_path):
    folder = recipe.parent / "corpus"
    write_jsonl(tmp_path / "other.jsonl", corpus(3))
    loaded = DataArguments(corpus=str(folder), test_file=str(tmp_path / "other.jsonl")).load()
    assert loaded.test == corpus(3) and loaded.train == corpus(6)
    (tmp_path / "unknown.jsonl").write_text('{"text": "x", "entities": [{"start": 0, "end": 1, "label": "Unknown"}]}\n')
    with pytest.raises(DataError, match=r"unknown\.jsonl: the label 'Unknown'"):
        DataArguments(corpus=str(folder), dev_file=str(tmp_path / "unknown.jsonl")).load()
    with pytest.raises(DataError, match=r"none\.jsonl: there is no such file"):
        DataArguments(corpus=str(folder), train_file=str(tmp_path / "none.jsonl")).load()


@pytest.mark.parametrize("changed", ["train.jsonl", "types.json"])
def test_a_run_is_not_resumed_with_other_data(recipe, tmp_path, changed):
    arguments = [str(recipe), "--output_dir", str(tmp_path / "run"), "--max_steps", "1"]
    finetune(arguments)
    if changed == "train.jsonl":
        write_jsonl(tmp_path / "corpus" / changed, corpus(2))
    else:
        descriptions = {name: f"{text} Now changed." for name, text in TYPES.items()}
        (tmp_path / "corpus" / changed).write_text(json.dumps(descriptions))
    with pytest.raises(SystemExit, match=r"an earlier run with other settings or data \(data: '\w+' before, '\w+' now"):
        finetune(arguments)
    assert finetune([*arguments, "--restart", "true"])["steps"] == 1


def test_invalid_data_raise_an_error_before_anything_is_written(recipe, tmp_path):
    output = tmp_path / "run"
    arguments = [str(recipe), "--output_dir", str(output)]
    (tmp_path / "corpus" / "types.json").write_text('{"Gene": "A gene."}')
    with pytest.raises(SystemExit, match="the label 'Cell'"):
        finetune(arguments)
    with pytest.raises(SystemExit, match=r"stride=64 and max_length=64"):
        finetune([*arguments, "--stride", "64", "--corpus", other_corpus(tmp_path)])
    assert not output.exists()


def other_corpus(tmp_path):
    folder = tmp_path / "other"
    write_jsonl(folder / "train.jsonl", corpus(1))
    (folder / "types.json").write_text(json.dumps(TYPES))
    return str(folder)


def test_environment_variables_in_paths_are_expanded(monkeypatch):
    monkeypatch.setenv("SOME_DATA", "/data")
    assert expand("${SOME_DATA}/x") == "/data/x"
    with pytest.raises(ValueError, match="not set"):
        expand("${SURELY_NOT_SET}/x")


def test_help_lists_all_settings(capsys):
    with pytest.raises(SystemExit):
        finetune(["--help"])
    text = capsys.readouterr().out
    assert "--max_span_width" in text and "--learning_rate" in text and "RECIPE.yaml" in text
