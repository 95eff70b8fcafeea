"""Convert the offsets of annotation files into code points, and check them against the texts of mentions.

Annotation tools count characters in different units. Python counts code points, JavaScript and Java count UTF-16 units,
some tools count bytes, and a browser counts "\\r\\n" as one character. Most files also contain the text of each
mention, called its "stated text" here. The functions of this module find the unit in which the offsets select the
stated texts. If there is no such unit, they raise an error. They also remove white space at the start and end of
mentions.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeAlias

import regex

from ..words_binder import split_words
from .data import Document, Mention
from .errors import DataError
from .files import surrogate_problem

logger = logging.getLogger(__name__)


class Unit(NamedTuple):
    """A unit in which a file counts offsets.

    Args:
        name: the name of the unit in messages.
        encoding: "utf-32", "utf-16" or "utf-8": an offset is a number of code units in this encoding. "graphemes": an
            offset is a number of characters as people see them (extended grapheme clusters), such as "é" or "👩‍🔬".
        crlf_is_one: whether "\\r\\n" counts as one character.
    """

    name: str
    encoding: str = "utf-32"
    crlf_is_one: bool = False

    def differs(self, text: str) -> bool:
        """Return whether, in this text, offsets in this unit can differ from offsets in code points."""
        if self.crlf_is_one and "\r\n" in text:
            return True
        if text.isascii() or self.encoding == "utf-32":
            return False
        if self.encoding == "graphemes":
            return len(_graphemes(text)) < len(text)
        return self.encoding == "utf-8" or max(text) > "\uffff"

    def positions(self, text: str) -> list[int]:
        """Return the offsets of all code points of a text in this unit, followed by the offset of its end."""
        if self.encoding == "graphemes":
            clusters = _graphemes(text)
            return [*(number for number, length in enumerate(clusters) for _ in range(length)), len(clusters)]
        positions, position = [], 0
        for index, character in enumerate(text):
            positions.append(position)
            if self.crlf_is_one and character == "\r" and text[index + 1 : index + 2] == "\n":
                continue  # "\r" and "\n" have the same offset, so only the "\n" increases the position
            if self.encoding == "utf-16":
                position += 1 + (character > "\uffff")
            elif self.encoding == "utf-8":
                position += len(character.encode("utf-8", "surrogatepass"))
            else:
                position += 1
        return [*positions, position]


def _graphemes(text: str) -> list[int]:
    """Return the numbers of code points in the extended grapheme clusters of a text.

    doccano's editor follows Unicode 10. Later versions join the consonants of an Indic conjunct (Unicode 15.1, GB9c).
    """
    clusters = regex.findall(r"\X", text)
    return [len(part) for cluster in clusters for part in regex.split(r"(?<=[\p{M}\u200d])(?=\p{Lo})", cluster)]


CODE_POINTS = Unit("code points")
UTF16 = Unit("UTF-16 units", "utf-16")
CODE_POINTS_CRLF = Unit("code points with \\r\\n as one", crlf_is_one=True)
UTF16_CRLF = Unit("UTF-16 units with \\r\\n as one", "utf-16", crlf_is_one=True)
BYTES = Unit("UTF-8 bytes", "utf-8")
GRAPHEMES = Unit("grapheme clusters", "graphemes", crlf_is_one=True)

# Possible units of the offsets in the files of a tool, the usual unit first. If the offsets are correct in several
# units, the first of these units is used.
PYTHON_UNITS = (CODE_POINTS, UTF16, CODE_POINTS_CRLF, UTF16_CRLF)
BROWSER_UNITS = (UTF16_CRLF, CODE_POINTS_CRLF, UTF16, CODE_POINTS)
JAVA_UNITS = (UTF16, CODE_POINTS, UTF16_CRLF, CODE_POINTS_CRLF)


def to_unit(text: str, unit: Unit, offsets: Iterable[int]) -> list[int]:
    """Convert offsets in code points into offsets in another unit, for writers of files."""
    if not unit.differs(text):
        return list(offsets)
    positions = unit.positions(text)
    return [positions[offset] for offset in offsets]


# An offset in a file. An integer counts from the start of the text. Some files count from the start of a passage. Their
# offsets are pairs (start, offset): the offset counts from the code point with the index `start`.
Offset: TypeAlias = int | tuple[int, int]


class RawMention(NamedTuple):
    """A mention with the unconverted offsets of the file.

    Args:
        fragments: start and end of each fragment, in the unit of the file. Only a discontinuous mention has several
            fragments.
        label: the name of its entity type.
        stated: the text of the mention according to the file. None if the file does not contain this text.
        where: position of the mention, such as file and line, for messages.
    """

    fragments: tuple[tuple[Offset, Offset], ...]
    label: str
    stated: str | None
    where: str


@dataclass
class RawDocument:
    """A document whose mentions have the unconverted offsets of the file.

    Args:
        id: id of the document.
        text: the text.
        mentions: the mentions, with offsets in the unit of the file.
        words: character spans of the words, in code points; None if the file has no words.
        where: position of the document, such as file and line, for messages.
    """

    id: str
    text: str
    mentions: list[RawMention] = field(default_factory=list)
    words: tuple[tuple[int, int], ...] | None = None
    where: str = ""

    @cached_property
    def word_edges(self) -> tuple[set[int], set[int]]:
        """The offsets, in code points, at which words start, and the offsets at which words end."""
        words = split_words(self.text)
        return {start for start, _ in words}, {end for _, end in words}


class _Ruler:
    """Converts offsets of a text from a given unit into code points."""

    def __init__(self, text: str, unit: Unit) -> None:
        self.positions: Sequence[int] = range(len(text) + 1)
        self.index: Mapping[int, int] | None = None
        if unit.differs(text):
            self.positions = unit.positions(text)
            # If several code points have the same offset, such as "\r" and "\n", `read` must return the first of them.
            # So the order is reversed: the entry of the "\r" then replaces the entry of the "\n".
            self.index = {position: index for index, position in reversed(list(enumerate(self.positions)))}

    def read(self, offset: Offset) -> int | None:
        """Return the offset in code points, or None if the offset is outside the text or inside a code point."""
        if isinstance(offset, tuple):
            base, offset = offset
            offset += self.positions[base]
        if self.index is not None:
            return self.index.get(offset)
        return offset if 0 <= offset < len(self.positions) else None


@lru_cache(maxsize=8)  # a long text with many mentions is measured only once
def _ruler(text: str, unit: Unit) -> _Ruler:
    return _Ruler(text, unit)


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Remove white space at the start and end of a span. A span that contains only white space becomes empty.

    A mention with white space at its start or end is not at a word boundary. So a model cannot learn it.
    """
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def same_text(first: str, second: str) -> bool:
    """Return whether two texts are equal except for white space.

    A backslash followed by "n" also counts as white space, because Label Studio writes line ends in this form.
    """
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
    """Return the start and the end of a mention in code points.

    The result is None if the offsets are not within the text, or do not select the stated text.
    """
    spans = _spans(mention, ruler)
    if not spans:
        return None
    start, end = min(start for start, _ in spans), max(end for _, end in spans)
    if mention.stated is not None:
        # The stated text of a discontinuous mention consists of its fragments, in the order of the file or of the text.
        # In some files, it consists of all characters from the first to the last fragment.
        orders = (spans, sorted(spans), [(start, end)])
        pieces = ("".join(document.text[a:b] for a, b in order) for order in orders)
        if not any(same_text(piece, mention.stated) for piece in pieces):
            return None
    return start, end


