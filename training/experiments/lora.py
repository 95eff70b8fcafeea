"""Compare LoRA with full fine-tuning: F1, peak memory, size of the saved weights, and training time.

    python -m training.experiments.lora                        # ncbi-minilm, seeds 42, 43 and 44
    python -m training.experiments.lora --recipes genia-minilm genia-minilm-lora --seeds 42 -- --num_train_epochs 4

Each run is a separate process of `training.finetune`. Arguments after `--` are passed to this process. A finished run
is not repeated, and an interrupted run is continued. After each run, the results are written to
training/experiments/lora.json. At the end, a table is written into docs/fine-tuning.md.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hub_cards.markdown import table
from modeling_binder.finetuning.data import write_json
from training.experiments.recipe_runs import check_recipes, run_if_missing
from training.experiments.tables import NOT_RUN, recipe_of
from training.pages import DOCS, ROOT, write_between

PAGE = DOCS / "fine-tuning.md"
MARKER = "lora"  # marker of the table in the page
JSON = Path(__file__).parent / "lora.json"
COMPARED = ("ncbi-minilm", "ncbi-minilm-lora")
SEEDS = (42, 43, 44)
WEIGHTS = ("adapter_model.safetensors", "model.safetensors")  # file of an adapter, file of a full model

Run = dict[str, Any]


def run_missing(recipes: Sequence[str], seeds: Sequence[int], options: Sequence[str], folder: Path) -> Iterable[Run]:
    """Run the recipes with each seed, and yield the results of each run. Finished runs are not repeated.

    Args:
        recipes: names of recipes in training/recipes.
        seeds: seeds of the runs.
        options: further arguments of `training.finetune`.
        folder: folder with the output folders of the runs.

    Raises:
        ValueError: a recipe does not exist.
        RuntimeError: a run failed.
    """
    check_recipes(recipes)
    for seed in seeds:
        for name in recipes:
            output = folder / f"{name}-{seed}"
            run_if_missing(name, seed, output, options=options)
            yield record(output)


def record(output: Path) -> Run:
    """Return the figures of a finished run (F1 in percent, memory and saved weights in MB), and their origin."""
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    metrics = results["metrics"]
    saved = next(output / name for name in WEIGHTS if (output / name).exists())
    f1 = {split: round(100 * metrics[split]["micro"]["f1"], 2) for split in ("dev", "test") if split in metrics}
    origin = {name: results.get(name) for name in ("recipe", "seed", "changed", "command", "commit", "device")}
    run = {name: results[name] for name in ("minutes", "epochs", "peak_memory_mb", "trained_parameters")}
    return {**origin, "f1": f1, "saved_mb": round(saved.stat().st_size / 1e6, 1), **run}


def lora_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table. A row has the means of a recipe over the seeds, and the standard deviation of F1.

    The minutes are the mean over the runs that were not interrupted.
    """
    if not runs:
        return NOT_RUN
    rows = []
    for recipe, changed in dict.fromkeys((run["recipe"], run["changed"]) for run in runs):
        found = [run for run in runs if (run["recipe"], run["changed"]) == (recipe, changed)]
        rank = recipe_of(recipe).get("lora_r")
        f1 = [run["f1"]["test"] for run in found]
        minutes = [run["minutes"] for run in found if run["minutes"] is not None]
        rows.append(
            [
                f"{recipe}{f' with {changed}' if changed else ''}",
                "all weights" if rank is None else f"LoRA, r = {rank}",
                len(found),
                f"{mean(f1):.2f}" + (f" ± {stdev(f1):.2f}" if len(f1) > 1 else ""),
                f"{mean(run['trained_parameters'] for run in found) / 1e6:.2f}",
                f"{mean(run['peak_memory_mb'] for run in found):,.0f}",
                f"{mean(run['saved_mb'] for run in found):,.1f}",
                f"{mean(minutes):.1f}" if minutes else "",
            ]
        )
    header = ["recipe", "trained", "seeds", "test F1", "million parameters", "peak MB", "saved MB", "minutes"]
    return table(header, rows, numbers=6)


def main(argv: list[str] | None = None) -> list[Run]:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.lora",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipes", nargs="+", default=list(COMPARED), help=f"default: {' '.join(COMPARED)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="default: 42 43 44")
    parser.add_argument("--folder", type=Path, default=ROOT / "checkpoints" / "lora", help="output folders of the runs")
    parser.add_argument("--json", type=Path, default=JSON, help="default: training/experiments/lora.json")
    parser.add_argument("--page", type=Path, default=PAGE, help="page with the table; default: docs/fine-tuning.md")
    parser.add_argument("options", nargs="*", help="after --: further arguments of training.finetune")
    arguments = parser.parse_args(argv)
    runs: list[Run] = []
    try:
        for run in run_missing(arguments.recipes, arguments.seeds, arguments.options, arguments.folder.resolve()):
            runs.append(run)
            write_json(arguments.json, runs)
        write_between(arguments.page, MARKER, lora_table(runs))
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"\n{lora_table(runs)}")
    return runs


if __name__ == "__main__":
    main()
