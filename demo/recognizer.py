"""The model of the page: loaded once, used by one request at a time."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from transformers import Pipeline, pipeline

Function = TypeVar("Function", bound=Callable[..., Any])
_HERE = Path(__file__).parent

with suppress(ImportError):
    import modeling_binder  # noqa: F401  registers the pipeline

try:  # on ZeroGPU Spaces, decorated functions get a GPU while they run; their arguments and results are pickled
    import spaces

    gpu: Callable[[Function], Function] = spaces.GPU
except ImportError:

    def gpu(function: Function) -> Function:
        """Return the function unchanged: no GPU has to be requested."""
        return function


def model_id() -> str:
    """Return the model to show: BINDER_MODEL, the model of the Space (model_id.txt), or the checkpoint demo/model.

    Raises:
        FileNotFoundError: none of them is there.
    """
    if named := os.environ.get("BINDER_MODEL"):
        return named
    if (_HERE / "model_id.txt").exists():
        return (_HERE / "model_id.txt").read_text(encoding="utf-8").strip()
    if (_HERE / "model" / "config.json").exists():
        return str(_HERE / "model")
    raise FileNotFoundError(
        "there is no model to show: run `make demo`, or set BINDER_MODEL to a checkpoint, as in "
        "BINDER_MODEL=checkpoints/quickstart python -m demo.app."
    )


@cache
def recognizer() -> Pipeline:
    """Return the pipeline. It is loaded once, and its cache of type vectors serves all users.

    The code is that of the installed package or, on the Hub, that of the model's repository.
    """
    remote = sys.modules.get("modeling_binder") is None
    return pipeline("binder-ner", model=model_id(), trust_remote_code=remote)


def own_types() -> dict[str, str]:
    """Return the types of the model, name -> description; empty for a model without types of its own."""
    return dict(recognizer().model.config.type_descriptions)


@gpu
def find(text: str, types: Mapping[str, str], **options: Any) -> list[dict[str, Any]]:
    """Find the entities of a text."""
    return list(recognizer()(text, entity_types=dict(types), **options))


@gpu
def find_all(texts: list[str], types: Mapping[str, str], **options: Any) -> Iterator[list[dict[str, Any]]]:
    """Find the entities of each text; the results of a text are yielded when they are ready.

    The texts are a list, because the arguments are pickled on ZeroGPU.
    """
    yield from recognizer()(iter(texts), entity_types=dict(types), **options)


@gpu
def margins(text: str, types: Mapping[str, str], position: int, words: int) -> tuple[list[tuple[int, int]], Any]:
    """Return the margins of the spans around a character; see the method `margins` of the pipeline."""
    return recognizer().margins(text, dict(types), position=position, words=words)