def fits(document: RawDocument, mention: RawMention, units: Sequence[Unit]) -> bool:
    """Return whether a mention is within the text and selects its stated text in at least one of the units."""
    return any(_fit(document, mention, _ruler(document.text, unit)) is not None for unit in units)


def _misfits(document: RawDocument, unit: Unit) -> tuple[int, int]:
    """Count the errors of the mentions of a document, assuming that their offsets are in the given unit.

    Returns:
        The number of mentions that are outside the text or do not select their stated text; and the number of mentions
        without a stated text that start or end inside a word or at white space.
    """
    ruler = _ruler(document.text, unit)
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
    """Return the unit in which the offsets of a file have the fewest errors, see `_misfits`.

    If several units have equally few errors, the first of them is returned.
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
            "%s: %d mentions start or end inside a word if offsets count %s; the file does not contain their texts, so "
            "check them.",
            unclear[0].where,
            cuts,
            best.name,
        )
    return best


def locate(
    documents: Sequence[RawDocument], units: Sequence[Unit] = PYTHON_UNITS, repair_within: int = 0
) -> list[list[tuple[int, int, RawMention]]]:
    """Return, for each document, its mentions with start and end in code points, without white space at their edges.

    Arguments and errors are the same as for `align`.
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
        rulers = [_ruler(document.text, unit) for unit in ordered] if document.mentions else []
        for mention in document.mentions:
            # Without a stated text, no other unit can be verified. So try other units only if there is one.
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
                problems.append(
                    f"{mention.where}: the mention at {span[0]}..{span[1]} contains only blanks; remove it."
                )
            elif not mention.label.strip():
                problems.append(f"{mention.where}: the mention {document.text[start:end]!r:.60} has no type.")
            located[-1].append((start, end, mention))
    if problems:
        raise DataError.of(problems)
    return located


