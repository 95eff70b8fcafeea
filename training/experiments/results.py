"""Results: run what has not been run, collect what was measured, write the tables.

    python -m training.experiments.results                            # collect checkpoints/, write the tables
    python -m training.experiments.results ncbi-minilm --seeds 42 43 44 --token-classifier

Every run leaves its metrics, command, commit and machine in `results.json` beside its checkpoint. They are collected
into training/experiments/results.json, which keeps what it knows of runs whose checkpoints are elsewhere, and shown in
README.md and training/README.md. A run that is there is not run again; one that was interrupted goes on.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from hub_cards.markdown import table
from modeling_binder.finetuning.data import write_json, written_whole
from training.experiments.ablations import VARIANTS

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "training" / "recipes"
COLLECTED = ROOT / "training" / "experiments" / "results.json"

# F1 of the paper, with the encoder of the recipe of that name
PAPER = {
    "conll2003": 93.33,
    "ace2004": 89.7,
    "ace2005": 90.0,
    "genia": 80.8,
    "bc5cdr": 91.9,
    "bc5-chem": 95.0,
    "bc5-disease": 88.0,
    "ncbi": 90.9,
    "jnlpba": 80.3,
    "bc2gm": 84.6,
}
LICENSED = {"conll2003", "ace2004", "ace2005"}  # nobody may pass these corpora on
DISTANT = "bc5cdr-distant-minilm"
_KEY = ("recipe", "model", "variant", "changed", "seed")

Run = dict[str, Any]


def record(results: dict[str, Any]) -> Run:
    """What is kept of a run's results.json: origin, and its figures in percent."""
    metrics: dict[str, Any] = results["metrics"]

    def percent(scores: dict[str, Any]) -> dict[str, float]:
        return {name: round(100 * scores[name], 2) for name in ("precision", "recall", "f1")}

    kept = {name: results.get(name) for name in (*_KEY, "command", "commit", "device", "minutes", "epochs")}
    kept["dev_f1"] = round(100 * metrics["dev"]["micro"]["f1"], 2) if "dev" in metrics else None
    kept["test"] = percent(metrics["test"]["micro"])
    kept["test_types"] = {name: percent(scores) for name, scores in metrics["test"]["per_type"].items()}
    if metrics["test"]["nested"]["gold"]:
        kept["test_nested"] = percent(metrics["test"]["nested"])
    if "held out" in metrics:
        kept["held_out"] = percent(metrics["held out"]["micro"])
        kept["held_out_types"] = {name: percent(scores) for name, scores in metrics["held out"]["per_type"].items()}
    return kept


