"""Write the tables of docs/how-to-ask-for-a-type.md.

    python -m training.experiments.zero_shot demo/model CORPUS... --json training/experiments/zero_shot.json
    python -m training.experiments.zero_shot demo/model CORPUS... --json training/experiments/zero_shot_others.json
    python -m training.experiments.zero_shot demo/model training/open_types \\
        --json training/experiments/open_types_test.json
    python -m training.experiments.few_shot demo/model CORPUS... --json training/experiments/few_shot.json
    python -m training.experiments.breadth CHECKPOINT CORPUS... --json training/experiments/breadth.json ...
    python -m training.experiments.open_types_tables

The last command makes the tables from the JSON files of the other commands. If a file is missing, the page
contains the sentence "Not run yet." instead of its table.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from hub_cards.markdown import table
from training.experiments.few_shot_summary import CHECKPOINT, ENCODER, percent
from training.experiments.tables import NOT_RUN
from training.experiments.zero_shot import figures
from training.pages import DOCS, write_between

PAGE = DOCS / "how-to-ask-for-a-type.md"
HERE = Path(__file__).parent
# Key in the results -> text in the first column of the table
WORDINGS = {
    **{name: name for name in ("name", "description", "name and description")},
    "all wordings": "mean over all wordings",
    "spread over wordings": "spread over wordings",
}


def model_name(source: str) -> str:
    """Return the name of a checkpoint for the page: the last part of an absolute path or of `checkpoints/NAME`."""
    path = Path(source)
    return path.name if path.is_absolute() or path.parts[0] == "checkpoints" else source


def zero_shot_table(results: Mapping[str, Any]) -> str:
    """Return the zero-shot table: for each corpus, F1 with types by name and by description, and false mentions."""
    models: dict[str, Any] = results["models"]
    first = next(iter(models.values()))["corpora"]
    rows: list[list[Any]] = []
    for corpus, facts in first.items():
        row = [corpus, facts["decoding"], f"{facts['texts']:,}", facts["types"]]
        rows.append([*row, *(cell for model in models.values() for cell in _zero_shot_cells(model, corpus))])
    means = [model["summary"]["fitting"] for model in models.values()]
    if len(first) > 1:
        rows.append(["mean", "", "", "", *(cell for summary in means for cell in _cells(summary))])
    columns = ("by name", "by description", "false mentions")
    prefixes = [f"{model_name(name)}, " for name in models] if len(models) > 1 else [""]
    named = [f"{prefix}{column}" for prefix in prefixes for column in columns]
    header = ["corpus", "decoding", "texts", "types", *named]
    return table(header, rows, numbers=len(header) - 2)


def _zero_shot_cells(model: Mapping[str, Any], corpus: str) -> list[str]:
    return _cells(figures(model["corpora"][corpus]))


def _cells(found: Mapping[str, float]) -> list[str]:
    return [f"{100 * found['name']:.1f}", f"{100 * found['description']:.1f}", f"{found['false mentions']:,.0f}"]


def wording_table(results: Mapping[str, Any]) -> str:
    """Return the table of wordings: the mean F1 over the corpora for each wording, and the spread over wordings."""
    models: dict[str, Any] = results["models"]
    summaries = [model["summary"]["fitting"] for model in models.values()]
    rows = [[text, *(f"{100 * summary[key]:.1f}" for summary in summaries)] for key, text in WORDINGS.items()]
    return table(["types given by", *map(model_name, models)], rows, numbers=len(models))


def few_shot_table(results: Mapping[str, Any]) -> str:
    """Return the table of few-shot results: F1 on the test set by number of texts.

    One column is for the model that starts from the bare encoder. The other columns are for the fine-tuned checkpoint:
    one column for each share of replayed texts.
    """
    shares = _shares(results)
    header = ["corpus", "texts", "from the encoder", *(_replay("from the checkpoint", share) for share in shares)]
    return _by_size(results, header, [(ENCODER, 0.0), *((CHECKPOINT, share) for share in shares)], "f1")


def forgetting_table(results: Mapping[str, Any]) -> str:
    """Return the table of forgetting: F1 of the fine-tuned checkpoint on the corpus `--keep`, see `few_shot`."""
    shares = _shares(results)
    header = ["fine-tuned on", "texts", *(_replay("F1 of other types", share) for share in shares)]
    return _by_size(results, header, [(CHECKPOINT, share) for share in shares], "kept_f1")


def _shares(results: Mapping[str, Any]) -> list[float]:
    return sorted({row["replay"] for row in results["summary"]})


def _replay(text: str, share: float) -> str:
    return f"{text}, replay {share:g}" if share else text


def _by_size(results: Mapping[str, Any], header: list[str], columns: Sequence[tuple[str, float]], key: str) -> str:
    found = {(row["corpus"], row["size"], row["start"], row["replay"]): row for row in results["summary"]}
    rows: list[list[Any]] = []
    for corpus, size in dict.fromkeys((row["corpus"], row["size"]) for row in results["summary"]):
        cells = [found.get((corpus, size, start, share)) for start, share in columns]
        rows.append([corpus, f"{size:,}", *("" if cell is None else percent(cell, key) for cell in cells)])
    return table(header, rows, numbers=len(header) - 1)


def breadth_table(results: Mapping[str, Any]) -> str:
    """Return the table of the breadth network: F1 in flat decoding by margin, and how well it orders pairs of types."""
    rows = []
    for margin, found in results["f1_by_margin"].items():
        name = "no network" if margin == "inf" else f"{float(margin):g}"
        chosen = " (chosen)" if results["margin"] is not None and float(margin) == results["margin"] else ""
        unseen = results["by_margin"][margin]
        decided = f"{unseen['decided']:.0%}" if unseen["decided"] else ""
        right = "" if unseen["right_order"] is None else f"{unseen['right_order']:.1%}"
        scores = (f"{100 * value:.1f}" for value in (*found.values(), mean(found.values())))
        rows.append([name + chosen, decided, right, *scores])
    order = (
        f"There are {results['pairs']:,} pairs of a fine and a broad type, made from {results['types']:,} types. "
        f"{results['test_pairs']:,} of these pairs contain at least one of {results['hidden_types']:,} types that were "
        f"kept out of training. The network puts {results['right_order']:.1%} of these {results['test_pairs']:,} pairs "
        "in the right order."
    )
    corpora = [*(f"F1 {name}" for name in results["texts"]), "mean F1"]
    header = ["breadth_margin", "pairs decided", "right order", *corpora]
    content = f"{order}\n\n{table(header, rows, numbers=len(header) - 1)}"
    if not results.get("f1_by_tolerance"):  # files of earlier versions do not have this key
        return content
    rows = []
    for tolerance, found in results["f1_by_tolerance"].items():
        chosen = " (chosen)" if float(tolerance) == (results["tolerance"] or float("inf")) else ""
        scores = (f"{100 * value:.1f}" for value in (*found.values(), mean(found.values())))
        rows.append([("no limit" if tolerance == "inf" else f"{float(tolerance):g}") + chosen, *scores])
    return f"{content}\n\n{table(['breadth_tolerance', *corpora], rows, numbers=len(corpora))}"


# Marker in the page -> file of results, and the function that makes the table from them
TABLES = {
    "zero-shot": ("zero_shot.json", zero_shot_table),
    "wording": ("zero_shot.json", wording_table),
    "zero-shot-others": ("zero_shot_others.json", zero_shot_table),
    "open-types-test": ("open_types_test.json", zero_shot_table),
    "few-shot": ("few_shot.json", few_shot_table),
    "forgetting": ("few_shot.json", forgetting_table),
    "breadth": ("breadth.json", breadth_table),
}


def write_tables(folder: Path = HERE, page: Path = PAGE) -> None:
    """Write all tables into the page.

    Args:
        folder: folder with the files of results.
        page: page with a pair of markers for each table.

    Raises:
        ValueError: a marker is missing in the page.
    """
    for marker, (name, make) in TABLES.items():
        path = folder / name
        content = make(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else NOT_RUN
        write_between(page, marker, content)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.open_types_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=HERE, help="folder of the JSON files")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: docs/how-to-ask-for-a-type.md")
    arguments = parser.parse_args(argv)
    try:
        write_tables(arguments.results, arguments.page)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
