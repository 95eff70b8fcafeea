"""Run recipes in separate processes, for the experiments that compare several runs."""

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
    title = f"{output.name.removesuffix(f'-{seed}')}, seed {seed}"
    print(f"\n=== {title} ===", flush=True)
    # The results contain the command. Use a relative path, so that they do not contain folders of this machine.
    target = output.relative_to(ROOT) if output.is_relative_to(ROOT) else output
    command = [sys.executable, "-m", module, f"training/recipes/{recipe}.yaml"]
    command += ["--seed", str(seed), "--output_dir", str(target), *options]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise RuntimeError(f"{title}, failed; run the same command again to continue.")
