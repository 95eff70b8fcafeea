"""Compare training runs of `training.finetune_mix`: their settings, and F1 on entity types that training did not see.

    python -m training.experiments.open_types_runs checkpoints/open-types-minilm checkpoints/open-types-mpnet

The command reads `results.json` in the folder of each run, adds the run to training/experiments/open_types_runs.json,
and writes the table in docs/results.md. A run with the same settings and seed replaces the earlier one. Without
folders, the command only writes the table again.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from hub_cards.markdown import table
from modeling_binder.finetuning.data import write_json
from training.experiments.tables import KEY, NOT_RUN, Run, merged, recipe_of
from training.pages import DOCS, write_between

JSON = Path(__file__).parent / "open_types_runs.json"
PAGE = DOCS / "results.md"
MARKER = "open-types-runs"
# Settings that do not change what a model learns; the table leaves them out.
_NEUTRAL = (
    "data=",
    "prepared",
    "max_minutes",
    "eval_",
    "per_device_eval",
    "save_",
    "load_best",
    "dataloader_",
    "teacher=",
)
_ORIGIN = (*KEY, "command", "commit", "device", "steps", "epochs", "minutes", "peak_memory_mb", "trained_parameters")


def read_run(folder: Path) -> Run:
    """Return the settings of a finished run, and its F1 on each development set in percent.

    Raises:
        FileNotFoundError: the folder has no results.json.
        ValueError: the results do not come from `training.finetune_mix`, or the run had no development sets.
    """
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if "mix" not in results:
        raise ValueError(f"{folder}: results.json is not from training.finetune_mix: it does not describe a mix.")
    mix = {part["name"]: part["drawn"] for part in results["mix"]}
    metrics = results["metrics"]
    names = [key.removeprefix("eval_").removesuffix("_precision") for key in metrics if key.endswith("_precision")]
    f1 = {name: round(100 * metrics[f"eval_{name}_f1"], 2) for name in names if f"eval_{name}_f1" in metrics}
    if not f1:
        raise ValueError(f"{folder}: the run was not evaluated on development sets.")
    seen = {name: round(mix[name], 3) for name in f1 if name in mix}
    return {**{key: results.get(key) for key in _ORIGIN}, "corpora": len(mix), "f1": f1, "share": seen}


def runs_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table: a row for each run, with the mean F1 over the development sets that are not in the mix."""
    if not runs:
        return NOT_RUN
    names = list(dict.fromkeys(name for run in runs for name in run["f1"]))
    unseen = [name for name in names if not any(name in run["share"] for run in runs)]
    ordered = [*unseen, *(name for name in names if name not in unseen)]
    rows = []
    for run in runs:
        recipe = recipe_of(run["recipe"])
        changed = [text for text in (run["changed"] or "").split(", ") if text and not text.startswith(_NEUTRAL)]
        f1 = run["f1"]
        rows.append(
            [
                run["recipe"] + (f" with {', '.join(changed)}" if changed else ""),
                recipe["encoder"],
                "yes" if recipe.get("teacher") else "",
                f"{run['steps']:,}",
                *(f"{f1[name]:.1f}" if name in f1 else "" for name in ordered),
                f"{mean(f1[name] for name in unseen if name in f1):.1f}",
            ]
        )
    header = ["recipe", "text encoder", "teacher", "steps", *ordered, f"mean of the first {len(unseen)}"]
    return table(header, rows, numbers=len(header) - 3)


def main(argv: list[str] | None = None) -> list[Run]:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.open_types_runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", type=Path, nargs="*", help="output folders of training.finetune_mix")
    parser.add_argument("--json", type=Path, default=JSON, help="default: training/experiments/open_types_runs.json")
    parser.add_argument("--page", type=Path, default=PAGE, help="page with the table; default: docs/results.md")
    arguments = parser.parse_args(argv)
    try:
        runs: list[Run] = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.exists() else []
        runs = merged(runs, [read_run(folder) for folder in arguments.folders])
        write_json(arguments.json, runs)
        write_between(arguments.page, MARKER, runs_table(runs))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(runs_table(runs))
    return runs


if __name__ == "__main__":
    main()
