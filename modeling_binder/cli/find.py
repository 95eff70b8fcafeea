"""Find entities in texts: in a text given as argument, in files, or in stdin (-).

  binder-ner find --model user/name "The IL-2 gene is expressed in T cells."
  binder-ner find --model user/name --type drug --type "dose: an amount of a drug" notes.txt
  binder-ner find --model user/name --types types.json --text-column abstract papers.csv > found.jsonl
  binder-ner find --model user/name papers.jsonl --format brat --output to_correct/
  zcat papers.txt.gz | binder-ner find --model user/name --input-format lines - | head

On a terminal, the command draws the entities. In a pipe, it writes JSON Lines: one object with "id", "text" and
"entities" per text. Files may be compressed with gzip. A text file is one text of any length; with
`--input-format lines`, each line is a text.
"""

import argparse
import logging
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, tee
from pathlib import Path
from typing import Any

from ..finetuning.data import Document
from ..finetuning.files import check_not_input, suffix_of
from ..finetuning.offsets import with_distinct_ids
from . import CommandError
from .options import add_loading_arguments, add_type_arguments, call_options, load_pipeline
from .results import OUTPUT_FORMATS, Result, choose_format, write_results
from .sources import INPUT_FORMATS, Columns, count_documents, find_sources, read_sources

logger = logging.getLogger(__name__)

PROGRESS_DELAY = 2  # seconds before a progress bar appears


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("inputs", metavar="TEXT|FILE|-", nargs="*", help="a text, files, or - for stdin (the default)")
    parser.add_argument("--model", required=True, help="folder, or id on the Hub")
    add_type_arguments(parser.add_argument_group("entities"))
    reading = parser.add_argument_group("input")
    reading.add_argument(
        "--input-format",
        metavar="FORMAT",
        choices=INPUT_FORMATS,
        help=f"{', '.join(INPUT_FORMATS)} (default: by the suffix of the file; text for stdin)",
    )
    reading.add_argument("--text-column", metavar="NAME", default="text", help="column of the texts (default: text)")
    reading.add_argument("--id-column", metavar="NAME", help="column of the ids (default: id, if there is one)")
    writing = parser.add_argument_group("output")
    writing.add_argument(
        "--format",
        metavar="FORMAT",
        choices=OUTPUT_FORMATS,
        help=f"{', '.join(OUTPUT_FORMATS)} (default: drawing on a terminal, otherwise jsonl)",
    )
    writing.add_argument("--output", "-o", metavar="PATH", type=Path, help="file, or folder for brat (default: stdout)")
    add_loading_arguments(parser.add_argument_group("model"))


def run(arguments: argparse.Namespace) -> int:
    """Find entities and write them.

    Raises:
        CommandError: the output format needs --output, the model has no entity types, or the memory is full.
        DataError: an input is malformed.
        ValueError: the model cannot be loaded, or an argument is out of range.
    """
    from tqdm import tqdm

    format = choose_format(arguments.format, arguments.output)
    options = call_options(arguments)
    sources = find_sources(arguments.inputs or ["-"], arguments.input_format)
    columns = Columns(arguments.text_column, arguments.id_column)
    if arguments.output is not None:
        inputs = [Path(source.name) for source in sources if source.format is not None and not source.is_stdin]
        if format == "brat":  # it replaces the files of a folder
            inputs += [path.parent for path in inputs if suffix_of(path) in (".ann", ".txt")]
        check_not_input(arguments.output, [*inputs, *([arguments.types] if arguments.types else [])])
    # Read the first text before the model, so that an error in the text is raised without waiting for the model.
    documents = _with_first_read(read_sources(sources, columns))
    total = None
    if progress := sys.stderr.isatty() and not (format == "drawing" and sys.stdout.isatty()):
        total = count_documents(sources, columns)
    pipeline = load_pipeline(arguments)
    labels = list(options.get("entity_types") or pipeline.model.config.type_descriptions)
    if not labels:
        raise CommandError(f"{arguments.model} has no entity types: pass some with --type or --types.")
    stream = _find(pipeline, documents, options)
    results = tqdm(stream, total=total, unit=" texts", delay=PROGRESS_DELAY, disable=not progress)
    write_results(results, format, arguments.output, labels)
    return 0


def _with_first_read(documents: Iterator[Document]) -> Iterator[Document]:
    first = list(next(zip(documents), ()))
    return chain(first, documents)


def _with_distinct_ids(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield the documents with distinct ids. Log a warning for the first id that changes."""
    warned = False
    given, distinct = tee(documents)
    for before, document in zip(given, with_distinct_ids(distinct), strict=True):
        if document.id != before.id and not warned:
            logger.warning(
                "several texts have the id %r; in the output, the second of them has the id %r.", before.id, document.id
            )
            warned = True
        yield document


def _find(pipeline: Any, documents: Iterable[Document], options: dict[str, Any]) -> Iterator[Result]:
    """Yield each document and its entities, in order.

    Raises:
        CommandError: the memory of the device is full.
    """
    import torch

    waiting: deque[Document] = deque()  # documents whose texts were passed to the pipeline, without entities yet

    def texts() -> Iterator[str]:
        for document in _with_distinct_ids(documents):
            waiting.append(document)
            yield document.text

    stream = pipeline(texts(), **options)
    try:
        for entities in stream:
            yield waiting.popleft(), entities
    except torch.cuda.OutOfMemoryError as error:
        raise CommandError(f"{pipeline.device} has too little memory: choose a smaller --batch-size.") from error
