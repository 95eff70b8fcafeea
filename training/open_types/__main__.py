"""Check a corpus in which each text lists the entity types that it was annotated for. Print its counts.

    python -m training.open_types              # training/open_types
    python -m training.open_types --card       # also write the counts and the review into its README.md
    python -m training.open_types my_corpus

`checks.find_problems` describes the checks. For the review, a person has checked a sample of the lines. Its counts are
in review.json in the folder of the corpus.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hub_cards.markdown import table
from modeling_binder.finetuning import Corpus, DataError, load_corpus
from training.open_types.checks import counts_table, find_problems
from training.pages import write_between

HERE = Path(__file__).resolve().parent


def review_table(folder: Path) -> str:
    """Return the table of a review: a person has checked random lines and counted mentions that should be different.

    The file review.json contains the counts:

    - `lines` and `mentions`: numbers of checked lines and mentions;
    - `lines_changed`: number of lines with a difference;
    - `kinds`: kind of difference -> number of mentions with this difference.
    """
    path = folder / "review.json"
    if not path.exists():
        return "Not reviewed yet."
    review: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    kinds: dict[str, int] = review["kinds"]
    total = sum(kinds.values())
    rows = [[name, number, f"{number / review['mentions']:.1%}"] for name, number in kinds.items()]
    rows.append(["all", total, f"{total / review['mentions']:.1%}"])
    read = f"{review['lines']:,} lines with {review['mentions']:,} mentions"
    text = f"The reviewer read {read}, and would have annotated {review['lines_changed']:,} of these lines differently."
    return f"{text}\n\n{table(['difference', 'mentions', 'share'], rows, numbers=2)}"


def main(argv: list[str] | None = None) -> Corpus:
    parser = argparse.ArgumentParser(
        prog="python -m training.open_types", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=HERE, help="folder of the corpus (default: training/open_types)"
    )
    parser.add_argument(
        "--card", action="store_true", help="also write the counts and the review into the README.md of the corpus"
    )
    arguments = parser.parse_args(argv)
    try:
        corpus = load_corpus(arguments.folder)
        if problems := find_problems(corpus):
            raise DataError.of(problems)
        if arguments.card:
            write_between(arguments.folder / "README.md", "counts", counts_table(corpus))
            write_between(arguments.folder / "README.md", "review", review_table(arguments.folder))
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(counts_table(corpus))
    return corpus


if __name__ == "__main__":
    main()
