"""Convert the offsets of a file to code points: units of other tools, stated texts, blanks at the edges of mentions.

Tools count differently: Python counts code points, JavaScript and Java count UTF-16 units, some count bytes, and a
browser counts "\\r\\n" as one character. Most files also state the text of each mention. The functions of this module
find the unit in which the stated texts fit, and refuse offsets that fit in no unit.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from ..processing_binder import split_words
from .data import Document, Mention
from .errors import DataError
from .files import surrogate_problem

logger = logging.getLogger(__name__)


class Unit(NamedTuple):
    """A unit of offsets.

    Args:
        name: its name in messages.
        encoding: "utf-32", "utf-16" or "utf-8"; an offset counts the code units of this encoding.
        crlf_is_one: "\\r\\n" counts as one character.
    """

    name: str
    encoding: str = "utf-32"
    crlf_is_one: bool = False

    def differs(self, text: str) -> bool:
        """Return whether offsets into a text in this unit can differ from offsets in code points."""
        if self.crlf_is_one and "\r\n" in text:
            return True
        if text.isascii() or self.encoding == "utf-32":
            return False
        return self.encoding == "utf-8" or max(text) > "\uffff"

    def positions(self, text: str) -> list[int]:
        """Return the offset of each code point of a text in this unit, and that of the end."""
        positions, position = [], 0
        for index, character in enumerate(text):
            positions.append(position)
            if self.crlf_is_one and character == "\r" and text[index + 1 : index + 2] == "\n":
                continue  # the "\n" counts for both
            if self.encoding == "utf-16":
                position += 1 + (character > "\uffff")
            elif self.encoding == "utf-8":
                position += len(character.encode("utf-8", "surrogatepass"))
            else:
                position += 1
        return [*positions, position]


CODE_POINTS = Unit("code points")
UTF16 = Unit("UTF-16 units", "utf-16")
CODE_POINTS_CRLF = Unit("code points with \\r\\n as one", crlf_is_one=True)
UTF16_CRLF = Unit("UTF-16 units with \\r\\n as one", "utf-16", crlf_is_one=True)
BYTES = Unit("UTF-8 bytes", "utf-8")

# The first unit that fits is used, so the unit of the tool comes first
PYTHON_UNITS = (CODE_POINTS, UTF16, CODE_POINTS_CRLF, UTF16_CRLF)
BROWSER_UNITS = (UTF16_CRLF, CODE_POINTS_CRLF, UTF16, CODE_POINTS)
JAVA_UNITS = (UTF16, CODE_POINTS, UTF16_CRLF, CODE_POINTS_CRLF)


def to_unit(text: str, unit: Unit, offsets: Iterable[int]) -> list[int]:
    """Return code point offsets into a text as offsets in another unit, for writers."""
    if not unit.differs(text):
        return list(offsets)
    positions = unit.positions(text)
    return [positions[offset] for offset in offsets]


# An offset of a file: into the whole text, or (the code point from which the file counts, the offset from there)
Offset: TypeAlias = int | tuple[int, int]


class RawMention(NamedTuple):
    """A mention as a file gives it.

    Args:
        fragments: start and end of each part, in the unit of the file; one part unless the mention is discontinuous.
        label: its type.
        stated: the text of the mention in the file; None if the file does not contain it.
        where: its place, such as file and line, for messages.
    """

    fragments: tuple[tuple[Offset, Offset], ...]
    label: str
    stated: str | None
    where: str


@dataclass
class RawDocument:
    """A document as a file gives it: offsets are in the unit of the file."""

    id: str
    text: str
    mentions: list[RawMention] = field(default_factory=list)
    words: tuple[tuple[int, int], ...] | None = None
    where: str = ""

    @cached_property
    def word_edges(self) -> tuple[set[int], set[int]]:
        """The code point offsets at which words start, and those at which they end."""
        words = split_words(self.text)
        return {start for start, _ in words}, {end for _, end in words}


class _Ruler:
    """Turns offsets into a text from one unit into code points."""

    def __init__(self, text: str, unit: Unit) -> None:
        self.positions: Sequence[int] = range(len(text) + 1)
        self.index: Mapping[int, int] | None = None
        if unit.differs(text):
            self.positions = unit.positions(text)
            # Backwards, so that of "\r" and "\n" with the same offset the "\r" is kept
            self.index = {position: index for index, position in reversed(list(enumerate(self.positions)))}

    def read(self, offset: Offset) -> int | None:
        """Return the code point offset, or None if the offset is outside the text or inside a code point."""
        if isinstance(offset, tuple):
            base, offset = offset
            offset += self.positions[base]
        if self.index is not None:
            return self.index.get(offset)
        return offset if 0 <= offset < len(self.positions) else None


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span without the blanks at its edges; an empty span if all of it is blank.

    A mention with a blank at its edge does not start or end at a word boundary, so a model cannot learn it.
    """
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def same_text(first: str, second: str) -> bool:
    """Return whether two texts are equal apart from white space. Label Studio writes line ends as "\\n"."""
    squeezed = ["".join(text.split()) for text in (first, second)]
    return squeezed[0] == squeezed[1] or len({text.replace("\\n", "") for text in squeezed}) == 1


