"""Make the tables of docs/results.md and README.md from the collected results of runs."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hub_cards.markdown import table
from training.arguments import read_recipe
from training.experiments.ablations import VARIANTS

RECIPES = Path(__file__).resolve().parents[1] / "recipes"

# Benchmark -> F1 in the paper. The recipe with the name of the benchmark uses the same encoder as the paper.
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
LICENSED = {"conll2003", "ace2004", "ace2005"}  # corpora that require a paid licence; no results
DISTANT = {"bc5cdr-distant-minilm": "binder", "bc5cdr-distant-mpnet": "binder with MPNet"}  # recipe -> model
KEY = ("recipe", "model", "variant", "changed", "seed")  # these fields identify a run
NOT_RUN = "Not run yet."
FIGURES = ("precision", "recall", "f1")

Run = dict[str, Any]


def recipe_of(name: str) -> dict[str, Any]:
    """Return the settings of a recipe."""
    return read_recipe(RECIPES / f"{name}.yaml")


def key_of(run: Run, key: Sequence[str] = KEY) -> tuple[Any, ...]:
    """Return the values of the fields that identify a run."""
    return tuple(run[name] for name in key)


def merged(runs: Iterable[Run], new: Iterable[Run], key: Sequence[str] = KEY) -> list[Run]:
    """Return all runs. A new run replaces the earlier run with the same values of the fields `key`."""
    return list({key_of(run, key): run for run in (*runs, *new)}.values())


def over_seeds(runs: Iterable[Run]) -> dict[tuple[Any, ...], list[Run]]:
    """Group runs that differ only in their seed. The key of a group is (recipe, model, variant, changed)."""
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[tuple(run[name] for name in KEY[:-1])].append(run)
    return groups


def mean(runs: Sequence[Run], *path: str) -> str:
    """Return the mean of a figure over seeds. If several runs have the figure, add the standard deviation.

    If no run has the figure, the result is "".

    Args:
        runs: runs that differ only in the seed.
        path: keys of the nested dictionaries that contain the figure, for example "test", "f1".
    """
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


def lead(comparison: Mapping[str, Any]) -> str:
    """Return the difference of two F1 scores in percent, with its interval (see `BootstrapResult`)."""
    difference, low, high = (f"{100 * comparison[name]:+.2f}" for name in ("difference", "low", "high"))
    return f"{difference} ({low} to {high})"


def _means(runs: Sequence[Run], *path: str) -> list[str]:
    return [mean(runs, *path, figure) for figure in FIGURES]


def _benchmark_runs(runs: Iterable[Run], name: str, encoder: str = "minilm") -> tuple[list[Run], list[Run]]:
    """Return the runs of BINDER and of the token classifier on a benchmark with the unchanged recipe of an encoder."""
    groups = over_seeds(runs)
    models = ("binder", "token classifier")
    ours, tokens = (groups.get((f"{name}-{encoder}", model, "", ""), []) for model in models)
    return ours, tokens


def overview_table(runs: Sequence[Run]) -> str:
    """Return the table of README.md: F1 on all benchmarks with results."""
    rows = []
    for name, paper in PAPER.items():
        ours, tokens = _benchmark_runs(runs, name)
        base_size, _ = _benchmark_runs(runs, name, "mpnet")
        if ours:
            figures = [mean(found, "test", "f1") for found in (ours, tokens, base_size)]
            rows.append([recipe_of(f"{name}-minilm")["dataset_name"], *figures, f"{paper:.1f}"])
    return table(["corpus", "F1", "token classifier", "F1 with MPNet", "paper"], rows, numbers=4) if rows else NOT_RUN


def benchmarks_table(runs: Sequence[Run]) -> str:
    """Return the table of the ten benchmarks: BINDER, the token classifier and the figures of the paper."""
    rows = []
    for name, paper in PAPER.items():
        ours, tokens = _benchmark_runs(runs, name)
        base_size, _ = _benchmark_runs(runs, name, "mpnet")
        minutes = [run["minutes"] for run in ours if run["minutes"] is not None]
        cells = _means(ours, "test")
        if not ours:
            cells[2] = "corpus not available" if name in LICENSED else "not run yet"
        rows.append(
            [
                recipe_of(f"{name}-minilm")["dataset_name"],
                *cells,
                mean(ours, "test_nested", "f1"),
                mean(tokens, "test", "f1"),
                "; ".join(lead(run["lead"]) for run in tokens if run.get("lead")),
                len(ours) or "",
                round(statistics.mean(minutes)) if minutes else "",
                mean(base_size, "test", "f1"),
                f"{paper} ({recipe_of(name)['encoder'].split('/')[-1]})",
            ]
        )
    header = ["corpus", "P", "R", "F1", "nested F1", "token classifier F1", "lead (95% interval)", "seeds", "minutes",
              "F1 with MPNet", "paper's F1 (encoder)"]  # fmt: skip
    return table(header, rows)


def ablations_table(runs: Iterable[Run]) -> str:
    """Return the table of the ablations. A row has the F1 of a variant on dev and test for each recipe."""
    groups = {key: found for key, found in over_seeds(runs).items() if key[1] == "ablation"}
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
    return table(header, rows, numbers=len(header) - 1) if rows else NOT_RUN


def settings_table(runs: Iterable[Run]) -> str:
    """Return the table of recipes that were also run with other settings, with F1 on dev and test."""
    groups = {key: found for key, found in over_seeds(runs).items() if key[1] == "binder" and key[0] not in DISTANT}
    compared = {recipe for recipe, _, _, changed in groups if changed}
    rows = [
        [
            recipe_of(recipe)["dataset_name"],
            changed or "as in the recipe",
            len(found),
            mean(found, "dev_f1"),
            mean(found, "test", "f1"),
        ]
        for (recipe, _, _, changed), found in sorted(groups.items())
        if recipe in compared
    ]
    return table(["corpus", "settings", "seeds", "dev F1", "test F1"], rows, numbers=3) if rows else NOT_RUN


def distant_table(runs: Iterable[Run]) -> str:
    """Return the table of distant supervision on BC5CDR: the dictionary alone, and models trained on its labels."""
    rows = []
    for (recipe, model, variant, changed), found in over_seeds(runs).items():
        if model == "dictionary":
            rows.append([f"dictionary alone, {variant}", *_means(found, "test")])
        elif recipe in DISTANT and model == "binder":
            rows.append(
                [f"{DISTANT[recipe]} trained on its labels{changed and f', {changed}'}", *_means(found, "test")]
            )
    return table(["", "P", "R", "F1"], rows, numbers=3) if rows else NOT_RUN


def new_types_table(runs: Iterable[Run]) -> str:
    """Return the table of types that the model was not trained on. They are passed by description."""
    rows = []
    for (recipe, model, variant, changed), found in over_seeds(runs).items():
        if model == "held-out types":
            corpus = recipe_of(recipe)["dataset_name"]
            training = ", ".join(filter(None, [variant, changed]))
            rows.append([corpus, training, "all trained types", *_means(found, "test")])
            rows += [
                [corpus, training, name, *_means(found, "held_out_types", name)] for name in found[0]["held_out_types"]
            ]
            rows.append([corpus, training, "all held-out types", *_means(found, "held_out")])
    return table(["corpus", "trained", "tested on", "P", "R", "F1"], rows, numbers=3) if rows else NOT_RUN
