"""Read the records (objects) of JSON files, and check the values of their fields."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..files import read_text

# Fields of Label Studio with the labels of a region, for all kinds of texts
LABEL_LISTS = ("labels", "hypertextlabels", "paragraphlabels", "htmllabels")


class Record(NamedTuple):
    """An object in a JSON file, and its position for error messages: "FILE:LINE" or "FILE: record N"."""

    where: str
    data: Mapping[str, Any]


def read_records(path: str | Path, expected: str, name: str = "record") -> list[Record]:
    """Return the objects of a file that contains a JSON list, a single JSON object, or one JSON object per line.

    Args:
        path: the file.
        expected: the content that an object should have, for error messages.
        name: the word for an object in error messages, such as "task".

    Raises:
        DataError: a line is not JSON, a record is not an object, or the file is empty.
    """
    text = read_text(path)
    parts = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    whole = text.lstrip()[:1] == "[" or (len(parts) > 1 and _is_json(text))
    values: list[tuple[str, Any]] = []
    for number, part in [(1, text)] if whole else parts:
        try:
            value = json.loads(part)
        except (ValueError, RecursionError) as error:
            # Lines are parsed separately. So the line number in `str(error)` of a JSONDecodeError may be wrong.
            line, reason = number, str(error)
            if isinstance(error, json.JSONDecodeError):
                line, reason = error.lineno if whole else number, f"{error.msg} at column {error.colno}"
            raise DataError(f"{path}:{line}: not valid JSON ({reason}); expected {expected}.") from None
        if whole and isinstance(value, list):
            values += [(f"{path}: {name} {index}", item) for index, item in enumerate(value, 1)]
        else:
            values.append((f"{path}:{number}", value))
    if not values:
        raise DataError(f"{path}: there is no {name} in this file; expected {expected}.")
    for where, value in values:
        if not isinstance(value, Mapping):
            raise DataError(f"{where}: expected an object with {expected}, got {value!r:.60}.")
    return [Record(where, value) for where, value in values]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def text_of(data: Mapping[str, Any], field: str, where: str, option: str = "") -> str:
    """Return the value of a field, which must be a string.

    Args:
        data: the record.
        field: the name of the field.
        where: file and record, for the error message.
        option: advice for the error message: the option to use if another field contains the text.

    Raises:
        DataError: the field is missing or not a string. The message lists the fields of the record.
    """
    value = data.get(field)
    if not isinstance(value, str):
        found = f"it is {value!r:.60}" if field in data else f"the fields are {', '.join(map(repr, data)) or 'none'}"
        raise DataError(f"{where}: expected a string in {field!r}, but {found:.200}.{option}")
    return value


def offset_of(value: Any, name: str, where: str) -> int:
    """Return an offset, which must be an integer.

    Raises:
        DataError: the value has another type; the message names the field.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{where}: {name!r} must be an integer, got {value!r:.60}.")
    return value


def list_of(value: Any, name: str, where: str) -> list[Any]:
    """Return the value of a field, which must be a list. None counts as an empty list.

    Raises:
        DataError: the value has another type; the message names the field.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{where}: {name!r} must be a list, got {value!r:.60}.")
    return value


def is_labelled_span(value: Any) -> bool:
    """Return whether a value is a mention as doccano writes it: [start, end, type]."""
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(offset, int) for offset in value[:2])
        and isinstance(value[2], str)
    )


def label_of(value: Any, where: str) -> str:
    """Return an entity type, which must be a string.

    Raises:
        DataError: the value is not a string, for example a class number, or is blank.
    """
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: expected the name of an entity type, got {value!r:.60}.")
    return value


def identifier_of(data: Mapping[str, Any], default: str, key: str = "id") -> str:
    """Return the id of a record as a string, or the default if the record has no id."""
    value = data.get(key)
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value) else default
