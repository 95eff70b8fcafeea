"""Read exports of doccano, and write files that doccano can import, in JSONL for sequence labelling.

The editor of doccano counts offsets in UTF-16 units. Older versions count code points. Projects with the setting "Count
grapheme clusters as one character" count grapheme clusters (option `graphemes`).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..data import Document
from ..errors import DataError
from ..files import stem_of, written_whole
from ..offsets import GRAPHEMES, JAVA_UNITS, UTF16, RawDocument, RawMention, align, distinct_ids, to_unit
from .found import found_documents
from .records import Record, identifier_of, label_of, list_of, offset_of, read_records, text_of

_EXPECTED = "'text' and 'label': [[start, end, type], ...]"
# Value of the field "offsets" in written files. doccano stores this field as metadata and exports it again. So
# `read_doccano` knows the unit.
_UNIT = "utf-16"
_FIELDS = ("label", "labels", "entities", "annotations", "spans")


def read_doccano(path: str | Path, text_field: str | None = None, graphemes: bool = False) -> list[Document]:
    """Read an export of doccano: `{"id", "text", "label": [[start, end, type], ...]}`.

    Exports with relations are supported too: `{"text", "entities": [{"label", "start_offset", "end_offset"}],
    "relations"}`.

    Exports do not contain the texts of mentions. So the reader chooses the unit in which most mentions begin and end at
    word boundaries. Files from `write_doccano` contain the name of the unit. If doccano imports such a file, its
    exports contain the name too.

    Args:
        path: the file, JSONL or JSON.
        text_field: the field that contains the text. Defaults to "text", or to "data" if there is no field "text".
        graphemes: whether offsets count grapheme clusters.

    Raises:
        DataError: a field is missing or malformed, or an offset is outside the text. The message names the record.
    """
    documents = []
    records = read_records(path, _EXPECTED)
    for number, record in enumerate(records, 1):
        where, data = record
        field = text_field or ("data" if "text" not in data and "data" in data else "text")
        documents.append(
            RawDocument(
                identifier_of(data, f"{stem_of(path)}-{number}"),
                text_of(data, field, where),
                list(_mentions(record)),
                where=where,
            )
        )
    named = all(record.data.get("offsets") == _UNIT for record in records)
    units = (GRAPHEMES,) if graphemes else (UTF16,) if named else JAVA_UNITS
    return distinct_ids(align(documents, units))


def _mentions(record: Record) -> Iterable[RawMention]:
    where, data = record
    names = [name for name in _FIELDS if name in data]
    if not names:
        raise DataError(f"{where}: expected {_EXPECTED}, got the fields {', '.join(map(repr, data))}.")
    # Some of these fields may be metadata of the imported file, because doccano exports metadata again.
    filled = [name for name in names if data[name]]
    if len(filled) > 1:
        raise DataError(f"{where}: expected mentions in one field, got {' and '.join(map(repr, filled))}; remove one.")
    name = (filled or names)[0]
    for number, item in enumerate(list_of(data[name], name, where)):
        place = f"{where}: {name}[{number}]"
        if isinstance(item, list) and len(item) == 3:
            start, end, label = item
        elif isinstance(item, Mapping):
            start = item.get("start_offset", item.get("start"))
            end = item.get("end_offset", item.get("end"))
            label = item.get("label")
        else:
            raise DataError(f"{place}: expected [start, end, type], got {item!r:.60}.")
        if isinstance(label, int):
            raise DataError(f"{place}: the type is the number {label}; export with the names of the labels (JSONL).")
        span = (offset_of(start, "start", place), offset_of(end, "end", place))
        yield RawMention((span,), label_of(label, place), None, place)


def write_doccano(documents: Iterable[Document | Mapping[str, Any]], path: str | Path) -> None:
    """Write JSONL that doccano can import. Offsets count UTF-16 units. Scores are not written.

    Args:
        documents: documents, or texts with predicted entities (see `found_documents`).
        path: the file to write.
    """
    with written_whole(path) as file:
        for document, _ in found_documents(documents):
            edges = to_unit(document.text, UTF16, (offset for m in document.entities for offset in (m.start, m.end)))
            spans = zip(edges[::2], edges[1::2], document.entities, strict=True)
            labels = [[start, end, mention.label] for start, end, mention in spans]
            row = {"id": document.id, "text": document.text, "label": labels, "offsets": _UNIT}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
