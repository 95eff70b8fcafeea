"""Read and write files in any format. `FORMATS` lists all formats."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import Document, read_jsonl, write_jsonl
from ..errors import DataError
from ..files import open_bytes, stem_of
from ..offsets import distinct_ids
from .bioc import read_bioc, write_bioc
from .brat import read_brat, write_brat
from .columns import read_iob, write_columns
from .conllu import read_conllu
from .detection import detect_format
from .docbin import read_docbin, write_docbin
from .doccano import read_doccano, write_doccano
from .found import found_documents
from .label_studio import read_label_studio, write_label_studio
from .prodigy import read_prodigy
from .pubmed import read_pubmed
from .pubtator import read_pubtator, write_pubtator
from .records import read_records
from .token_spans import read_token_spans
from .webanno import read_webanno, webanno_reader


@dataclass(frozen=True)
class Format:
    """A file format for annotated texts.

    Args:
        read: function that reads the documents of a file. Its first argument is the path. All other arguments are
            options.
        suffixes: usual suffixes of files in the format.
        write: function that writes documents to a path. None if the package cannot write the format.
        reader: function that returns a function which reads each file of a corpus. Its arguments are the name of the
            corpus, its paths and the options. None if `read` reads each file, independently of the other files.
    """

    read: Callable[..., list[Document]]
    suffixes: tuple[str, ...]
    write: Callable[..., None] | None = None
    reader: Callable[..., Callable[[Path], list[Document]]] | None = None


def _read_jsonl(path: str | Path) -> list[Document]:
    """Read documents from JSONL with one object per line, or from JSON with a list of objects.

    See `Document.from_dict` for the keys of an object.
    """
    with open_bytes(path) as file:
        is_list = file.read(100).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    if not is_list:
        return read_jsonl(path)
    documents: list[Document] = []
    problems: list[str] = []
    for number, (where, data) in enumerate(read_records(path, "'text' and 'entities'"), 1):
        try:
            if "entities" not in data:
                raise DataError.of([f"'entities' is missing (the keys are {', '.join(map(repr, data)):.80})"])
            documents.append(Document.from_dict(data, f"{stem_of(path)}-{number}"))
        except DataError as error:
            problems += [f"{where}: {problem}." for problem in error.problems]
    if problems:
        raise DataError.of(problems)
    return distinct_ids(documents)


def _read_brat(path: str | Path, types: Mapping[str, str] | None = None) -> list[Document]:
    return list(read_brat(path, types).values())


def _write_jsonl(documents: Iterable[Document | Mapping[str, Any]], path: str | Path) -> None:
    write_jsonl(path, (found.document for found in found_documents(documents)))


FORMATS: dict[str, Format] = {
    "jsonl": Format(_read_jsonl, (".jsonl", ".json", ".ndjson"), _write_jsonl),
    "conll": Format(read_iob, (".tsv", ".txt", ".conll", ".iob", ".iob2", ".bio"), write_columns),
    "brat": Format(_read_brat, (".ann",), write_brat),
    "pubtator": Format(read_pubtator, (".txt", ".pubtator"), write_pubtator),
    "label-studio": Format(read_label_studio, (".json",), write_label_studio),
    "doccano": Format(read_doccano, (".jsonl", ".json"), write_doccano),
    "prodigy": Format(read_prodigy, (".jsonl", ".json")),
    "webanno": Format(read_webanno, (".tsv",), reader=webanno_reader),
    "bioc": Format(read_bioc, (".xml", ".json", ".jsonl"), write_bioc),
    "conllu": Format(read_conllu, (".conllu", ".conllup", ".conll")),
    "docbin": Format(read_docbin, (".spacy",), write_docbin),
    "gliner": Format(read_token_spans, (".json", ".jsonl")),
    "pubmed": Format(read_pubmed, (".xml",)),
}
_OTHER_NAMES = {"iob": "conll", "columns": "conll", "bioc-json": "bioc", "bioc-xml": "bioc", "inception": "webanno"}
SUFFIXES = tuple(dict.fromkeys(suffix for format in FORMATS.values() for suffix in format.suffixes))


def format_named(name: str) -> tuple[str, Format]:
    """Return the standard name of a format, and the format. Names such as "label_studio" or "iob" are accepted too.

    Raises:
        DataError: the format is unknown. The message lists the formats.
    """
    key = name.lower().replace("_", "-")
    key = _OTHER_NAMES.get(key, key)
    if key not in FORMATS:
        raise DataError(f"there is no format {name!r}; the formats are {', '.join(FORMATS)}.")
    return key, FORMATS[key]


def check_options(name: str, function: Callable[..., Any], options: Mapping[str, Any], skipped: int = 1) -> None:
    """Check that a reader or a writer has the given options.

    Args:
        name: name of the format.
        function: the reader or the writer.
        options: the options to check.
        skipped: number of leading arguments of `function` that are not options.

    Raises:
        DataError: an option is unknown. The message lists the options.
    """
    known = list(inspect.signature(function).parameters)[skipped:]
    if unknown := [option for option in options if option not in known]:
        listed = ", ".join(known) or "none"
        raise DataError(f"the format {name} has no option {unknown[0]!r}; its options are {listed}.")


def read_documents(path: str | Path, format: str | None = None, **options: Any) -> list[Document]:
    """Read the documents of a file in any of the `FORMATS`.

    Example:
        >>> documents = read_documents("export.json")  # doctest: +SKIP
        >>> documents = read_documents("task.json", "label-studio", text_field="body")  # doctest: +SKIP

    Args:
        path: a file, which may be compressed with gzip. For brat, also a folder or a tar archive.
        format: name of the format. By default, `detect_format` detects it.
        options: options of the reader, for example `text_field` of `read_label_studio`.

    Raises:
        DataError: the file is malformed, its format is unknown, or an option is unknown.
    """
    name, chosen = format_named(format or detect_format(path))
    check_options(name, chosen.read, options)
    return chosen.read(path, **options)


def write_format(
    documents: Iterable[Document | Mapping[str, Any]], path: str | Path, format: str, **options: Any
) -> None:
    """Write documents, or texts with predicted entities, in one of the `FORMATS`.

    Example:
        >>> found = [{"id": "1", "text": text, "entities": ner(text)}]  # doctest: +SKIP
        >>> write_format(found, "tasks.json", "label-studio")  # doctest: +SKIP

    Args:
        documents: documents, or dictionaries with "text" and "entities" (see `found_documents`).
        path: the file to write. For brat, a folder.
        format: "jsonl", "brat", "pubtator", "bioc", "label-studio", "doccano", "conll" or "docbin". Offsets are written
            in the unit of the format.
        options: options of the writer, for example `from_name` of `write_label_studio`.

    Raises:
        DataError: the format is unknown, cannot be written or cannot represent the documents; or an option is unknown.
    """
    name, chosen = format_named(format)
    if chosen.write is None:
        raise DataError(
            f"the format {name} can be read, but not written; the formats that can be written are "
            f"{', '.join(name for name, format in FORMATS.items() if format.write)}."
        )
    check_options(name, chosen.write, options, 2)
    chosen.write(documents, path, **options)
