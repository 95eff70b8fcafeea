"""Run recipes, collect their results, and write the tables of results.

    python -m training.experiments.results                            # collect checkpoints/, write the tables
    python -m training.experiments.results ncbi-minilm --seeds 42 43 44 --token-classifier

Every training writes its metrics, command, commit and machine to `results.json` in its output folder. This command
collects these files in training/experiments/results.json, and writes the tables into docs/results.md and README.md. It
keeps results of earlier trainings, even if their checkpoints were deleted. It does not repeat a finished training, and
it continues an interrupted training.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from modeling_binder.finetuning.data import write_json
from training.experiments.recipe_runs import check_recipes, compare_if_missing, run_if_missing
from training.experiments.tables import (
    FIGURES,
    KEY,
    Run,
    ablations_table,
    benchmarks_table,
    distant_table,
    key_of,
    mean,
    merged,
    new_types_table,
    over_seeds,
    overview_table,
    recipe_of,
    settings_table,
)
from training.pages import DOCS, ROOT, write_between

COLLECTED = Path(__file__).parent / "results.json"
# Marker of a table in docs/results.md -> the function that makes the table
TABLES = {
    "benchmarks": benchmarks_table,
    "settings": settings_table,
    "ablations": ablations_table,
    "distant": distant_table,
    "new types": new_types_table,
}


def record(results: dict[str, Any]) -> Run:
    """Return the fields of one results.json that go into the collected results.

    These are the fields that identify the run (recipe, seed, command, commit, ...), and the figures in percent.
    """
    metrics: dict[str, Any] = results["metrics"]

    def percent(scores: dict[str, Any]) -> dict[str, float]:
        return {name: round(100 * scores[name], 2) for name in FIGURES}

    run = {name: results.get(name) for name in (*KEY, "command", "commit", "device", "minutes", "epochs")}
    run["dev_f1"] = round(100 * metrics["dev"]["micro"]["f1"], 2) if "dev" in metrics else None
    run["test"] = percent(metrics["test"]["micro"])
    run["test_types"] = {name: percent(scores) for name, scores in metrics["test"]["per_type"].items()}
    if metrics["test"]["nested"]["gold"]:
        run["test_nested"] = percent(metrics["test"]["nested"])
    if "lead" in results:
        run["lead"] = results["lead"]
    if "held out" in metrics:
        run["held_out"] = percent(metrics["held out"]["micro"])
        run["held_out_types"] = {name: percent(scores) for name, scores in metrics["held out"]["per_type"].items()}
    return run


def collect(folder: Path, earlier: Iterable[Run] = ()) -> list[Run]:
    """Return the runs in a folder of checkpoints, together with earlier runs, in a fixed order.

    A run in the folder replaces an earlier run with the same recipe, model, variant, changes and seed. A results.json
    is ignored if it has no recipe and no variant, or no results on a test set.
    """
    found = []
    for path in sorted(folder.rglob("results.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        if (results.get("recipe") or results.get("variant")) and "test" in results.get("metrics", {}):
            found.append(record(results))
    return sorted(merged(earlier, found), key=lambda run: [str(part) for part in key_of(run)])


def run_missing(recipes: Sequence[str], seeds: Sequence[int] | None, token_classifier: bool, folder: Path) -> None:
    """Run the recipes without a result in `folder`, one after the other, each in a separate process.

    Raises:
        ValueError: a recipe does not exist.
        RuntimeError: a run failed. The results of earlier runs are kept.
    """
    check_recipes(recipes)
    modules = [("training.finetune", "")]
    if token_classifier:
        modules.append(("training.experiments.token_classifier", "-tokens"))
    for name in recipes:
        for seed in seeds or [recipe_of(name)["seed"]]:
            outputs = [folder / f"{name}{suffix}-{seed}" for _, suffix in modules]
            for (module, _), output in zip(modules, outputs, strict=True):
                run_if_missing(name, seed, output, module)
            if token_classifier:
                compare_if_missing(name, seed, *outputs)


def write_tables(runs: Sequence[Run]) -> None:
    """Write the tables into docs/results.md and README.md."""
    for name, make in TABLES.items():
        write_between(DOCS / "results.md", name, make(runs))
    write_between(ROOT / "README.md", "results", overview_table(runs))


def main(argv: list[str] | None = None) -> list[Run]:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipes", nargs="*", help="recipes to run first, such as ncbi-minilm (default: none)")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: the seed of the recipe")
    parser.add_argument(
        "--token-classifier", action="store_true", help="also run the token classifier, and compare the two models"
    )
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints", help="default: checkpoints")
    parser.add_argument("--json", type=Path, default=COLLECTED, help="default: training/experiments/results.json")
    parser.add_argument("--no-tables", action="store_true", help="write only the JSON file")
    arguments = parser.parse_args(argv)
    try:
        run_missing(arguments.recipes, arguments.seeds, arguments.token_classifier, arguments.checkpoints.resolve())
        earlier = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.exists() else []
        runs = collect(arguments.checkpoints, earlier)
        write_json(arguments.json, runs)
        if not arguments.no_tables:
            write_tables(runs)
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    for key, found in over_seeds(runs).items():
        print(f"{' | '.join(filter(None, key)):70} P {mean(found, 'test', 'precision'):14} R "
              f"{mean(found, 'test', 'recall'):14} F1 {mean(found, 'test', 'f1')}")  # fmt: skip
    return runs


if __name__ == "__main__":
    main()
