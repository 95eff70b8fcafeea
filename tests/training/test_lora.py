"""The comparison of LoRA with full fine-tuning: runs, the JSON file and the table."""

import json
from types import SimpleNamespace

import pytest
import yaml

from training.experiments import lora, recipe_runs
from training.experiments.tables import NOT_RUN
from training.finetune import main as finetune


@pytest.fixture
def recipes(recipe, monkeypatch):
    """Write the recipes `full` and `small`, and return the list of commands that the comparison runs.

    The commands run in the process of the test.
    """
    settings = yaml.safe_load(recipe.read_text())
    folder = recipe.parent / "recipes"
    folder.mkdir()
    (folder / "full.yaml").write_text(yaml.safe_dump(settings))
    (folder / "small.yaml").write_text("inherit: full.yaml\nlora_r: 2\n")
    commands = []

    def run(command, **options):
        commands.append(command)
        if "--fail" in command:
            return SimpleNamespace(returncode=1)
        finetune([str(folder / command[3].rpartition("/")[2]), *command[4:]])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(recipe_runs, "subprocess", SimpleNamespace(run=run))
    monkeypatch.setattr(recipe_runs, "RECIPES", folder)
    monkeypatch.setattr(lora, "recipe_of", lambda name: yaml.safe_load((folder / f"{name}.yaml").read_text()))
    return commands


def test_the_comparison_trains_missing_runs_and_writes_the_json_file_and_the_table(recipes, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- {lora.MARKER} -->\n{NOT_RUN}\n<!-- /{lora.MARKER} -->\nafter\n")
    arguments = ["--recipes", "full", "small", "--folder", str(tmp_path / "runs"), "--json", str(tmp_path / "x.json")]
    arguments += ["--page", str(page), "--seeds", "1", "2"]
    runs = lora.main([*arguments, "--", "--max_steps", "2"])
    assert [(run["recipe"], run["seed"]) for run in runs] == [("full", 1), ("small", 1), ("full", 2), ("small", 2)]
    assert len(recipes) == 4 and recipes[0][3:6] == ["training/recipes/full.yaml", "--seed", "1"]
    assert recipes[0][-2:] == ["--max_steps", "2"]
    assert json.loads((tmp_path / "x.json").read_text()) == runs
    full, small = runs[:2]
    assert small["trained_parameters"] < full["trained_parameters"] and small["saved_mb"] <= full["saved_mb"]
    assert set(small["f1"]) == {"dev", "test"} and small["peak_memory_mb"] > 0
    text = page.read_text()
    assert lora.lora_table(runs) in text and text.startswith("before") and text.endswith("after\n")
    assert "| full with max\\_steps=2 | all weights | 2 |" in text and "| LoRA, r = 2 | 2 |" in text
    (tmp_path / "runs" / "small-2" / "results.json").unlink()
    assert len(lora.main([*arguments, "--", "--max_steps", "2"])) == 4
    assert len(recipes) == 5, "only the run without results is repeated"


def test_a_failed_run_or_an_unknown_recipe_raises_an_error(recipes, tmp_path, capsys):
    with pytest.raises(SystemExit, match="full, seed 42, failed; run the same command again"):
        lora.main(["--recipes", "full", "--folder", str(tmp_path), "--json", str(tmp_path / "x.json"), "--", "--fail"])
    with pytest.raises(SystemExit, match="unknown recipe 'none'; the recipes are full, small"):
        lora.main(["--recipes", "none", "--folder", str(tmp_path)])


def test_the_page_shows_the_table_of_the_stored_results():
    runs = json.loads(lora.JSON.read_text(encoding="utf-8")) if lora.JSON.exists() else []
    assert f"<!-- {lora.MARKER} -->\n{lora.lora_table(runs)}\n<!-- /{lora.MARKER} -->" in lora.PAGE.read_text("utf-8")
