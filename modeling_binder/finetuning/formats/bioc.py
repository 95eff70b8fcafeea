"""Read BioC in XML and JSON, and write BioC in JSON. A document consists of passages with annotations.

Offsets count code points from the start of the document.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from ..data import Document
from ..errors import DataError
from ..files import UTF16_MARKS, open_bytes, read_text, written_whole, xml_errors
from ..offsets import BYTES, PYTHON_UNITS, Offset, RawDocument, RawMention, align, distinct_ids
from .found import found_documents
from .records import list_of, offset_of, read_records

logger = logging.getLogger(__name__)

_UNITS = (*PYTHON_UNITS, BYTES)  # some tools write offsets that count bytes
# A gap between two passages becomes spaces if it has at most this many characters. A larger gap means that passages are
# missing. It becomes a line end.
_MAX_GAP = 100
_EXPECTED = "'documents' or 'passages'"


def read_bioc(path: str | Path) -> list[Document]:
    """Read BioC in XML or JSON. A JSON file contains a collection, a document, or one document per line.

    The text of a document consists of its passages, or of the sentences of passages without text. Spaces fill the gaps
    between their offsets. The type of a mention is the value of the infon (a field of an annotation) "type". A
    discontinuous mention becomes the span from its first to its last character.

    Annotations without a location apply to the whole document. The reader skips them and logs a warning. It also skips
    relations.

    Raises:
        DataError: an annotation has no type, or its offsets do not select its text. The message names the document and
            the annotation.
    """
    start = read_text(path).lstrip()[:1] if _is_text(path) else "<"
    found = _from_xml(Path(path)) if start == "<" else _from_json(Path(path))
    documents = [_document(item, f"{path}: document {item.get('id')!r}") for item in found]
    return distinct_ids(align(documents, _UNITS))


def _is_text(path: str | Path) -> bool:
    # XML files may have another encoding than UTF-8. So detect the format from bytes.
    with open_bytes(path) as file:
        head = file.read(100)
    if head.startswith(UTF16_MARKS):
        return not head.decode("utf-16", "replace").lstrip().startswith("<")
    return not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def _from_json(path: Path) -> list[Mapping[str, Any]]:
    documents: list[Mapping[str, Any]] = []
    for where, data in read_records(path, _EXPECTED, "document"):
        listed = next((data[key] for key in ("documents", "PubTator3", "PubTator") if key in data), None)
        if listed is None and "passages" not in data:
            raise DataError(f"{where}: expected {_EXPECTED}, got the fields {', '.join(map(repr, data)):.200}.")
        items = [data] if listed is None else list_of(listed, "documents", where)
        documents += [item if isinstance(item, Mapping) else {"id": item, "passages": None} for item in items]
    if not documents:
        raise DataError(f"{path}: the file contains no document.")
    return documents


def _from_xml(path: Path) -> list[Mapping[str, Any]]:
    """Convert the documents of a BioC XML file into dictionaries, in the format of BioC JSON."""
    with open_bytes(path) as file, xml_errors(path):
        root = ElementTree.parse(file).getroot()
    documents: list[Mapping[str, Any]] = [
        {
            "id": document.findtext("id", ""),
            "passages": [_passage(item) for item in document.iterfind("passage")],
            "annotations": _annotations_in(document),
        }
        for document in root.iter("document")
    ]
    if not documents:
        raise DataError(f"{path}: the file contains no <document>; expected a BioC <collection>.")
    return documents


def _passage(element: ElementTree.Element) -> dict[str, Any]:
    return {
        "offset": _number(element.findtext("offset")),
        "text": element.findtext("text"),
        "sentences": [_passage(sentence) for sentence in element.iterfind("sentence")],
        "annotations": _annotations_in(element),
    }


def _annotations_in(element: ElementTree.Element) -> list[dict[str, Any]]:
    return [
        {
            "id": annotation.get("id"),
            "infons": {infon.get("key"): infon.text for infon in annotation.iterfind("infon")},
            "text": annotation.findtext("text"),
            "locations": [
                {"offset": _number(place.get("offset")), "length": _number(place.get("length"))}
                for place in annotation.iterfind("location")
            ],
        }
        for annotation in element.iterfind("annotation")
    ]


def _number(value: str | None) -> Any:
    return int(value) if value is not None and value.strip().isdecimal() else value


class _Piece(NamedTuple):
    """Position of a passage or sentence: its offset in the file, and its start in the text of the document."""

    offset: int
    base: int


def _document(item: Mapping[str, Any], where: str) -> RawDocument:
    document = RawDocument(str(item.get("id") or ""), "", where=where)
    pieces: list[_Piece] = []
    annotations = list(list_of(item.get("annotations"), "annotations", where))
    for passage in list_of(item.get("passages"), "passages", where):
        _read_passage(passage, document, pieces, annotations, where)
    mentions = [_mention(annotation, pieces, where) for annotation in annotations]
    document.mentions += [mention for mention in mentions if mention is not None]
    if None in mentions:
        logger.warning("%s: left out %d annotations without a location.", where, mentions.count(None))
    return document


def _read_passage(
    passage: Any, document: RawDocument, pieces: list[_Piece], annotations: list[Any], where: str
) -> None:
    """Add the text of a passage to a document. If the passage has no text, add the texts of its sentences."""
    if not isinstance(passage, Mapping):
        raise DataError(f"{where}: expected a passage with 'offset' and 'text', got {passage!r:.60}.")
    annotations += list_of(passage.get("annotations"), "annotations", where)
    sentences = list_of(passage.get("sentences"), "sentences", where)
    text = passage.get("text")
    if isinstance(text, str) and text:
        offset = offset_of(passage.get("offset"), "offset", where)
        if pieces:
            # Number of characters between the previous passage and this passage, according to the file
            gap = offset - pieces[-1].offset - (len(document.text) - pieces[-1].base)
            document.text += " " * gap if 0 <= gap <= _MAX_GAP else "\n"
        pieces.append(_Piece(offset, len(document.text)))
        document.text += text
        annotations += [item for sentence in sentences for item in _annotations(sentence, where)]
    else:
        for sentence in sentences:
            _read_passage(sentence, document, pieces, annotations, where)


def _annotations(sentence: Any, where: str) -> list[Any]:
    return list_of(sentence.get("annotations"), "annotations", where) if isinstance(sentence, Mapping) else []


def _mention(annotation: Any, pieces: list[_Piece], where: str) -> RawMention | None:
    """Return the mention of an annotation, or None if the annotation has no location.

    The offsets of the returned mention count from the start of its passage or sentence.
    """
    if not isinstance(annotation, Mapping):
        raise DataError(f"{where}: expected an annotation, got {annotation!r:.60}.")
    place = f"{where}, annotation {annotation.get('id')!r}"
    fragments: list[tuple[Offset, Offset]] = []
    for location in list_of(annotation.get("locations"), "locations", place):
        if not isinstance(location, Mapping):
            raise DataError(f"{place}: expected a location with 'offset' and 'length', got {location!r:.60}.")
        start = offset_of(location.get("offset"), "offset", place)
        end = start + offset_of(location.get("length"), "length", place)
        piece = max((piece for piece in pieces if piece.offset <= start), default=_Piece(0, 0))
        fragments.append(((piece.base, start - piece.offset), (piece.base, end - piece.offset)))
    if not fragments:
        return None
    infons = annotation.get("infons")
    label = infons.get("type") if isinstance(infons, Mapping) else None
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{place}: the annotation has no type; expected the infon 'type'.")
    stated = annotation.get("text")
    return RawMention(tuple(fragments), label, stated if isinstance(stated, str) else None, place)


def write_bioc(documents: Iterable[Document | Mapping[str, Any]], path: str | Path) -> None:
    """Write a BioC collection as JSON.

    Each document has one passage. Offsets count code points. The score of a mention is the value of the infon "score".

    Args:
        documents: documents, or texts with predicted entities (see `found_documents`).
        path: the file to write.
    """
    items = []
    for document, scores in found_documents(documents):
        annotations = []
        for number, (mention, score) in enumerate(zip(document.entities, scores, strict=True), 1):
            infons = {"type": mention.label} if score is None else {"type": mention.label, "score": str(score)}
            location = {"offset": mention.start, "length": mention.end - mention.start}
            words = document.text[mention.start : mention.end]
            annotations.append({"id": str(number), "infons": infons, "text": words, "locations": [location]})
        passage = {"offset": 0, "infons": {}, "text": document.text, "sentences": [], "annotations": annotations}
        passages = [{**passage, "relations": []}]
        items.append({"id": document.id, "infons": {}, "passages": passages, "annotations": [], "relations": []})
    collection = {"source": "binder-ner", "date": "", "key": "", "infons": {}, "documents": items}
    with written_whole(path) as file:
        file.write(json.dumps(collection, ensure_ascii=False, indent=1) + "\n")
