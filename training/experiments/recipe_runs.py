"""Run recipes in separate processes, for the experiments that compare several runs."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from training.experiments.tables import RECIPES
from training.pages import ROOT


def check_recipes(names: Sequence[str]) -> None:
    """Raise ValueError if a recipe of `training/recipes` does not exist."""
    for name in names:
        if not (RECIPES / f"{name}.yaml").is_file():
            known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
            raise ValueError(f"unknown recipe {name!r}; the recipes are {known}.")


def run_if_missing(
    recipe: str, seed: int, output: Path, module: str = "training.finetune", options: Sequence[str] = ()
) -> None:
    """Run a recipe in a separate process, unless `output` already has its results. An interrupted run is continued.

    Args:
        recipe: name of a recipe.
        seed: random seed.
        output: output folder of the run.
        module: the command that runs the recipe.
        options: further arguments of this command.

    Raises:
        RuntimeError: the run failed.
    """
    if (output / "results.json").is_file():
        return
    # The results contain the command. Use a relative path, so that they do not contain folders of this machine.
    target = output.relative_to(ROOT) if output.is_relative_to(ROOT) else output
    arguments = [f"training/recipes/{recipe}.yaml", "--seed", str(seed), "--output_dir", str(target), *options]
    _run(f"{output.name.removesuffix(f'-{seed}')}, seed {seed}", module, arguments)


def compare_if_missing(recipe: str, seed: int, binder: Path, tokens: Path) -> None:
    """Compare the two models of a recipe in a separate process, unless the token classifier's results have the lead.

    Args:
        recipe: name of a recipe.
        seed: random seed of both models.
        binder, tokens: output folders of BINDER and of the token classifier.

    Raises:
        RuntimeError: the comparison failed.
    """
    if "lead" not in json.loads((tokens / "results.json").read_text(encoding="utf-8")):
        arguments = [f"training/recipes/{recipe}.yaml", str(binder), str(tokens)]
        _run(f"{recipe}, BINDER's lead, seed {seed}", "training.experiments.lead", arguments)


def _run(title: str, module: str, arguments: Sequence[str]) -> None:
    print(f"\n=== {title} ===", flush=True)
    if subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=False).returncode:
        raise RuntimeError(f"{title}, failed; run the same command again to continue.")
