"""The model behind the page: loaded once, asked by one request at a time."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from transformers import Pipeline, pipeline

Function = TypeVar("Function", bound=Callable[..., Any])

with suppress(ImportError):
    import modeling_binder  # noqa: F401  registers the pipeline

try:  # on the Hub, a GPU is lent to decorated functions for as long as they run
    import spaces

    gpu: Callable[[Function], Function] = spaces.GPU
except ImportError:

    def gpu(function: Function) -> Function:
        """There is no GPU to borrow."""
        return function


def model_id() -> str:
    """The model shown: BINDER_MODEL, or the line in model_id.txt."""
    named = os.environ.get("BINDER_MODEL")
    return named or (Path(__file__).parent / "model_id.txt").read_text(encoding="utf-8").strip()


@cache
def recognizer() -> Pipeline:
    """The pipeline, loaded once; it keeps the vectors of types by their descriptions, for everybody.

    Its code is the installed package's, or, on the Hub, what the model's own repository brings.
    """
    remote = sys.modules.get("modeling_binder") is None
    return pipeline("binder-ner", model=model_id(), trust_remote_code=remote)


def own_types() -> dict[str, str]:
    """The types that the model was trained with: name -> description."""
    return dict(recognizer().model.config.type_descriptions)


@gpu
def find(text: str, types: Mapping[str, str], **options: Any) -> list[dict[str, Any]]:
    """Entities of a text."""
    return list(recognizer()(text, entity_types=dict(types), **options))


@gpu
def find_all(texts: Iterable[str], types: Mapping[str, str], **options: Any) -> Iterator[list[dict[str, Any]]]:
    """Entities of each of many texts, as they are read."""
    yield from recognizer()((text for text in texts), entity_types=dict(types), **options)


@gpu
def margins(text: str, types: Mapping[str, str], position: int, words: int) -> tuple[list[tuple[int, int]], Any]:
    """Margins of the spans around a character; see the pipeline's `margins`."""
    return recognizer().margins(text, dict(types), position=position, words=words)
