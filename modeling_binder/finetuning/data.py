"""Documents with mentions, and the JSONL format in which they are stored.

Each line of a file is an object with "id", "text" and "entities", see `Document.from_dict`. The module `entity_types`
defines the functions for entity types. They can also be imported from this module.
"""

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .entity_types import EntityType as EntityType
from .entity_types import ancestors as ancestors
from .entity_types import as_mapping as as_mapping
from .entity_types import parse_entity_types as parse_entity_types
from .entity_types import read_entity_types as read_entity_types
from .entity_types import read_types as read_types
from .errors import DataError as DataError
from .files import read_lines as read_lines
from .files import stem_of, surrogate_problem
from .files import write_json as write_json
from .files import written_whole as written_whole


@dataclass(frozen=True, slots=True, order=True)
class Mention:
    """A mention: the characters text[start:end], counted in code points, and the name of its entity type."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its mentions. Mentions may be nested in each other, or overlap only partly.

    Args:
        id: id of the document, unique within a file.
        text: the text.
        entities: the mentions.
        words: character spans (start, end) of the words, sorted and without overlap. `None` means that `split_words`
            splits the text.
        undecided: character spans that may or may not be mentions, for example in automatically annotated texts.
            Training ignores these spans: they are not used as mentions or as negatives.
        types: names of the types that the text is annotated for. Training and evaluation ignore all other types in this
            text. `None` means that the text is annotated for all types of the corpus.
    """

    id: str
    text: str
    entities: tuple[Mention, ...] = ()
    words: tuple[tuple[int, int], ...] | None = None
    undecided: tuple[tuple[int, int], ...] = ()
    types: tuple[str, ...] | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], default_id: str = "") -> "Document":
        """Create a document from a dictionary, such as a line of a JSONL file.

        The keys are "text", and optionally "id", "entities", "words", "undecided" and "types". An entity has "start",
        "end" and "label". If it also has the field "text" or "word", the offsets must select this text. Offsets in
        other units, such as UTF-16 units, are then converted into code points.

        Args:
            data: the dictionary.
            default_id: id of the document if `data` has none.

        Raises:
            DataError: a field is missing, has a wrong type or is out of range; the message names each such field.
        """
        from .offsets import recounted  # avoids a circular import, because `offsets` imports this module

        text, problems = data.get("text"), []
        if not isinstance(text, str):
            raise DataError.of([f"'text' must be a string, got {text!r:.60}"])
        if problem := surrogate_problem(text):
            raise DataError.of([f"'text' {problem}"])
        identifier = default_id if data.get("id") is None else data["id"]
        if isinstance(identifier, bool) or not isinstance(identifier, (str, int)):
            problems.append(f"'id' must be a string, got {identifier!r:.60}")
        elif problem := surrogate_problem(str(identifier)):
            problems.append(f"'id' {problem}")
        data = recounted(data)
        entities = [] if data.get("entities") is None else data["entities"]
        if not isinstance(entities, (list, tuple)):
            problems.append(f"'entities' must be a list, got {entities!r:.60}")
            entities = []
        found = [_mention(entity, f"entities[{index}]", text, problems) for index, entity in enumerate(entities)]
        mentions = dict.fromkeys(mention for mention in found if mention is not None)  # without duplicates
        words = _words(data.get("words"), text, problems)
        undecided = _undecided(data.get("undecided"), text, problems)
        types = _types(data.get("types"), mentions, problems)
        if problems:
            raise DataError.of(problems)
        return cls(str(identifier), text, tuple(mentions), words, undecided, types)

    def to_dict(self) -> dict[str, Any]:
        """Convert the document into a dictionary that `from_dict` accepts.

        If the document has no words, undecided spans or types, the keys "words", "undecided" and "types" are missing.
        """
        entities = [{"start": m.start, "end": m.end, "label": m.label} for m in self.entities]
        output: dict[str, Any] = {"id": self.id, "text": self.text, "entities": entities}
        if self.words is not None:
            output["words"] = [list(word) for word in self.words]
        if self.undecided:
            output["undecided"] = [list(span) for span in self.undecided]
        if self.types is not None:
            output["types"] = list(self.types)
        return output


