"""Read ACE 2004 and ACE 2005 in the format of the LDC: texts in SGML, and their annotations in apf.xml."""

import html
import re
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from modeling_binder.finetuning import DataError, Document, Mention
from modeling_binder.finetuning.files import read_bytes, read_text, visible_files
from modeling_binder.finetuning.offsets import same_text, trim

TYPES = ("PER", "ORG", "GPE", "LOC", "FAC", "VEH", "WEA")
_TAG = re.compile(r"<[^>]*>")
_ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-f]+|[a-z]+);", re.IGNORECASE)


def read_ace(folder: str | Path, span: Literal["extent", "head"] = "extent") -> dict[str, Document]:
    """Read the ACE files of a folder and its sub-folders, without hidden files. Return id -> document.

    In ACE 2005, the files of a document X are X.sgm and X.apf.xml. In ACE 2004, they are X.SGM and X_APF.XML. If ACE
    2005 has several versions of a document, the version in the folder `timex2norm` is used.

    Offsets in the annotation count characters of the SGML without its tags, and the end is inclusive. Some annotations
    count an XML entity such as &amp; as five characters, other annotations as one character. The function tries both,
    and uses the offsets at which the text agrees with the annotation. In the returned documents, XML entities are
    decoded to one character.

    Args:
        folder: the folder of a distribution.
        span: "extent" for the full extent of a mention, "head" for its head.

    Raises:
        DataError: the XML is malformed, a text is missing, or the offsets do not fit the text. The message names the
            file.
    """
    folder = Path(folder)
    files = [path for path in visible_files(folder) if path.name.lower().endswith((".apf.xml", "_apf.xml"))]
    preferred = [path for path in files if path.parent.name == "timex2norm"]
    documents = {}
    for path in preferred or files:
        document = _document(path, span)
        documents[document.id] = document
    if not documents:
        raise DataError(f"{folder}: this folder has no .apf.xml or _APF.XML file.")
    return documents


def _document(path: Path, span: str) -> Document:
    identifier = re.sub(r"[._]apf\.xml$", "", path.name, flags=re.IGNORECASE)
    candidates = [path.with_name(identifier + suffix) for suffix in (".sgm", ".SGM")]
    source = next((candidate for candidate in candidates if candidate.exists()), None)
    if source is None:
        raise DataError(f"{path}: its text {identifier}.sgm is missing in the same folder.")
    # The offsets count each line end as one character, so convert "\r\n" to "\n".
    written = _TAG.sub("", read_text(source).replace("\r\n", "\n"))
    try:
        root = ElementTree.fromstring(read_bytes(path))
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not valid XML ({error}).") from None
    spans = []
    for entity in root.iter("entity"):
        for mention in entity.iter("entity_mention"):
            charseq = mention.find(f"{span}/charseq")
            if charseq is None:
                raise DataError(f"{path}: the mention {mention.get('ID')} has no {span}.")
            places = [charseq.get("START", ""), charseq.get("END", "")]
            label = entity.get("TYPE", "")
            if not all(place.isdecimal() for place in places) or not label:
                raise DataError(f"{path}: the mention {mention.get('ID')} has no START, END or TYPE.")
            spans.append((int(places[0]), int(places[1]) + 1, label, charseq.text or ""))
    text, pieces = _decode(written)
    for convert in (lambda offset: _shift(pieces, offset), lambda offset: offset):
        moved = [(*trim(text, convert(start), convert(end)), label, stated) for start, end, label, stated in spans]
        if all(start < end and same_text(text[start:end], html.unescape(stated)) for start, end, _, stated in moved):
            mentions = {Mention(start, end, label) for start, end, label, _ in moved}
            return Document(identifier, text, tuple(sorted(mentions)))
    start, end, _, stated = next(
        s for s in spans if not same_text(text[_shift(pieces, s[0]) : _shift(pieces, s[1])], s[3]) or not s[3].strip()
    )
    raise DataError(
        f"{path}: the text at {start}..{end - 1} is {written[start:end]!r:.60}, the annotation has {stated!r:.60}."
    )


def _decode(written: str) -> tuple[str, list[tuple[int, int]]]:
    """Decode the XML entities in a text.

    Returns:
        The decoded text, and a pair for each XML entity. The pair is (end, shift). `end` is the end of the entity in
        the original text. `shift` is the number of characters that decoding has removed before this end.
    """
    parts, gone, pieces, position = [], 0, [], 0
    for match in _ENTITY.finditer(written):
        character = html.unescape(match[0]) if html.unescape(match[0]) != match[0] else html.unescape(match[0].lower())
        parts += [written[position : match.start()], character]
        gone += len(match[0]) - len(character)
        pieces.append((match.end(), gone))
        position = match.end()
    return "".join([*parts, written[position:]]), pieces


def _shift(pieces: list[tuple[int, int]], offset: int) -> int:
    """Convert an offset in the original text to an offset in the decoded text. `_decode` returns `pieces`."""
    gone = 0
    for end, total in pieces:
        if end > offset:
            break
        gone = total
    return offset - gone