def _spans(mention: RawMention, ruler: _Ruler) -> list[tuple[int, int]] | None:
    spans = []
    for fragment in mention.fragments:
        start, end = (ruler.read(offset) for offset in fragment)
        if start is None or end is None or start >= end:
            return None
        spans.append((start, end))
    return spans


def _fit(document: RawDocument, mention: RawMention, ruler: _Ruler) -> tuple[int, int] | None:
    """Return the extent of a mention in code points, or None if it is not within the text or states another text."""
    spans = _spans(mention, ruler)
    if not spans:
        return None
    start, end = min(start for start, _ in spans), max(end for _, end in spans)
    if mention.stated is not None:
        # the fragments of a discontinuous mention are in any order, and may contain each other
        orders = (spans, sorted(spans), [(start, end)])
        pieces = ("".join(document.text[a:b] for a, b in order) for order in orders)
        if not any(same_text(piece, mention.stated) for piece in pieces):
            return None
    return start, end


def fits(document: RawDocument, mention: RawMention, units: Sequence[Unit]) -> bool:
    """Return whether a mention is within the text and has its stated text, in at least one of the units."""
    return any(_fit(document, mention, _Ruler(document.text, unit)) is not None for unit in units)


def _misfits(document: RawDocument, unit: Unit) -> tuple[int, int]:
    """Return the number of mentions that do not fit in a unit, and of those without stated text that cut words."""
    ruler = _Ruler(document.text, unit)
    misfits = cuts = 0
    for mention in document.mentions:
        span = _fit(document, mention, ruler)
        misfits += span is None
        if span is not None and mention.stated is None:
            start, end = trim(document.text, *span)
            starts, ends = document.word_edges
            cuts += (start, end) != span or start not in starts or end not in ends
    return misfits, cuts


def choose_unit(documents: Sequence[RawDocument], units: Sequence[Unit]) -> Unit:
    """Return the unit of a file: most stated texts fit, and the fewest mentions without a stated text split words.

    If several units fit equally well, the first one is returned.
    """
    unclear = [document for document in documents if any(unit.differs(document.text) for unit in units)]
    if len(units) == 1 or not unclear:
        return units[0]
    costs = {
        unit: [sum(counts) for counts in zip(*(_misfits(document, unit) for document in unclear), strict=True)]
        for unit in units
    }
    best = min(units, key=costs.__getitem__)
    if cuts := costs[best][1]:
        logger.warning(
            "%s: %d mentions start or end inside a word, counted in %s; their texts are not stated, so check them.",
            unclear[0].where,
            cuts,
            best.name,
        )
    return best


def locate(
    documents: Sequence[RawDocument], units: Sequence[Unit] = PYTHON_UNITS, repair_within: int = 0
) -> list[list[tuple[int, int, RawMention]]]:
    """Return start and end of each mention in code points, without blanks at its edges; see `align`.

    Raises:
        DataError: see `align`.
    """
    file_unit = choose_unit(documents, units)
    ordered = [file_unit, *(unit for unit in units if unit != file_unit)]
    located: list[list[tuple[int, int, RawMention]]] = []
    problems: list[str] = []
    for document in documents:
        located.append([])
        odd = [(name, surrogate_problem(value)) for name, value in (("text", document.text), ("id", document.id))]
        odd += [(f"type {mention.label!a}", surrogate_problem(mention.label)) for mention in document.mentions]
        if halves := [f"{document.where or document.id}: the {name} {problem}." for name, problem in odd if problem]:
            problems += halves
            continue
        rulers = [_Ruler(document.text, unit) for unit in ordered] if document.mentions else []
        for mention in document.mentions:
            # Only a stated text can prove that a mention has another unit than the file
            fitting = (
                _fit(document, mention, ruler) for ruler in (rulers if mention.stated is not None else rulers[:1])
            )
            span = next((span for span in fitting if span is not None), None)
            if span is None and repair_within and mention.stated:
                span = _nearby(document.text, mention, repair_within)
                if span is None:
                    continue
            if span is None:
                problems.append(_refusal(document, mention, rulers, ordered))
                continue
            start, end = trim(document.text, *span)
            if start == end:
                problems.append(f"{mention.where}: the mention at {span[0]}..{span[1]} is blank; remove it.")
            elif not mention.label.strip():
                problems.append(f"{mention.where}: the mention {document.text[start:end]!r:.60} has no type.")
            located[-1].append((start, end, mention))
    if problems:
        raise DataError.of(problems)
    return located


