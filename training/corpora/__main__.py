"""From the original files of a corpus to train.jsonl, dev.jsonl, test.jsonl and types.json.

    python -m training.corpora ncbi downloads/NCBI corpora/ncbi
    python -m training.corpora brat my_annotations corpora/mine

NAME is one of the paper's benchmarks, whose form is recognised from the files, or a format that people bring. A report
says what was found; of a benchmark, also whether it is what the literature counts.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modeling_binder.finetuning import DataError, write_jsonl
from modeling_binder.finetuning.counts import aligned_table, count_documents
from modeling_binder.finetuning.data import read_types, write_json
from training.arguments import recipe_types
from training.corpora.benchmarks import BENCHMARKS, Options, Splits, read_benchmark
from training.corpora.formats import FORMATS, read_format


def report(splits: Splits, expected: Mapping[str, Mapping[str, int]] | None = None) -> dict[str, Any]:
    """Counts of each split, and where they differ from the expected ones (type "" stands for all types together)."""
    counts = {split: count_documents(documents) for split, documents in splits.items()}
    differences = [
        f"{split}{f', {label}' if label else ''}: {found:,} mentions, not {wanted:,}"
        for split, types in (expected or {}).items()
        for label, wanted in types.items()
        if (found := sum(n for name, n in counts[split]["mentions"].items() if label in ("", name))) != wanted
    ]
    return {"splits": counts, "expected": expected or None, "differences": differences}


def table(counts: Mapping[str, Any]) -> str:
    """The counts for the terminal."""
    labels = sorted({label for split in counts.values() for label in split["mentions"]})
    rows = [["", *counts], ["documents", *(f"{split['documents']:,}" for split in counts.values())]]
    rows.append(["mentions", *(f"{sum(split['mentions'].values()):,}" for split in counts.values())])
    rows += [[f"  {name}", *(f"{split['mentions'].get(name, 0):,}" for split in counts.values())] for name in labels]
    rows.append(["nested mentions", *(f"{split['nested']:,}" for split in counts.values())])
    return aligned_table(rows)


def convert(
    name: str, source: Path, output: Path, types: Mapping[str, str] | None = None, options: Options | None = None
) -> dict[str, Any]:
    """Read a corpus and write it as JSONL with its types and a report.

    Args:
        name: of a benchmark or a format.
        source: folder or file; of the format "hub" the id of a dataset.
        output: folder; its files appear whole or not at all.
        types: name -> description; of a benchmark they come with its recipe, otherwise a type is described by its name.
        options: of benchmarks.

    Raises:
        DataError: a file is missing or broken; nothing was written.
    """
    expected: Mapping[str, Mapping[str, int]] | None = None
    if name in BENCHMARKS:
        form, splits = read_benchmark(name, source, options or Options())
        expected, types, described = form.mentions, types or recipe_types(name), form.name
    else:
        splits, described = read_format(name, source), name
    found = {mention.label for documents in splits.values() for doc in documents for mention in doc.entities}
    if types is None:
        types = {label: label for label in sorted(found)}
    if unknown := sorted(found - set(types)):
        raise DataError(f"{source}: no description for {', '.join(unknown)}: name a file with all types by --types.")
    for split, documents in splits.items():
        write_jsonl(output / f"{split}.jsonl", documents)
    write_json(output / "types.json", dict(types))
    facts = {"corpus": name, "form": described, **report(splits, expected)}
    write_json(output / "report.json", facts)
    return facts


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.corpora", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", help=f"{', '.join([*BENCHMARKS, *FORMATS])}")
    parser.add_argument("source", metavar="SOURCE", help="folder (or file) of the original distribution")
    parser.add_argument("output", metavar="OUT_DIR", type=Path, help="folder for the JSONL files")
    parser.add_argument("--types", type=Path, help="JSON file name -> description, instead of the recipe's")
    parser.add_argument(
        "--context", choices=["sentence", "document"], default="sentence", help="CoNLL 2003: what a document is"
    )
    parser.add_argument("--span", choices=["extent", "head"], default="extent", help="ACE: what of a mention")
    parser.add_argument("--splits", type=Path, help="ACE: folder with train.txt, dev.txt, test.txt, an id a line")
    arguments = parser.parse_args(argv)
    if arguments.name not in (*BENCHMARKS, *FORMATS):
        parser.error(f"there is no corpus {arguments.name!r}; known are {', '.join([*BENCHMARKS, *FORMATS])}.")
    options = Options(arguments.context, arguments.span, arguments.splits)
    try:
        types = read_types(arguments.types) if arguments.types else None
        facts = convert(arguments.name, Path(arguments.source), arguments.output, types, options)
    except (DataError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(f"{facts['corpus']} ({facts['form']})\n{table(facts['splits'])}")
    if facts["differences"]:
        print("This is not what the literature counts:", *facts["differences"], sep="\n  ")
    elif facts["expected"]:
        print("The mentions are those that the literature counts.")
    print(f"Written to {arguments.output}.")


if __name__ == "__main__":
    main()
