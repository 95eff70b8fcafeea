"""Convert the original files of a corpus to train.jsonl, dev.jsonl, test.jsonl and types.json.

    python -m training.corpora ncbi downloads/NCBI corpora/ncbi
    python -m training.corpora brat my_annotations corpora/mine
    python -m training.corpora hub user/dataset corpora/dataset --config en --split train=train_en

NAME is a benchmark of the paper, or an annotation format. If a benchmark is distributed in several formats, the format
of the files is detected. A report counts documents and mentions. For a benchmark, it also compares the number of
mentions with the number in the literature.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modeling_binder.finetuning import DataError, write_jsonl
from modeling_binder.finetuning.counts import aligned_table, count_documents
from modeling_binder.finetuning.entity_types import EntityType, as_mapping, parse_entity_types, read_entity_types
from modeling_binder.finetuning.files import write_json
from modeling_binder.finetuning.formats import FORMATS, read_splits
from modeling_binder.finetuning.formats.folders import Splits
from modeling_binder.finetuning.offsets import distinct_ids
from modeling_binder.finetuning.splits import SPLIT_NAMES
from training.arguments import recipe_types
from training.corpora.benchmarks import BENCHMARKS, Options, read_benchmark

NAMES = (*BENCHMARKS, *FORMATS, "iob", "hub")


def report(splits: Splits, expected: Mapping[str, Mapping[str, int]] | None = None) -> dict[str, Any]:
    """Count documents and mentions of each split, and list the differences from the expected numbers of mentions.

    Args:
        splits: the documents of each split.
        expected: split -> type -> number of mentions. The type "" means all types together.
    """
    counts = {split: count_documents(documents) for split, documents in splits.items()}
    differences = [
        f"{split}{f', {label}' if label else ''}: {found:,} mentions, expected {wanted:,}"
        for split, types in (expected or {}).items()
        for label, wanted in types.items()
        if (found := sum(n for name, n in counts[split]["mentions"].items() if label in ("", name))) != wanted
    ]
    return {"splits": counts, "expected": expected or None, "differences": differences}


def table(counts: Mapping[str, Any]) -> str:
    """Return the counts as a table for the terminal."""
    labels = sorted({label for split in counts.values() for label in split["mentions"]})
    rows = [["", *counts], ["documents", *(f"{split['documents']:,}" for split in counts.values())]]
    rows.append(["mentions", *(f"{sum(split['mentions'].values()):,}" for split in counts.values())])
    rows += [[f"  {name}", *(f"{split['mentions'].get(name, 0):,}" for split in counts.values())] for name in labels]
    rows.append(["nested mentions", *(f"{split['nested']:,}" for split in counts.values())])
    return aligned_table(rows)


def convert(
    name: str,
    source: str | Path,
    output: Path,
    types: Mapping[str, Any] | None = None,
    options: Options | None = None,
    splits: Mapping[str, Sequence[str]] | None = None,
    allow_no_mentions: bool = False,
    **reader_options: Any,
) -> dict[str, Any]:
    """Read a corpus, and write it as JSONL with its types and a report.

    The files of an earlier conversion in the same folder are replaced. If the earlier conversion has an additional
    split, the file of this split is removed.

    Args:
        name: the name of a benchmark or of a format, or "hub" for a dataset on the Hub.
        source: folder or file. For "hub", the id of the dataset.
        output: output folder. It never contains incomplete files.
        types: name -> description, or another mapping that `parse_entity_types` accepts. By default, the types of a
            benchmark come from its recipe. For other corpora, the default types are the labels in the files, and the
            description of a type is its name.
        options: options that only some benchmarks have.
        splits: split -> names of its files, folders or dataset splits (see `read_splits`).
        allow_no_mentions: whether to write a corpus that has no mentions, instead of raising an error.
        reader_options: options of the reader of the format, for example `text_field`.

    Raises:
        DataError: a file is missing or malformed, or `load_corpus` could not read the result. Nothing was written.
    """
    expected: Mapping[str, Mapping[str, int]] | None = None
    if name in BENCHMARKS:
        form, documents = read_benchmark(name, source, options or Options())
        expected, types, described = form.mentions, types or recipe_types(name), form.name
        documents = {split: distinct_ids(items) for split, items in documents.items()}
    else:
        documents, described = read_splits(source, name, splits, **reader_options), name
    checked = _checked(source, documents, types, allow_no_mentions)
    _check_output(Path(source), output, documents)
    for split, items in documents.items():
        write_jsonl(output / f"{split}.jsonl", items)
    write_json(output / "types.json", as_mapping(checked))
    facts = {"corpus": name, "form": described, **report(documents, expected)}
    write_json(output / "report.json", facts)
    for split in set(SPLIT_NAMES) - set(documents):  # remove files of an earlier conversion
        (output / f"{split}.jsonl").unlink(missing_ok=True)
    return facts


def _checked(
    source: str | Path, splits: Splits, types: Mapping[str, Any] | None, allow_no_mentions: bool
) -> list[EntityType]:
    """Return the types. Check that `load_corpus` will be able to read the splits and the types."""
    empty = [split for split, documents in splits.items() if not documents]
    if empty:
        raise DataError(
            f"{source}: the split {empty[0]} has no documents; convert the corpus without this split, for example by "
            "passing only the other splits with --split."
        )
    found = {mention.label for documents in splits.values() for doc in documents for mention in doc.entities}
    if not found and not allow_no_mentions:
        count = sum(map(len, splits.values()))
        raise DataError(
            f"{source}: no mention was found in {count:,} documents. Check that they are annotated, and that NAME is "
            "their format. To write a corpus without mentions, pass --allow-no-mentions."
        )
    if types is None:
        types = {label: label for label in sorted(found)}
    if not types:
        raise DataError(f"{source}: there is no entity type; pass a file with the types as --types.")
    if unknown := sorted(found - set(types)):
        raise DataError(
            f"{source}: these types have no description: {', '.join(unknown)}. Pass a file with all types as --types."
        )
    return parse_entity_types(types, f"{source}: types")


def _check_output(source: Path, output: Path, splits: Splits) -> None:
    """Raise DataError if the output would replace files of the source."""
    folder = source if source.is_dir() else source.parent
    written = [output / f"{split}.jsonl" for split in SPLIT_NAMES if (output / f"{split}.jsonl").exists()]
    if source.exists() and written and output.resolve() == folder.resolve():
        raise DataError(
            f"{output}: this is the folder of the source, and its {written[0].name} would be replaced; pass another "
            "output folder."
        )


def _split_argument(value: str) -> tuple[str, list[str]]:
    split, _, names = value.partition("=")
    if split not in SPLIT_NAMES or not names:
        raise argparse.ArgumentTypeError(
            f"expected train=NAME[,NAME], dev=NAME[,NAME] or test=NAME[,NAME], got {value!r}"
        )
    return split, names.split(",")


def _column_argument(value: str) -> Any:
    """Parse "3" or "3,4" as column numbers, counted from 1. Any other value is the name of a column of a dataset."""
    numbers = value.split(",")
    if all(number.isdecimal() for number in numbers):
        return int(value) if len(numbers) == 1 else [int(number) for number in numbers]
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.corpora",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(NAMES)}")
    parser.add_argument("source", metavar="SOURCE", help="folder (or file) of the original files, or id of a dataset")
    parser.add_argument("output", metavar="OUT_DIR", type=Path, help="folder for the JSONL files")
    parser.add_argument(
        "--types",
        type=Path,
        help="JSON file that maps names of types to descriptions; default for a benchmark: the types of its recipe",
    )
    parser.add_argument(
        "--split",
        metavar="train=NAME",
        type=_split_argument,
        action="append",
        default=[],
        help="file, folder or dataset split to use as train, dev or test; separate several names by commas; pass "
        "this option once for each split",
    )
    parser.add_argument("--allow-no-mentions", action="store_true", help="also write a corpus that has no mentions")
    parser.add_argument(
        "--context", choices=["sentence", "document"], help="conll, iob, conll2003: the unit that becomes a document"
    )
    parser.add_argument(
        "--span", choices=["extent", "head"], default="extent", help="ACE: use the full extent or the head of mentions"
    )
    parser.add_argument("--splits", type=Path, help="ACE: folder with train.txt, dev.txt, test.txt, one id per line")
    parser.add_argument("--label", help="conll, iob: the entity type of the tags B and I without a type")
    parser.add_argument(
        "--token-column",
        type=_column_argument,
        help="conll, iob: number of the column of the tokens, counted from 1; hub: name of this column",
    )
    parser.add_argument(
        "--tag-column",
        type=_column_argument,
        help="conll, iob: number of the column of the tags, counted from 1, or several numbers separated by commas; "
        "hub: name of this column",
    )
    parser.add_argument("--text-field", help="Label Studio and doccano: the field with the text")
    parser.add_argument(
        "--graphemes",
        action="store_true",
        default=None,
        help='doccano: the project has the setting "Count grapheme clusters as one character"',
    )
    parser.add_argument("--config", help="hub: the configuration, if the dataset has several configurations")
    parser.add_argument("--layer", help="WebAnno TSV: the layer with the mentions")
    parser.add_argument("--feature", help="WebAnno TSV: the feature with the types")
    parser.add_argument(
        "--spans", dest="groups", type=lambda value: value.split(","), help="DocBin: the groups of spans to read"
    )
    return parser


_READER_OPTIONS = (
    *("label", "token_column", "tag_column", "text_field", "graphemes", "config", "layer", "feature", "groups"),
)


def main(argv: list[str] | None = None) -> None:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.name not in NAMES:
        parser.error(f"unknown corpus or format {arguments.name!r}; the known ones are {', '.join(NAMES)}.")
    given = {name: getattr(arguments, name) for name in _READER_OPTIONS if getattr(arguments, name) is not None}
    splits: dict[str, list[str]] = {}
    for split, names in arguments.split:
        splits.setdefault(split, []).extend(names)
    if arguments.name in BENCHMARKS and (given or splits):
        parser.error(f"the benchmark {arguments.name} does not accept these options: {', '.join(given) or 'split'}.")
    if arguments.name not in BENCHMARKS and arguments.context:
        given["context"] = arguments.context
    options = Options(arguments.context or "sentence", arguments.span, arguments.splits)
    try:
        types = as_mapping(read_entity_types(arguments.types)) if arguments.types else None
        facts = convert(
            arguments.name,
            arguments.source,
            arguments.output,
            types,
            options,
            splits or None,
            arguments.allow_no_mentions,
            **given,
        )
    except (DataError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(f"{facts['corpus']} ({facts['form']})\n{table(facts['splits'])}")
    if facts["differences"]:
        print("The numbers of mentions differ from those in the literature:", *facts["differences"], sep="\n  ")
    elif facts["expected"]:
        print("The numbers of mentions agree with those in the literature.")
    print(f"Written to {arguments.output}.")


if __name__ == "__main__":
    main()
