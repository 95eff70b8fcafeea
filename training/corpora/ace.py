"""ACE 2004 and ACE 2005 as the LDC distributes them: a text in SGML and its annotation in apf.xml."""

import html
import re
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from modeling_binder.finetuning import DataError, Document, Mention

TYPES = ("PER", "ORG", "GPE", "LOC", "FAC", "VEH", "WEA")
_TAG = re.compile(r"<[^>]*>")
_ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-f]+|[a-z]+);", re.IGNORECASE)


def read_ace(folder: str | Path, span: Literal["extent", "head"] = "extent") -> dict[str, Document]:
    """Documents of a folder of ACE files, by their ids; sub-folders are read too.

    ACE 2005 names its files X.sgm and X.apf.xml (of several versions of a document the one in `timex2norm` is taken),
    ACE 2004 X.SGM and X_APF.XML. Offsets point into the SGML with its tags taken out, both ends inclusive; XML
    entities such as &amp; are counted as they are written or as one character, whichever fits the annotation. In the
    documents they are one character.

    Args:
        folder: of a distribution.
        span: the full extent of a mention, or its head.

    Raises:
        DataError: names the file whose XML is broken, whose text is missing, or whose offsets fit neither way.
    """
    folder = Path(folder)
    files = [path for path in sorted(folder.rglob("*")) if path.name.lower().endswith((".apf.xml", "_apf.xml"))]
    preferred = [path for path in files if path.parent.name == "timex2norm"]
    documents = {}
    for path in preferred or files:
        document = _document(path, span)
        documents[document.id] = document
    if not documents:
        raise DataError(f"{folder}: there is no .apf.xml or _APF.XML file in it.")
    return documents


def _document(path: Path, span: str) -> Document:
    identifier = re.sub(r"[._]apf\.xml$", "", path.name, flags=re.IGNORECASE)
    candidates = [path.with_name(identifier + suffix) for suffix in (".sgm", ".SGM")]
    source = next((candidate for candidate in candidates if candidate.exists()), None)
    if source is None:
        raise DataError(f"{path}: its text {identifier}.sgm is not beside it.")
    # A line end counts as one character, however it is written.
    written = _TAG.sub("", source.read_text(encoding="utf-8").replace("\r\n", "\n"))
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not valid XML ({error}).") from None
    spans = []
    for entity in root.iter("entity"):
        for mention in entity.iter("entity_mention"):
            charseq = mention.find(f"{span}/charseq")
            if charseq is None:
                raise DataError(f"{path}: the mention {mention.get('ID')} has no {span}.")
            start, end = int(charseq.get("START", -1)), int(charseq.get("END", -2)) + 1
            spans.append((start, end, entity.get("TYPE", ""), charseq.text or ""))
    text, pieces = _decode(written)
    for convert in (lambda offset: _shift(pieces, offset), lambda offset: offset):
        moved = [(convert(start), convert(end), kind, said) for start, end, kind, said in spans]
        if all(text[start:end].split() == html.unescape(said).split() for start, end, _, said in moved):
            mentions = {Mention(start, end, kind) for start, end, kind, _ in moved}
            return Document(identifier, text, tuple(sorted(mentions)))
    start, end, _, said = next(
        s for s in spans if text[_shift(pieces, s[0]) : _shift(pieces, s[1])].split() != s[3].split()
    )
    raise DataError(f"{path}: the text at {start}..{end - 1} is {written[start:end]!r:.60}, not {said!r:.60}.")


def _decode(written: str) -> tuple[str, list[tuple[int, int]]]:
    """A text with its XML entities decoded, and after which written offset how many characters are gone."""
    parts, gone, pieces, position = [], 0, [], 0
    for match in _ENTITY.finditer(written):
        character = html.unescape(match[0]) if html.unescape(match[0]) != match[0] else html.unescape(match[0].lower())
        parts += [written[position : match.start()], character]
        gone += len(match[0]) - len(character)
        pieces.append((match.end(), gone))
        position = match.end()
    return "".join([*parts, written[position:]]), pieces


def _shift(pieces: list[tuple[int, int]], offset: int) -> int:
    """A written offset as one into the decoded text."""
    gone = 0
    for end, total in pieces:
        if end > offset:
            break
        gone = total
    return offset - gone
