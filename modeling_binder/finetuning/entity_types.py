"""Read the entity types of a corpus from types.json: their names, descriptions and parents."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DataError
from .files import read_lines, surrogate_problem


@dataclass(frozen=True, slots=True)
class EntityType:
    """An entity type of a corpus.

    Args:
        name: the label of its mentions.
        phrasings: one or several descriptions of the type. The first description is the default.
        parent: name of a broader type of the same corpus ("person" for "politician"). A mention of "politician" also
            counts as a mention of "person" in every text that is annotated for "person".
    """

    name: str
    phrasings: tuple[str, ...]
    parent: str | None = None

    @property
    def description(self) -> str:
        return self.phrasings[0]


def read_entity_types(path: str | Path) -> list[EntityType]:
    """Read entity types from a JSON file, in the order of the file.

    The file is an object. It maps each name to a description, a list of descriptions, or `{"description": ...,
    "parent": name}`.

    Raises:
        DataError: the file is not a JSON object, or has no types or malformed types; see `parse_entity_types`.
    """
    path = Path(path)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        if twice:
            raise DataError(f"{path}: the type {twice[0]!r} occurs twice; names must differ.")
        return dict(pairs)

    try:
        types = json.loads("\n".join(read_lines(path, "entity types")), object_pairs_hook=unique)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); expected an object name -> description.") from None
    if not isinstance(types, dict):
        raise DataError(f"{path}: expected an object name -> description, got {type(types).__name__}.")
    return parse_entity_types(types, path)


def parse_entity_types(types: Mapping[str, Any], source: str | Path) -> list[EntityType]:
    """Convert the content of types.json into `EntityType` objects.

    Args:
        types: name -> description, list of descriptions, or `{"description": ..., "parent": name}`.
        source: name of the file or corpus, for error messages.

    Raises:
        DataError: the mapping is empty; a name or a description is blank or not a string; two types have the same
            description; a parent is not a type of the mapping; or a type is its own ancestor.
    """
    if not types:
        raise DataError(f'{source}: there are no entity types; write {{"Disease": "The name of a disease."}}.')
    problems: list[str] = []
    parsed = [_entity_type(name, value, source, problems) for name, value in types.items()]
    owners: dict[str, str] = {}
    for entity_type in parsed:
        for phrasing in entity_type.phrasings:
            owner = owners.setdefault(phrasing.strip().casefold(), entity_type.name)
            if owner != entity_type.name:
                problems.append(
                    f"{source}: the types {owner!r} and {entity_type.name!r} have the same description "
                    f"{phrasing!r:.80}, so the model cannot distinguish them; describe how they differ."
                )
    parents = {entity_type.name: entity_type.parent for entity_type in parsed}
    for name, parent in parents.items():
        if parent is not None and parent not in parents:
            problems.append(
                f"{source}: {name}.parent is {parent!r}, which is not a type of this file; add it with a description."
            )
    for name in parents:
        line = [name]
        while (parent := parents.get(line[-1])) is not None and parent not in line:
            line.append(parent)
        if parent == name:
            problems.append(f"{source}: {name}.parent makes the type its own ancestor ({' -> '.join([*line, name])}).")
    if problems:
        raise DataError.of(problems)
    return parsed


def _entity_type(name: Any, value: Any, source: str | Path, problems: list[str]) -> EntityType:
    parent = None
    field = f"{name}"
    if not isinstance(name, str) or not name.strip():
        problems.append(f"{source}: a type has a blank name.")
    if isinstance(value, Mapping):
        unknown = [key for key in value if key not in ("description", "parent")]
        if unknown:
            problems.append(f"{source}: {name}.{unknown[0]} is not a field of a type; use description and parent.")
        parent, value, field = value.get("parent"), value.get("description"), f"{name}.description"
        if parent is not None and not isinstance(parent, str):
            problems.append(f"{source}: {name}.parent must be the name of a type, got {parent!r:.60}.")
            parent = None
    phrasings = list(value) if isinstance(value, (list, tuple)) else [value]
    if not phrasings:
        phrasings = [None]
    for index, phrasing in enumerate(phrasings):
        if not isinstance(phrasing, str) or not phrasing.strip():
            place = f"{field}[{index}]: " if isinstance(value, (list, tuple)) and value else ""
            problems.append(
                f"{source}: {place}the type {name!r} needs a description (a sentence that says what it is), "
                f"got {phrasing!r}."
            )
    for text in (name, *phrasings):
        if isinstance(text, str) and (problem := surrogate_problem(text)):
            problems.append(f"{source}: {text!a:.80}, of the type {name!a}, {problem}.")
    return EntityType(str(name), tuple(dict.fromkeys(str(text) for text in phrasings)), parent)


def read_types(path: str | Path) -> dict[str, str]:
    """Read entity types as name -> first description; see `read_entity_types`."""
    return {entity_type.name: entity_type.description for entity_type in read_entity_types(path)}


def as_mapping(types: Iterable[EntityType]) -> dict[str, Any]:
    """Convert types into the content of types.json, which `parse_entity_types` accepts."""
    mapping: dict[str, Any] = {}
    for entity_type in types:
        texts = list(entity_type.phrasings)
        description = texts if len(texts) > 1 else texts[0]
        parent = entity_type.parent
        mapping[entity_type.name] = {"description": description, "parent": parent} if parent else description
    return mapping


def ancestors(types: Iterable[EntityType]) -> dict[str, tuple[str, ...]]:
    """Return the ancestors of each type: name -> its parent, the parent of its parent, and so on."""
    parents = {entity_type.name: entity_type.parent for entity_type in types}
    lines: dict[str, tuple[str, ...]] = {}
    for name in parents:
        line: list[str] = []
        parent = parents[name]
        while parent is not None:
            line.append(parent)
            parent = parents.get(parent)
        lines[name] = tuple(line)
    return lines
