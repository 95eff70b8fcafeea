"""Write the tables of docs/redacting.md.

    python -m training.experiments.personal_data demo/model --data open/personal-data \\
        --json training/experiments/personal_data.json
    python -m training.experiments.personal_data_tables

The second command makes the tables from the JSON file of the first command.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub_cards.markdown import table
from training.experiments.personal_data import PRESIDIO
from training.pages import DOCS, write_between

PAGE = DOCS / "redacting.md"
RESULTS = Path(__file__).parent / "personal_data.json"


def overview_table(results: Mapping[str, Any]) -> str:
    """Return the table of all analyzers: leaking texts, recall of mentions, and precision of characters."""
    rows = []
    for row in results["analyzers"]:
        leaking = f"{row['leaking_texts']} ({row['leaking_share']:.1%})"
        shares = [_percent(row[key]) for key in ("recall", "precision")]
        rows.append([row["analyzer"], _threshold(row), leaking, *shares])
    return table(["analyzer", "threshold", "leaking texts", "recall", "precision"], rows, numbers=4)


def types_table(results: Mapping[str, Any]) -> str:
    """Return the table of masked mentions by type: built-in recognizers, and all recognizers at several thresholds."""
    columns = [row for row in results["analyzers"] if row["analyzer"] in (PRESIDIO, "both")]
    header = ["type", "mentions", *(" ".join([row["analyzer"], _threshold(row)]).strip() for row in columns)]
    rows = []
    for label, (_, mentions) in columns[0]["per_type"].items():
        rows.append([label, mentions, *(row["per_type"][label][0] for row in columns)])
    return table(header, rows, numbers=len(header) - 1)


def facts(results: Mapping[str, Any]) -> str:
    """Return a paragraph about limits: texts that are similar to training texts, and mentions that are too wide."""
    model = next(row for row in results["analyzers"] if row["threshold"] is not None)
    return (
        f"The test split has {results['texts']} texts. {results['known_texts']} of them differ from a text of the "
        f"training split only in their mentions. At the threshold {model['threshold']:g}, the model leaves "
        f"{model['visible_mentions']} mentions visible. {model['visible_wide_mentions']} of them have more than "
        f"{results['max_span_width']} tokens, so the model cannot find them."
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _threshold(row: Mapping[str, Any]) -> str:
    return "" if row["threshold"] is None else f"{row['threshold']:g}"


# Marker in the page -> function that makes the text from the results
TABLES = {"leaks": overview_table, "masked-types": types_table, "limits": facts}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.personal_data_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of the first command")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: docs/redacting.md")
    arguments = parser.parse_args(argv)
    try:
        results = json.loads(arguments.results.read_text(encoding="utf-8"))
        for marker, make in TABLES.items():
            write_between(arguments.page, marker, make(results))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