def _is_offset(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mention(entity: Any, field: str, text: str, problems: list[str]) -> Mention | None:
    if isinstance(entity, Mention):
        entity = asdict(entity)
    if not isinstance(entity, Mapping):
        problems.append(f"'{field}' must be {{'start', 'end', 'label'}}, got {entity!r:.60}")
        return None
    fields: list[Any] = [entity.get(name) for name in ("start", "end", "label")]
    (start, end, label), before = fields, len(problems)
    for name, value in (("start", start), ("end", end)):
        if not _is_offset(value):
            problems.append(f"'{field}.{name}' must be an integer, got {value!r:.60}")
    if not isinstance(label, str) or not label.strip():
        problems.append(f"'{field}.label' must be the name of an entity type, got {label!r:.60}")
    elif problem := surrogate_problem(label):
        problems.append(f"'{field}.label' {problem}")
    if len(problems) == before and not 0 <= start < end <= len(text):
        problems.append(
            f"'{field}' spans {start}..{end} in a text of {len(text)} characters; expected "
            f"0 <= start < end <= {len(text)}, counted in code points, end exclusive"
        )
    return Mention(start, end, label) if len(problems) == before else None


def _words(words: Any, text: str, problems: list[str]) -> tuple[tuple[int, int], ...] | None:
    if words is None:
        return None
    if not isinstance(words, (list, tuple)):
        problems.append(f"'words' must be a list of [start, end], got {words!r:.60}")
        return None
    spans, position = [], 0
    for index, word in enumerate(words):
        if not isinstance(word, (list, tuple)) or len(word) != 2 or not all(_is_offset(offset) for offset in word):
            problems.append(f"'words[{index}]' must be [start, end], got {word!r:.60}")
            break
        start, end = word
        if not position <= start < end <= len(text):
            problems.append(
                f"'words[{index}]' spans {start}..{end}; words must be sorted, not overlap, not be empty, and lie in "
                f"the text (this word must lie within {position}..{len(text)})"
            )
            break
        spans.append((start, end))
        position = end
    return tuple(spans)


def _undecided(spans: Any, text: str, problems: list[str]) -> tuple[tuple[int, int], ...]:
    found = []
    for index, span in enumerate([] if spans is None else spans if isinstance(spans, (list, tuple)) else [spans]):
        pair = isinstance(span, (list, tuple)) and len(span) == 2 and all(_is_offset(offset) for offset in span)
        if pair and 0 <= span[0] < span[1] <= len(text):
            found.append((span[0], span[1]))
        else:
            problems.append(f"'undecided[{index}]' must be [start, end] within the text, got {span!r:.60}")
    return tuple(found)


def _types(types: Any, mentions: Iterable[Mention], problems: list[str]) -> tuple[str, ...] | None:
    if types is None:
        return None
    if not isinstance(types, (list, tuple)):
        problems.append(f"'types' must be a list of names of entity types, got {types!r:.60}")
        return None
    for index, name in enumerate(types):
        if not isinstance(name, str) or not name.strip():
            problems.append(f"'types[{index}]' must be the name of an entity type, got {name!r:.60}")
            return None
    for label in dict.fromkeys(mention.label for mention in mentions):
        if label not in types:
            problems.append(f"'types' does not contain {label!r}, the label of a mention: add it, or remove 'types'")
    return tuple(dict.fromkeys(types))


def as_documents(examples: Iterable[Any]) -> list[Document]:
    """Convert dictionaries, such as the rows of a `datasets.Dataset`, into documents. Documents remain unchanged.

    Raises:
        DataError: a dictionary is malformed; the message names the row and the field.
    """
    documents, problems = [], []
    for index, example in enumerate(examples):
        if isinstance(example, Document):
            documents.append(example)
        elif isinstance(example, Mapping):
            try:
                documents.append(Document.from_dict(example, default_id=str(index)))
            except DataError as error:
                problems += [f"row {index}: {problem}." for problem in error.problems]
        else:
            problems.append(f"row {index}: expected a Document or a dictionary, got {type(example).__name__}.")
    if problems:
        raise DataError.of(problems)
    return documents


def read_jsonl(path: str | Path) -> list[Document]:
    """Read documents from a JSONL file with one object per line, see `Document.from_dict`.

    Blank lines and unknown fields are ignored. A missing id becomes "<file>-<line>". "entities" is required; a text
    without mentions has [].

    Raises:
        DataError: a line is malformed. The message names the file, the line and the field of the first problems, and
            the number of all problems.
    """
    path = Path(path)
    documents: list[Document] = []
    problems: list[str] = []
    lines_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            # `str(error)` would add "line 1", because each line is parsed separately
            reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            problems.append(f"{where}: not valid JSON ({reason}); expected one object per line.")
            continue
        if not isinstance(data, dict):
            problems.append(f"{where}: expected an object with 'text' and 'entities', got {type(data).__name__}.")
            continue
        if "entities" not in data:  # otherwise, a misspelt key would give texts without mentions
            keys = ", ".join(map(repr, data)) or "nothing"
            problems.append(
                f"{where}: 'entities' is missing (the keys are {keys:.80}); a text without mentions needs []."
            )
        try:
            document = Document.from_dict(data, default_id=f"{stem_of(path)}-{number}")
        except DataError as error:
            problems += [f"{where}: {problem}." for problem in error.problems]
            continue
        if document.id in lines_of:
            problems.append(f"{where}: the id {document.id!r} is also the id of line {lines_of[document.id]}.")
        lines_of.setdefault(document.id, number)
        documents.append(document)
    if problems:
        raise DataError.of(problems)
    return documents


def write_jsonl(path: str | Path, documents: Iterable[Document]) -> None:
    """Write documents to a JSONL file with one object per line.

    A file whose name ends in ".gz" is compressed. If an error occurs, an existing file stays unchanged.
    """
    with written_whole(path) as file:
        for document in documents:
            file.write(json.dumps(document.to_dict(), ensure_ascii=False) + "\n")


def with_ancestors(documents: Iterable[Document], types: Iterable[EntityType]) -> list[Document]:
    """Add a mention for each ancestor of a type: a mention of "politician" is also a mention of "person".

    If a document has `Document.types`, ancestors that are not in this list are not added, because the text is not
    annotated for them.
    """
    lines = {name: line for name, line in ancestors(types).items() if line}
    if not lines:
        return list(documents)
    extended = []
    for document in documents:
        further = [
            Mention(mention.start, mention.end, name)
            for mention in document.entities
            for name in lines.get(mention.label, ())
            if document.types is None or name in document.types
        ]
        if further:
            document = replace(document, entities=tuple(dict.fromkeys([*document.entities, *further])))
        extended.append(document)
    return extended


def check_labels(
    documents: Sequence[Document],
    entity_types: Iterable[str],
    source: str | Path,
    place: str = "the types of the corpus (types.json)",
) -> None:
    """Check that all labels of mentions, and all names in `Document.types`, are entity types.

    Args:
        documents: the documents to check.
        entity_types: the names of the entity types.
        source: name of the file or corpus, for the error message.
        place: where the user defines descriptions, for the error message.

    Raises:
        DataError: a label or a name is not an entity type. For each unknown label, the message contains the number of
            its mentions, the first document, and the line to add to the descriptions.
    """
    names = set(entity_types)
    known = {name.casefold(): name for name in sorted(names)}
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for document in documents:
        for mention in document.entities:
            if mention.label not in names:
                first.setdefault(mention.label, document.id)
                counts[mention.label] += 1
    problems = [
        f"{source}: 'types' of document {document.id!r} contains {name!r}, which has no description. Describe the "
        f"type in {place}, or remove it from 'types'."
        for document in documents
        for name in document.types or ()
        if name not in names
    ]
    for label, count in counts.most_common():
        close = difflib.get_close_matches(label.casefold(), known, n=1)
        hint = f" Did you mean {known[close[0]]!r}?" if close else ""
        mentions = "1 mention" if count == 1 else f"{count} mentions"
        problems.append(
            f"{source}: the label {label!r} ({mentions}, first in document {first[label]!r}) has no "
            f"description.{hint} Add a line such as {json.dumps(label, ensure_ascii=False)}: "
            f'"One sentence that says what it is." to {place}.'
        )
    if problems:
        raise DataError.of(problems)