def align(
    documents: Sequence[RawDocument], units: Sequence[Unit] = PYTHON_UNITS, repair_within: int = 0
) -> list[Document]:
    """Convert the offsets of mentions into code points, and check that they select the stated texts.

    One unit is chosen for all documents, see `choose_unit`. If the offsets of a mention select its stated text only in
    another unit, this unit is used for the mention. White space at the start and end of mentions, and duplicate
    mentions, are removed.

    Args:
        documents: the documents of one file.
        units: possible units of the offsets. If several units have equally few errors, the first of them is used.
        repair_within: maximum number of characters by which a mention may be moved, for corpora with wrong offsets. A
            mention is moved to its stated text if its offsets are wrong in all units. If this text does not occur
            within the distance, the mention is removed. Warnings report moved and removed mentions. 0 raises an error
            instead.

    Raises:
        DataError: a mention is outside the text, does not select its stated text, is blank or has no type; or a text
            contains a lone surrogate (half of a UTF-16 pair). `DataError.problems` contains all these errors.
    """
    aligned = []
    for document, mentions in zip(documents, locate(documents, units, repair_within), strict=True):
        entities = dict.fromkeys(Mention(start, end, mention.label) for start, end, mention in mentions)
        aligned.append(Document(document.id, document.text, entities=tuple(entities), words=document.words))
    return aligned


def recounted(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Convert the offsets in a dictionary for `Document.from_dict` into code points.

    The texts of the entities (their "text" or "word") determine the unit. The dictionary is returned unchanged if no
    entity has a text, or if all offsets are already in code points.

    Raises:
        DataError: the offsets of an entity do not select its text in any unit.
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
            return data  # `Document.from_dict` will raise an error for these offsets
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
        f"(units tried: {counted}); correct the offsets or the text."
    )


def _nearby(text: str, mention: RawMention, distance: int) -> tuple[int, int] | None:
    start, end = (sum(o) if isinstance(o, tuple) else o for o in mention.fragments[0])
    wanted = (mention.stated or "").strip()
    found = text.find(wanted, max(0, start - distance), end + distance)
    if found >= 0:
        logger.warning(
            "%s: %r occurs at %d, not at %d; moved the mention to its text.", mention.where, wanted, found, start
        )
        return found, found + len(wanted)
    logger.warning(
        "%s: the text at %d..%d is %r, not %r; left out the mention.",
        mention.where,
        start,
        end,
        text[start:end],
        wanted,
    )
    return None


def distinct_ids(documents: Iterable[Document]) -> list[Document]:
    """Make the ids of documents distinct: the second "a" becomes "a-2"."""
    return list(with_distinct_ids(documents))


def with_distinct_ids(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield documents with distinct ids, one by one; see `distinct_ids`."""
    seen: dict[str, int] = {}
    for document in documents:
        identifier, number = document.id, seen.get(document.id, 0)
        while identifier in seen:
            number += 1
            identifier = f"{document.id}-{number}"
        seen[document.id] = max(number, 1)
        seen.setdefault(identifier, 1)
        yield document if identifier == document.id else replace(document, id=identifier)
