"""Experiments: ablations, held-out types, and the token classifier as a baseline.

Results contain the command and the commit of a run. The results are collected and shown in tables.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from modeling_binder import BinderModel
from modeling_binder.finetuning.data import write_json
from tests.tiny import build_model
from training.arguments import parse_recipe
from training.experiments import recipe_runs
from training.experiments import results as module
from training.experiments.ablations import VARIANTS, GlobalThresholdModel, SharedDropoutModel
from training.experiments.ablations import main as ablate
from training.experiments.lead import main as lead
from training.experiments.new_types import main as hold_out
from training.experiments.provenance import commit, provenance
from training.experiments.results import TABLES, collect, main, record
from training.experiments.tables import (
    PAPER,
    RECIPES,
    ablations_table,
    benchmarks_table,
    distant_table,
    mean,
    overview_table,
    settings_table,
)
from training.experiments.token_classifier import main as token_classifier
from training.finetune import main as finetune
from training.pages import DOCS, ROOT, write_between


def run(f1, seed=42, recipe="ncbi-minilm", model="binder", variant="", changed="", minutes=1.0, **others):
    """Return the content of results.json after one training run."""
    ratios = {"precision": f1 / 100, "recall": f1 / 100, "f1": f1 / 100}
    scores = {"micro": ratios, "per_type": {"Disease": ratios}, "nested": {"gold": 0, **ratios}}
    return {
        "recipe": recipe,
        "model": model,
        "variant": variant,
        "changed": changed,
        "command": "python -m training.finetune",
        "commit": "abc",
        "device": "a machine",
        "metrics": {"dev": scores, "test": scores, **others},
        "minutes": minutes,
        "epochs": 1,
        "seed": seed,
    }


@pytest.fixture
def runs(tmp_path):
    """Write results.json for four valid runs and two runs that must be ignored, and return the folder."""
    folder = tmp_path / "runs"

    def write(name, content):
        (folder / name).mkdir(parents=True)
        (folder / name / "results.json").write_text(json.dumps(content))

    write("a", run(80, 42))
    write("deep/b", run(82, 43, minutes=3.0))
    difference = {"difference": 0.01, "low": -0.001, "high": 0.021}
    write("tokens", {**run(79, model="token classifier"), "lead": difference})
    write("changed", run(10, changed="num_train_epochs=1"))
    write("neither-recipe-nor-variant", {"metrics": {"test": {}}, "seed": 1})
    write("half", {**run(1), "metrics": {}})
    return folder


def test_mean_returns_the_mean_and_standard_deviation_over_seeds():
    found = [{"test": {"f1": 80.0}}, {"test": {"f1": 82.0}}, {"test": None}]
    assert mean(found, "test", "f1") == "81.00 ± 1.41" and mean(found[:1], "test", "f1") == "80.00"
    assert mean([], "test", "f1") == mean(found, "minutes") == ""


def test_collecting_keeps_earlier_runs_and_replaces_repeated_runs(runs, tmp_path, capsys):
    target = ["--checkpoints", str(runs), "--json", str(tmp_path / "results.json"), "--no-tables"]
    found = main(target)
    assert [(r["model"], r["changed"], r["seed"], r["test"]["f1"]) for r in found] == [
        ("binder", "", 42, 80.0),
        ("binder", "", 43, 82.0),
        ("binder", "num_train_epochs=1", 42, 10.0),
        ("token classifier", "", 42, 79.0),
    ]
    assert "test_nested" not in found[0] and found[0]["dev_f1"] == 80.0 and found[0]["commit"] == "abc"
    assert "81.00 ± 1.41" in capsys.readouterr().out
    shutil.rmtree(runs / "deep")
    (runs / "a" / "results.json").write_text(json.dumps(run(84, 42)))
    again = main(target)
    assert [r["test"]["f1"] for r in again] == [84.0, 82.0, 10.0, 79.0], "a newer result replaces an older result"


def test_benchmark_tables_show_means_over_seeds(runs):
    found = [*collect(runs), record(run(85, recipe="ncbi-mpnet"))]
    rows = {line.split("|")[1].strip(): line for line in benchmarks_table(found).splitlines()}
    cells = [cell.strip() for cell in rows["NCBI-disease"].split("|")[2:-1]]
    ours = ["81.00 ± 1.41"] * 3
    lead = "+1.00 (-0.10 to +2.10)"
    assert cells == [*ours, "", "79.00", lead, "2", "2", "85.00", "90.9 (BiomedNLP-BiomedBERT-base-uncased-abstract)"]
    assert len(rows) == 12, "the table has a header, a separator and all ten benchmarks"
    overview = overview_table(found).splitlines()
    assert overview[2:] == ["| NCBI-disease | 81.00 ± 1.41 | 79.00 | 85.00 | 90.9 |"], (
        "the overview shows only benchmarks with results"
    )
    assert "corpus not available" in rows["CoNLL 2003 (English)"] and "not run yet" in rows["GENIA"]


def test_the_settings_table_shows_recipes_with_several_settings(runs):
    found = [*collect(runs), *(record(run(70, recipe=name)) for name in ("genia-minilm", "bc5cdr-distant-minilm"))]
    assert settings_table(found).splitlines()[2:] == [
        "| NCBI-disease | as in the recipe | 2 | 81.00 ± 1.41 | 81.00 ± 1.41 |",
        "| NCBI-disease | num\\_train\\_epochs=1 | 1 | 10.00 | 10.00 |",
    ]
    assert settings_table([]) == "Not run yet."


def test_the_table_of_distant_supervision_names_the_encoder():
    found = [
        record(run(73, recipe="bc5cdr-minilm", model="dictionary", variant="all-names")),
        record(run(80, recipe="bc5cdr-distant-minilm")),
        record(run(82, recipe="bc5cdr-distant-mpnet", changed="corpus=corpora/other")),
    ]
    assert distant_table(found).splitlines()[2:] == [
        "| dictionary alone, all-names | 73.00 | 73.00 | 73.00 |",
        "| binder trained on its labels | 80.00 | 80.00 | 80.00 |",
        "| binder with MPNet trained on its labels, corpus=corpora/other | 82.00 | 82.00 | 82.00 |",
    ]


def test_tables_are_written_between_their_markers(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n")
    write_between(page, "x", "new")
    write_between(page, "x", "newer")
    assert page.read_text() == "a\n<!-- x -->\nnewer\n<!-- /x -->\nb\n"
    with pytest.raises(ValueError, match=r"README.md: expected one line <!-- y --> and one line <!-- /y -->"):
        write_between(page, "y", "new")
    assert "newer" in page.read_text()


def test_tables_in_the_documentation_are_generated_from_the_results():
    known = json.loads(module.COLLECTED.read_text())
    page = (DOCS / "results.md").read_text()
    for name, table in TABLES.items():
        assert f"<!-- {name} -->\n{table(known)}\n<!-- /{name} -->" in page
    overview = overview_table(known)
    assert f"<!-- results -->\n{overview}\n<!-- /results -->" in (ROOT / "README.md").read_text()


def test_only_recipes_without_results_are_run(runs, tmp_path, monkeypatch):
    commands = []

    class Done:
        returncode = 0

    def pretend(command, **_):
        commands.append(command[1:])
        if "--output_dir" in command:
            write_json(Path(command[command.index("--output_dir") + 1]) / "results.json", run(80))
        return Done()

    monkeypatch.setattr(recipe_runs.subprocess, "run", pretend)
    shutil.copytree(runs / "a", runs / "ncbi-minilm-42")
    arguments = ["--checkpoints", str(runs), "--json", str(tmp_path / "r.json"), "--no-tables"]
    main(["ncbi-minilm", "--seeds", "42", "43", "--token-classifier", *arguments])
    recipe = "training/recipes/ncbi-minilm.yaml"
    assert [(c[1], c[2], c[4]) for c in commands] == [
        ("training.experiments.token_classifier", recipe, "42"),
        ("training.experiments.lead", recipe, str(runs / "ncbi-minilm-tokens-42")),
        ("training.finetune", recipe, "43"),
        ("training.experiments.token_classifier", recipe, "43"),
        ("training.experiments.lead", recipe, str(runs / "ncbi-minilm-tokens-43")),
    ]
    for seed in (42, 43):
        write_json(runs / f"ncbi-minilm-tokens-{seed}" / "results.json", {**run(80), "lead": {}})
    commands.clear()
    main(["ncbi-minilm", "--seeds", "42", "43", "--token-classifier", *arguments])
    assert not commands
    with pytest.raises(SystemExit, match="unknown recipe 'nothing'"):
        main(["nothing", *arguments])
    Done.returncode = 1
    with pytest.raises(SystemExit, match="seed 44, failed; run the same command again to continue"):
        main(["ncbi-minilm", "--seeds", "44", *arguments])


def test_provenance_lists_changed_settings_command_and_commit(recipe):
    parsed = parse_recipe([str(recipe), "--seed", "4", "--num_train_epochs", "1"])
    assert parsed.name == "recipe" and parsed.given == {"seed": 4, "num_train_epochs": 1.0}
    origin = provenance("training.finetune", ["a b.yaml"], parsed.name, parsed.given, "binder")
    assert origin["changed"] == "num_train_epochs=1" and origin["command"] == "python -m training.finetune 'a b.yaml'"
    assert origin["commit"] == commit() and origin["device"]
    assert parse_recipe([]).name is None and parse_recipe([]).given == {}
    orders = [provenance("x", [], "a", given, "b")["changed"] for given in ({"b": 1, "a": 2}, {"a": 2, "b": 1})]
    assert orders == ["a=2, b=1"] * 2


def test_every_benchmark_has_two_recipes():
    assert all((RECIPES / f"{name}{suffix}.yaml").is_file() for name in PAPER for suffix in ("", "-minilm"))


# ---- ablations ----


def test_the_global_threshold_model_replaces_only_the_scores_of_the_cls_token():
    torch.manual_seed(0)
    model = GlobalThresholdModel(build_model().config).eval()
    model.thresholds.data = torch.tensor([0.01, 0.02, 0.03])
    inputs = {"input_ids": torch.tensor([[2, 8, 9, 3], [2, 9, 9, 3]]), "type_vectors": torch.randn(2, 3, 16)}
    output = model(**inputs)
    for scores, expected in ((output.start_scores, 1.0), (output.end_scores, 2.0)):
        torch.testing.assert_close(scores[..., 0], torch.full((2, 2), expected))
    torch.testing.assert_close(output.span_scores[..., 0, 0], torch.full((2, 2), 3.0))
    plain = BinderModel(model.config).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    expected = plain(**inputs)
    torch.testing.assert_close(output.start_scores[..., 1:], expected.start_scores[..., 1:])
    torch.testing.assert_close(output.span_scores[..., 1:, :], expected.span_scores[..., 1:, :])
    output.span_scores[0, 0, 0, 0].backward()
    assert model.thresholds.grad.tolist() == [0, 0, 100]


def test_shared_dropout_drops_the_same_dimensions_of_all_vectors_in_a_forward_pass():
    torch.manual_seed(0)
    model = SharedDropoutModel(build_model(projection_dropout=0.5).config).train()
    dropped = []
    model.span_head.dropout.register_forward_hook(lambda _, __, vectors: dropped.append(vectors.detach() == 0))
    inputs = {"input_ids": torch.tensor([[2, 8, 9, 3]]), "type_input_ids": torch.tensor([[2, 9, 3]])}
    model(**inputs)
    masks = [mask.flatten(0, -2) for mask in dropped]
    assert len(masks) == 4 and 0 < masks[0][0].sum() < len(masks[0][0])
    assert all(torch.equal(row, masks[0][0]) for mask in masks for row in mask)
    model(**inputs)
    assert not torch.equal(dropped[-1].flatten(0, -2)[0], masks[0][0])
    vectors = torch.ones(3, 16)
    assert torch.equal(model.eval().span_head.dropout(vectors), vectors)


@pytest.mark.slow
def test_each_variant_is_trained_once_with_its_changed_settings(recipe, tmp_path, capsys):
    folder = tmp_path / "ablations"
    arguments = [str(recipe), "--output_dir", str(folder), "--num_train_epochs", "1", "--first", "8"]
    ablate([*arguments, "--decoding", "flat"])
    found = {r["variant"]: r for r in collect(folder)}
    assert set(found) == set(VARIANTS)
    assert {r["changed"] for r in found.values()} == {"decoding=flat, first=8, num_train_epochs=1"}
    settings = {name: json.loads((folder / name / "config.json").read_text()) for name in
                ("unchanged", "shared-encoders", "span-loss-alone", "names-for-descriptions",
                 "projection-to-256-dimensions", "no-dropout-on-projected-vectors")}  # fmt: skip
    assert [settings[name]["share_encoders"] for name in ("unchanged", "shared-encoders")] == [False, True]
    assert settings["span-loss-alone"]["start_loss_weight"] == 0
    assert settings["projection-to-256-dimensions"]["projection_size"] == 256
    assert settings["no-dropout-on-projected-vectors"]["projection_dropout"] == 0
    assert all(t["name"] == t["description"] for t in settings["names-for-descriptions"]["entity_types"])
    with pytest.raises(ValueError, match="does not exist"):
        ablations_table(found.values())  # the recipe of this test is not in training/recipes
    capsys.readouterr()
    ablate([*arguments, "--decoding", "flat"])
    assert capsys.readouterr().out.count("already finished") == len(VARIANTS)
    ablate([str(recipe), "--output_dir", str(tmp_path / "nested"), "--only", "greedy flat decoding"])
    assert not (tmp_path / "nested").exists(), (
        "variants for flat decoding are skipped if the recipe has nested decoding"
    )


# ---- new types ----


def test_held_out_types_are_evaluated_but_not_trained(recipe, tmp_path):
    output = tmp_path / "held"
    results = hold_out([str(recipe), "--held-out", "Cell", "--output_dir", str(output), "--num_train_epochs", "1"])
    config = json.loads((output / "config.json").read_text())
    assert "Cell" not in {entity_type["name"] for entity_type in config["entity_types"]}
    assert set(results["metrics"]["held out"]["per_type"]) == {"Cell"}
    assert "Cell" not in results["metrics"]["test"]["per_type"]
    assert results["metrics"]["held out"]["micro"]["gold"] > 0 and results["variant"] == "without Cell"
    assert collect(tmp_path)[0]["held_out"].keys() == {"precision", "recall", "f1"}
    with pytest.raises(
        SystemExit, match="cannot hold out Nothing: pass some, but not all, of the types of the corpus: Gene, "
    ):
        hold_out([str(recipe), "--held-out", "Nothing"])


# ---- the token classifier ----


def test_the_token_classifier_is_trained_with_the_same_recipe(recipe, tmp_path, capsys):
    output = tmp_path / "tokens"
    results = token_classifier([str(recipe), "--output_dir", str(output), "--num_train_epochs", "12"])
    assert results["model"] == "token classifier" and results["metrics"]["test"]["micro"]["f1"] > 0.3
    assert results["metrics"]["test"]["nested"]["predicted"] == 0, "one tag per token cannot express nested mentions"
    assert "micro" in capsys.readouterr().out and (output / "model.safetensors").exists()
    with pytest.raises(SystemExit, match=r"num_train_epochs: 12.* before, 13.* now.*--restart true"):
        token_classifier([str(recipe), "--output_dir", str(output), "--num_train_epochs", "13"])


def test_the_lead_over_the_token_classifier_is_added_to_its_results(recipe, tmp_path, capsys):
    ours, tokens = tmp_path / "ours", tmp_path / "tokens"
    f1 = [
        train([str(recipe), "--output_dir", str(output), "--num_train_epochs", "4"])["metrics"]["test"]["micro"]["f1"]
        for train, output in ((finetune, ours), (token_classifier, tokens))
    ]
    found = lead([str(recipe), str(ours), str(tokens)])
    assert [found["f1"], found["other_f1"]] == pytest.approx(f1) and max(f1) > 0
    assert found["low"] <= found["difference"] <= found["high"] and "BINDER" in capsys.readouterr().out
    results = json.loads((tokens / "results.json").read_text())
    assert results["lead"] == found and results["metrics"]["test"]["micro"]["f1"] == f1[1]
    with pytest.raises(SystemExit, match="cannot load the model"):
        lead([str(recipe), str(tmp_path / "nothing"), str(tokens)])
    with pytest.raises(SystemExit, match=r"results\.json"):
        lead([str(recipe), str(ours), str(tmp_path / "nothing")])
