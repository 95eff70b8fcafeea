"""Read and check requests. Their JSON has the format of the handler for Inference Endpoints (`hub_cards.handler`)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from hub_cards.handler import parse_request

MIN_WINDOW = 16  # lowest `max_length` of a request, in tokens; very short windows would make a text expensive
MAX_BYTES_PER_CHARACTER = 12  # JSON may write a character as two escapes \uXXXX
EXTRA_BYTES = 2**16  # allowance for the punctuation and the keys in the JSON of a request


class RequestError(Exception):
    """The server rejects a request.

    Args:
        status: HTTP status.
        sentence: error message for the client: what is wrong and what is expected.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


@dataclass(frozen=True)
class Limits:
    """Limits of a request, of a pass of the model (see `batching`) and of the queue.

    Args:
        max_characters: maximum number of characters in the texts and the entity types of a request. All requests of a
            pass together have the same maximum.
        max_texts: maximum number of texts in a request.
        max_types: maximum number of entity types in a request.
        max_batch_size: maximum value of the parameter `batch_size` (windows in a batch).
        min_threshold: minimum value of the parameter `threshold`. With the threshold 0, the answer would contain every
            span of the text.
        max_queue: maximum number of requests that wait for a pass. The server rejects more requests with status 429.
        max_requests: maximum number of requests in a pass.

    Raises:
        ValueError: a limit is out of range.
    """

    max_characters: int = 100_000
    max_texts: int = 1_000
    max_types: int = 1_000
    max_batch_size: int = 64
    min_threshold: float = 0.01
    max_queue: int = 256
    max_requests: int = 64

    def __post_init__(self) -> None:
        for limit in fields(self):
            value, least = getattr(self, limit.name), 0 if limit.name == "min_threshold" else 1
            if value < least:
                raise ValueError(f"{limit.name} must be at least {least}, got {value}.")

    @property
    def max_bytes(self) -> int:
        """Maximum number of bytes of a request body with `max_characters` characters, even if all are escaped."""
        return MAX_BYTES_PER_CHARACTER * self.max_characters + EXTRA_BYTES


@dataclass(frozen=True, eq=False)
class FindRequest:
    """A request that has been checked.

    Args:
        texts: the texts; with `is_split_into_words`, each text is a list of words. `repr` leaves them out, so that
            they do not appear in logs.
        is_single: the request has a single text instead of a list. Then the answer is the result of this text, not a
            list of results.
        parameters: arguments for the call of the pipeline.
        key: a string that is equal for requests with the same parameters and the same order of entity types.
        characters: number of characters in the texts and the entity types.
    """

    texts: list[Any] = field(repr=False)
    is_single: bool
    parameters: dict[str, Any] = field(repr=False)
    key: str = field(repr=False)
    characters: int


def read_request(
    body: bytes, limits: Limits, max_length: int, defaults: Mapping[str, Any] = MappingProxyType({})
) -> FindRequest:
    """Read and check the body of a request.

    Args:
        body: JSON in the format of `hub_cards.handler.EndpointHandler`.
        limits: limits of a request.
        max_length: tokens in a window, if the request does not set `max_length`.
        defaults: parameters that the request may replace. The limits do not apply to the defaults.

    Raises:
        RequestError: with status 413 if the request exceeds a limit, and 422 if it is malformed.
    """
    try:
        data = json.loads(body, object_pairs_hook=_unique)
        inputs, parameters = parse_request(data)
        characters = _characters(inputs) + _characters(parameters.get("entity_types"))
        _check_surrogates(data)
    except RecursionError:
        raise RequestError(422, "the body is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise RequestError(422, f"the body is not JSON: {error}.") from None
    except UnicodeError:
        raise RequestError(422, "the body must be JSON in UTF-8, without halves of surrogate pairs.") from None
    except ValueError as error:
        raise RequestError(422, str(error)) from None
    is_split = parameters.get("is_split_into_words", False)
    is_single = isinstance(inputs, str) or (is_split and all(isinstance(word, str) for word in inputs))
    texts = [inputs] if is_single else inputs
    _check_size(texts, parameters, characters, limits)
    _check_windows(parameters, limits, max_length)
    _check_thresholds(parameters.get("threshold"), limits)
    parameters = {**defaults, **parameters}
    key = json.dumps(sorted(parameters.items()))
    return FindRequest(texts, is_single, parameters, key, characters)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dictionary. Raise if a key appears twice (`json` would keep only the last value)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.80} appears twice in an object.")
    return found


def _characters(value: Any) -> int:
    """Return the number of characters of all strings in a JSON value, plus one for each item of a list."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(name) + _characters(child) for name, child in value.items())
    return sum(1 + _characters(child) for child in value) if isinstance(value, list) else 0


def _check_surrogates(data: Any) -> None:
    # The answer repeats words and labels, and it must be UTF-8. Half of a surrogate pair cannot be written as UTF-8.
    json.dumps(data, ensure_ascii=False).encode("utf-8")


def _check_size(texts: list[Any], parameters: dict[str, Any], characters: int, limits: Limits) -> None:
    types = parameters.get("entity_types")
    num_types = len(types) if isinstance(types, (list, dict)) else 1
    for number, most, things in (
        (characters, limits.max_characters, "characters in the texts and the entity types"),
        (len(texts), limits.max_texts, "texts"),
        (num_types, limits.max_types, "entity types"),
    ):
        if number > most:
            raise RequestError(
                413,
                f"the request has {number:,} {things}, and this server accepts at most {most:,}: split the request.",
            )


def _check_windows(parameters: dict[str, Any], limits: Limits, max_length: int) -> None:
    """Check the parameters of windows. Short or strongly overlapping windows would make a text expensive."""
    numbers = {name: parameters[name] for name in ("max_length", "stride", "batch_size") if name in parameters}
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise RequestError(422, f"{name} must be a whole number, got {value!r:.80}.")
    window = numbers.get("max_length", max_length)
    if window < MIN_WINDOW:
        raise RequestError(422, f"max_length must be at least {MIN_WINDOW} on this server, got {window}.")
    if 2 * numbers.get("stride", 0) > window:
        raise RequestError(
            422, f"stride must be at most half of max_length ({window}) on this server, got {numbers['stride']}."
        )
    if numbers.get("batch_size", 1) > limits.max_batch_size:
        raise RequestError(
            422, f"batch_size must be at most {limits.max_batch_size} on this server, got {numbers['batch_size']}."
        )


def _check_thresholds(threshold: Any, limits: Limits) -> None:
    for value in threshold.values() if isinstance(threshold, Mapping) else [threshold]:
        if isinstance(value, (int, float)) and 0 <= value < limits.min_threshold:
            raise RequestError(
                422,
                f"threshold must be at least {limits.min_threshold} on this server, got {value}: a lower threshold "
                "returns nearly every span of a text.",
            )
