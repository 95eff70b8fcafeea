"""Detect the format of a file, and read and write files in any format. `FORMATS` lists all formats."""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..data import Document, read_jsonl, write_jsonl
from ..errors import DataError
from ..files import UTF16_MARKS, iter_lines, open_bytes, read_text, stem_of, suffix_of, visible_files
from ..offsets import distinct_ids
from .bioc import read_bioc, write_bioc
from .brat import read_brat, write_brat
from .columns import read_iob, write_columns
from .conllu import read_conllu
from .docbin import read_docbin, write_docbin
from .doccano import read_doccano, write_doccano
from .found import found_documents
from .label_studio import read_label_studio, write_label_studio
from .prodigy import read_prodigy
from .pubmed import read_pubmed
from .pubtator import TEXT_LINE, read_pubtator, write_pubtator
from .records import read_records
from .token_spans import read_token_spans
from .webanno import read_webanno


@dataclass(frozen=True)
class Format:
    """A file format for annotated texts.

    Args:
        read: function that reads the documents of a file. Its first argument is the path. All other arguments are
            options.
        suffixes: usual suffixes of files in the format.
        write: function that writes documents to a path. None if the package cannot write the format.
    """

    read: Callable[..., list[Document]]
    suffixes: tuple[str, ...]
    write: Callable[..., None] | None = None


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
    "webanno": Format(read_webanno, (".tsv",)),
    "bioc": Format(read_bioc, (".xml", ".json", ".jsonl"), write_bioc),
    "conllu": Format(read_conllu, (".conllu", ".conllup", ".conll")),
    "docbin": Format(read_docbin, (".spacy",), write_docbin),
    "gliner": Format(read_token_spans, (".json", ".jsonl")),
    "pubmed": Format(read_pubmed, (".xml",)),
}
_OTHER_NAMES = {"iob": "conll", "columns": "conll", "bioc-json": "bioc", "bioc-xml": "bioc", "inception": "webanno"}
SUFFIXES = tuple(dict.fromkeys(suffix for format in FORMATS.values() for suffix in format.suffixes))

_ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz")
_COMPRESSED_ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz")
_HEAD = 50  # number of records or lines at the start of a file from which its format is detected
_LABEL_STUDIO = {
    "annotations",
    "completions",
    "predictions",
    "annotation_id",
    "completion_id",
    "annotator",
    "lead_time",
}
_PRODIGY = {"_input_hash", "_task_hash", "_session_id", "_view_id", "answer", "spans"}


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


def detect_format(path: str | Path) -> str:
    """Detect the format of a file from its suffix and its content, and return the name of the format.

    Raises:
        DataError: the file is missing, or its format is unknown.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if path.is_dir():
        if visible_files(path, {".ann"}):
            return "brat"
        raise DataError(f"{path}: this is a folder without .ann files; give the path of a file in it.")
    if (
        suffix in (*_ARCHIVES, ".ann")
        or path.name.lower().endswith(_COMPRESSED_ARCHIVES)
        or (suffix == ".txt" and path.with_suffix(".ann").exists())
    ):
        return "brat"
    if suffix == ".zip":
        raise DataError(f"{path}: this is a zip archive; unpack it, and give the path of a file in it.")
    if suffix in (".spacy", ".conllu", ".conllup"):
        return "docbin" if suffix == ".spacy" else "conllu"
    with open_bytes(path) as file:
        head = file.read(2**16).lstrip(b"\xef\xbb\xbf \t\r\n")
    if suffix in (".xml", ".nxml") and head.startswith(UTF16_MARKS):
        head = head[: len(head) // 2 * 2].decode("utf-16", "replace").encode()
    if suffix in (".xml", ".nxml") or re.match(rb"<(\?xml|!DOCTYPE|collection|Pubmed|Medline)", head):
        return _xml_format(path, head)
    if suffix in (".json", ".jsonl", ".ndjson") or head[:2] in (b"{\r", b"{\n", b'{"', b"[{", b"[\n", b"[\r"):
        return _json_format(path)
    lines = [line for line in islice(iter_lines(path), _HEAD) if line.strip()]
    if lines and lines[0].startswith("#FORMAT=WebAnno TSV"):
        return "webanno"
    if lines and (match := TEXT_LINE.fullmatch(lines[0])) and match[2] == "t":
        return "pubtator"
    return "conllu" if any(line.startswith("# global.columns") for line in lines) else "conll"


def _xml_format(path: Path, head: bytes) -> str:
    if re.search(rb"<(Pubmed|Medline)\w*", head):
        return "pubmed"
    if re.search(rb"<(collection|document)\b", head):
        return "bioc"
    tag = re.search(rb"<([A-Za-z][\w:.-]*)", head)
    found = tag[1].decode("ascii", "replace") if tag else "nothing"
    raise DataError(f"{path}: XML with <{found}> is unknown; expected BioC (<collection>) or PubMed articles.")


def _json_format(path: Path) -> str:
    records = _first_records(path)
    keys = {key for record in records for key in record}
    values = [value for record in records for value in record.values()]
    if keys & {"passages", "documents", "PubTator3", "PubTator"}:
        return "bioc"
    if "text" not in keys and (
        keys & {"tokenized_text"} or (keys & {"tokens", "sentence"} and keys & {"entities", "ner"})
    ):
        return "gliner"
    if "entities" in keys and "text" in keys and not _has_doccano_entities(records):
        return "jsonl"
    if ("data" in keys and any(isinstance(record.get("data"), Mapping) for record in records)) or keys & _LABEL_STUDIO:
        spans = [record.get("annotations") for record in records]
        return "doccano" if any(_first_has(span, "start_offset") for span in spans) else "label-studio"
    if any(_first_has(value, key) for value in values for key in ("labels", "hypertextlabels", "paragraphlabels")):
        return "label-studio"
    if keys & _PRODIGY and "text" in keys:
        return "prodigy"
    if keys & {"text", "data"} and keys & {"label", "labels", "entities"}:
        return "doccano"
    return "jsonl"


def _has_doccano_entities(records: Sequence[Mapping[str, Any]]) -> bool:
    spans = [record.get(name) for record in records for name in ("label", "labels")]
    if any(isinstance(span, list) and span and isinstance(span[0], list) for span in spans):
        return True
    if any({"relations", "Comments"} & set(record) for record in records):
        return True
    for record in records:
        entities = record.get("entities")
        if isinstance(entities, list) and entities:
            return isinstance(entities[0], list) or _first_has(entities, "start_offset")
    return False


def _first_has(value: Any, key: str) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and key in value[0]


def _first_records(path: Path) -> list[Mapping[str, Any]]:
    """Return the first objects of a JSON file.

    The result is empty if the file is not JSON. The reader of the file then raises the error.
    """
    records: list[Any] = []
    for line in islice(iter_lines(path), _HEAD):
        try:
            records += [json.loads(line)] if line.strip() else []
        except (ValueError, RecursionError):
            records = []
            break
    if not records or isinstance(records[0], list):
        try:
            value = json.loads(read_text(path))
        except (ValueError, RecursionError):
            value = records
        records = value[:_HEAD] if isinstance(value, list) else [value]
    return [record for record in records if isinstance(record, Mapping)]