def align(
    documents: Sequence[RawDocument], units: Sequence[Unit] = PYTHON_UNITS, repair_within: int = 0
) -> list[Document]:
    """Return documents with mentions in code points, after comparing each mention with its stated text.

    One unit is chosen for all documents; a mention whose stated text fits only in another unit is read in that unit.
    Blanks at the edges of a mention are trimmed. Duplicate mentions are kept once.

    Args:
        documents: the documents of one file.
        units: possible units of the offsets; if several fit, the first one is used.
        repair_within: for corpora with known errors. A mention whose stated text fits in no unit is moved to this text,
            if it occurs at most this many characters away, and otherwise left out, with a warning. 0 refuses such a
            mention.

    Raises:
        DataError: a mention is outside the text, has another stated text, is blank or has no type; or a text contains a
            lone surrogate (half of a UTF-16 pair). The message names all of them.
    """
    aligned = []
    for document, mentions in zip(documents, locate(documents, units, repair_within), strict=True):
        entities = dict.fromkeys(Mention(start, end, mention.label) for start, end, mention in mentions)
        aligned.append(Document(document.id, document.text, entities=tuple(entities), words=document.words))
    return aligned


def recounted(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object of the data contract with offsets in code points, if its entities state their texts.

    The object is unchanged if no entity states its text (as "text" or "word"), or if all stated texts fit.

    Raises:
        DataError: the text of an entity differs from its stated text.
    """
    text, entities = data.get("text"), data.get("entities")
    if not isinstance(text, str) or not isinstance(entities, (list, tuple)):
        return data
    mentions: list[RawMention] = []
    for index, entity in enumerate(entities):
        fields = entity if isinstance(entity, Mapping) else {}
        stated = next((fields[key] for key in ("text", "word") if isinstance(fields.get(key), str)), None)
        start, end = fields.get("start"), fields.get("end")
        if type(start) is not int or type(end) is not int:
            return data  # whose problems `Document.from_dict` names
        mentions.append(RawMention(((start, end),), str(fields.get("label")), stated, f"'entities[{index}]'"))
    document = RawDocument("", text, mentions)
    if all(mention.stated is None or fits(document, mention, (CODE_POINTS,)) for mention in mentions):
        return data
    try:
        spans = locate([document])[0]
    except DataError as error:
        raise DataError.of([problem.removesuffix(".") for problem in error.problems]) from None
    moved = [{**entity, "start": start, "end": end} for entity, (start, end, _) in zip(entities, spans, strict=True)]
    return {**data, "entities": moved}


def _refusal(document: RawDocument, mention: RawMention, rulers: list[_Ruler], units: list[Unit]) -> str:
    offsets = [sum(o) if isinstance(o, tuple) else o for fragment in mention.fragments for o in fragment]
    spans = next((spans for ruler in rulers if (spans := _spans(mention, ruler)) is not None), None)
    if spans is None:
        return (
            f"{mention.where}: spans {min(offsets)}..{max(offsets)} in a text of {len(document.text)} "
            "characters; expected start < end, both within the text."
        )
    read = " ".join(document.text[start:end] for start, end in spans)
    counted = ", ".join(unit.name for unit in units if unit.differs(document.text) or unit == CODE_POINTS)
    return (
        f"{mention.where}: the text at {min(offsets)}..{max(offsets)} is {read!r:.60}, not {mention.stated!r:.60} "
        f"(counted in {counted}); correct the offsets or the text."
    )


def _nearby(text: str, mention: RawMention, distance: int) -> tuple[int, int] | None:
    start, end = (sum(o) if isinstance(o, tuple) else o for o in mention.fragments[0])
    wanted = (mention.stated or "").strip()
    found = text.find(wanted, max(0, start - distance), end + distance)
    if found >= 0:
        logger.warning("%s: %r stands at %d, not at %d; moved.", mention.where, wanted, found, start)
        return found, found + len(wanted)
    logger.warning(
        "%s: the text at %d..%d is %r, not %r; left out.", mention.where, start, end, text[start:end], wanted
    )
    return None


def distinct_ids(documents: Iterable[Document]) -> list[Document]:
    """Return documents with ids that differ: the second "a" becomes "a-2"."""
    seen: dict[str, int] = {}
    distinct = []
    for document in documents:
        identifier, number = document.id, seen.get(document.id, 0)
        while identifier in seen:
            number += 1
            identifier = f"{document.id}-{number}"
        seen[document.id] = max(number, 1)
        seen.setdefault(identifier, 1)
        distinct.append(document if identifier == document.id else replace(document, id=identifier))
    return distinct
