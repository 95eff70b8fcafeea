"""Detect the format of a file from its suffix and its content."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import UTF16_MARKS, iter_lines, open_bytes, read_text, suffix_of, visible_files
from .pubtator import TEXT_LINE
from .records import LABEL_LISTS, is_labelled_span

_ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz")
_COMPRESSED_ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz")
_LINES = 50  # number of lines at the start of a file from which its format is detected
_RECORDS = 1000  # the same for the records of a JSON file
_BIOC = {"passages", "documents", "PubTator3", "PubTator"}
_JSON_MIN = {"annotation_id", "completion_id"}
_LABEL_STUDIO = {*_JSON_MIN, "annotations", "completions", "predictions", "annotator", "lead_time"}
_PRODIGY = {"_input_hash", "_task_hash", "_session_id", "_view_id", "answer"}
_OWN = {"words", "undecided", "types"}


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
    lines = [line for line in islice(iter_lines(path), _LINES) if line.strip()]
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
    records = list(islice(_records(path), _RECORDS))
    shown = [kind for record in records for kind in _annotations(record)]
    if shown:
        return min(shown)[1]
    return _shown_by_fields({key: value for record in records for key, value in record.items()})


def _annotations(record: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield the formats of the annotations in a record, each with a rank. The lowest rank decides the format of a file.

    A record may have several kinds of annotations, because tools keep other fields of the imported texts (metadata),
    and export them again. For the same reason, the names of fields alone show little.
    """
    firsts = {name: value[0] for name, value in record.items() if isinstance(value, list) and value}
    objects = {name: item for name, item in firsts.items() if isinstance(item, Mapping)}
    with_labels = [
        name for name, item in objects.items() if any(isinstance(item.get(key), list) for key in LABEL_LISTS)
    ]
    spans = [name for name, item in objects.items() if {"start", "end"} <= set(item) and name not in with_labels]

    def has(key: str, *names: str) -> bool:
        return any(key in objects.get(name, ()) for name in names)

    if "text" not in record and ("tokenized_text" in record or _has_token_spans(record)):
        yield 0, "gliner"
    if any(is_labelled_span(firsts.get(name)) for name in ("label", "labels")):
        yield 1, "doccano"
    if "text" in record and "entities" in spans:
        yield 2, "jsonl"
    if is_labelled_span(firsts.get("entities")) or has("start_offset", "entities", "label", "labels", "annotations"):
        yield 3, "doccano"
    if "passages" in objects or has("passages", *_BIOC):
        yield 4, "bioc"
    if "text" not in record and isinstance(record.get("data"), Mapping):
        yield 5, "label-studio"
    if has("result", "annotations", "completions", "predictions") or has("start", *with_labels):
        yield 5, "label-studio"
    if "spans" in spans and ("entities" not in record or _PRODIGY & set(record)):
        yield 6, "prodigy"
    if {"annotations", "label", "labels"} & set(spans) or any(
        is_labelled_span(firsts.get(name)) for name in ("annotations", "spans")
    ):
        yield 7, "doccano"


def _has_token_spans(record: Mapping[str, Any]) -> bool:
    return bool({"tokens", "sentence"} & set(record) and {"entities", "ner"} & set(record))


def _shown_by_fields(record: Mapping[str, Any]) -> str:
    """Return the format that the names of fields show, for a file without annotations.

    Args:
        record: the fields of all records.
    """
    keys = set(record)
    if keys & _BIOC and "text" not in keys:
        return "bioc"
    if {"text", "entities"} <= keys:
        return "doccano" if {"relations", "Comments"} & keys and not _OWN & keys else "jsonl"
    if any(record.get(name) == [] for name in ("label", "labels")) and not _JSON_MIN & keys:
        return "doccano"
    if keys & _LABEL_STUDIO:
        return "label-studio"
    if keys & {*_PRODIGY, "spans"} and "text" in keys:
        return "prodigy"
    if keys & {"text", "data"} and keys & {"label", "labels", "entities"}:
        return "doccano"
    return "jsonl"


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a JSON file: of a list, or one per line.

    Lines that are not JSON are skipped. The reader of the file raises the error for them.
    """
    parsed: Iterator[Any] = map(_parsed, filter(str.strip, iter_lines(path)))
    first = next(parsed, None)
    if not isinstance(first, Mapping):  # a list, an object on several lines, or a broken line
        whole = _parsed(read_text(path))
        parsed = iter(whole if isinstance(whole, list) else [whole] if isinstance(whole, Mapping) else parsed)
    else:
        yield first
    yield from (record for record in parsed if isinstance(record, Mapping))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