def collect(folder: Path, known: Iterable[Run] = ()) -> list[Run]:
    """The runs of a folder of checkpoints, and those known before, in a fixed order.

    A results.json that does not tell where it comes from, or has no test set, is left out.
    """
    runs = {tuple(run[name] for name in _KEY): run for run in known}
    for path in sorted(folder.rglob("results.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        if (results.get("recipe") or results.get("variant")) and "test" in results.get("metrics", {}):
            run = record(results)
            runs[tuple(run[name] for name in _KEY)] = run
    return [runs[key] for key in sorted(runs, key=lambda key: [str(part) for part in key])]


def mean(runs: Sequence[Run], *path: str) -> str:
    """Mean of a figure over seeds, with its standard deviation where there are several; "" where there is none."""
    values: list[float] = []
    for run in runs:
        value: Any = run
        for name in path:
            value = (value or {}).get(name)
        if value is not None:
            values.append(value)
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def recipe_of(name: str) -> dict[str, Any]:
    """A recipe's settings."""
    settings: dict[str, Any] = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    return settings


def _groups(runs: Iterable[Run]) -> dict[tuple[Any, ...], list[Run]]:
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[tuple(run[name] for name in _KEY[:-1])].append(run)
    return groups


def benchmarks_table(runs: Iterable[Run]) -> str:
    """The ten benchmarks: ours, the token classifier's and the paper's."""
    groups = _groups(runs)
    rows = []
    for name, paper in PAPER.items():
        settings, original = recipe_of(f"{name}-minilm"), recipe_of(name)
        ours = groups.get((f"{name}-minilm", "binder", "", ""), [])
        tokens = groups.get((f"{name}-minilm", "token classifier", "", ""), [])
        minutes = [run["minutes"] for run in ours if run["minutes"] is not None]
        cells = [mean(ours, "test", figure) for figure in ("precision", "recall", "f1")]
        if not ours:
            cells[2] = "licensed, not at hand" if name in LICENSED else "not run yet"
        rows.append(
            [
                settings["dataset_name"],
                *cells,
                mean(ours, "test_nested", "f1"),
                mean(tokens, "test", "f1"),
                len(ours) or "",
                round(statistics.mean(minutes)) if minutes else "",
                f"{paper} ({original['encoder'].split('/')[-1]})",
            ]
        )
    header = ["corpus", "P", "R", "F1", "nested F1", "token classifier F1", "seeds", "minutes", "paper's F1 (encoder)"]
    return table(header, rows)


def ablations_table(runs: Iterable[Run]) -> str:
    """One part changed at a time, a column of test F1 a corpus."""
    groups = {key: found for key, found in _groups(runs).items() if key[1] == "ablation"}
    columns = sorted({(key[0], key[3]) for key in groups})
    rows = []
    for variant in VARIANTS:
        found = [groups.get((recipe, "ablation", variant, changed), []) for recipe, changed in columns]
        if any(found):
            rows.append(
                [variant, *(cell for each in found for cell in (mean(each, "dev_f1"), mean(each, "test", "f1")))]
            )
    header = ["", *(f"{recipe_of(recipe)['dataset_name']} ({changed}), {split}" for recipe, changed in columns
                    for split in ("dev", "test"))]  # fmt: skip
    return table(header, rows, numbers=len(header) - 1) if rows else "Not run yet."


def distant_table(runs: Iterable[Run]) -> str:
    """BC5CDR without an annotator: the dictionary, and the models trained on its labels."""
    rows = []
    for (recipe, model, variant, changed), found in _groups(runs).items():
        if model == "dictionary":
            rows.append([f"the dictionary itself, {variant}", *_ratios(found, "test")])
        elif recipe == DISTANT:
            rows.append([f"{model} trained on its labels{changed and f', {changed}'}", *_ratios(found, "test")])
    return table(["", "P", "R", "F1"], rows, numbers=3) if rows else "Not run yet."


def new_types_table(runs: Iterable[Run]) -> str:
    """Types that training never saw, asked for by description."""
    rows = []
    for (recipe, model, variant, changed), found in _groups(runs).items():
        if model == "held-out types":
            corpus = recipe_of(recipe)["dataset_name"]
            setting = ", ".join(filter(None, [variant, changed]))
            rows.append([corpus, setting, "all trained types", *_ratios(found, "test")])
            rows += [
                [corpus, setting, name, *_ratios(found, "held_out_types", name)] for name in found[0]["held_out_types"]
            ]
            rows.append([corpus, setting, "all held-out types", *_ratios(found, "held_out")])
    return table(["corpus", "trained", "asked for", "P", "R", "F1"], rows, numbers=3) if rows else "Not run yet."


def _ratios(runs: Sequence[Run], *path: str) -> list[str]:
    return [mean(runs, *path, figure) for figure in ("precision", "recall", "f1")]


def write_between(path: Path, name: str, content: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->` in a file.

    Raises:
        ValueError: the file has no such marks.
    """
    text = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{path} has no lines {begin} and {end} for the table to stand between: put them back.")
    head, rest = text.split(begin)
    tail = rest.split(end)[1]
    with written_whole(path) as file:
        file.write(f"{head}{begin}\n{content}\n{end}{tail}")


def run_missing(recipes: Sequence[str], seeds: Sequence[int] | None, token_classifier: bool, folder: Path) -> None:
    """Train what `folder` has no result of, one after the other, each in a process of its own.

    Raises:
        ValueError: there is no such recipe.
        RuntimeError: a run failed; those before it are kept.
    """
    modules = [("training.finetune", "")]
    if token_classifier:
        modules.append(("training.experiments.token_classifier", "-tokens"))
    for name in recipes:
        if not (RECIPES / f"{name}.yaml").is_file():
            raise ValueError(
                f"there is no recipe {name!r}; there are {', '.join(p.stem for p in RECIPES.glob('*.yaml'))}."
            )
    for name in recipes:
        for seed in seeds or [recipe_of(name)["seed"]]:
            for module, suffix in modules:
                output = folder / f"{name}{suffix}-{seed}"
                if (output / "results.json").is_file():
                    continue
                command = [sys.executable, "-m", module, f"training/recipes/{name}.yaml", "--seed", str(seed)]
                print(f"\n=== {name}{suffix}, seed {seed} ===", flush=True)
                # The result keeps the command: in a clone it names no folder of this machine.
                shown = output.relative_to(ROOT) if output.is_relative_to(ROOT) else output
                if subprocess.run([*command, "--output_dir", str(shown)], cwd=ROOT, check=False).returncode:
                    raise RuntimeError(f"{name}{suffix}, seed {seed}, failed; give the same command again to go on.")


def main(argv: list[str] | None = None) -> list[Run]:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipes", nargs="*", help="names of recipes to run first (such as ncbi-minilm); without: none")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: the recipe's own")
    parser.add_argument("--token-classifier", action="store_true", help="run the token classifier as well")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints", help="default: checkpoints")
    parser.add_argument("--json", type=Path, default=COLLECTED, help="default: training/experiments/results.json")
    parser.add_argument("--no-tables", action="store_true", help="write the JSON file alone")
    arguments = parser.parse_args(argv)
    try:
        run_missing(arguments.recipes, arguments.seeds, arguments.token_classifier, arguments.checkpoints.resolve())
        known = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.exists() else []
        runs = collect(arguments.checkpoints, known)
        write_json(arguments.json, runs)
        if not arguments.no_tables:
            write_between(ROOT / "README.md", "results", benchmarks_table(runs))
            write_between(ROOT / "training" / "README.md", "ablations", ablations_table(runs))
            write_between(ROOT / "training" / "README.md", "distant", distant_table(runs))
            write_between(ROOT / "training" / "README.md", "new types", new_types_table(runs))
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    for key, found in _groups(runs).items():
        print(f"{' | '.join(filter(None, key)):70} P {mean(found, 'test', 'precision'):14} R "
              f"{mean(found, 'test', 'recall'):14} F1 {mean(found, 'test', 'f1')}")  # fmt: skip
    return runs


if __name__ == "__main__":
    main()
