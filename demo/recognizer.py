"""The model of the page. It is loaded once, and `app.build` lets only one request use it at a time."""

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

# On Spaces with ZeroGPU, functions decorated with `spaces.GPU` get a GPU while they run. They run in another process,
# so their arguments and results are pickled.
try:
    import spaces

    gpu: Callable[[Function], Function] = spaces.GPU
except ImportError:

    def gpu(function: Function) -> Function:
        """Return the function unchanged, because only ZeroGPU requires that functions request a GPU."""
        return function


def model_id() -> str:
    """Return the folder or the Hub id of the model of the page.

    These places are searched in this order:

    1. the environment variable BINDER_MODEL,
    2. the file model_id.txt, which `demo.deploy` writes for a Space,
    3. the checkpoint in demo/model.

    Raises:
        FileNotFoundError: no model was found.
    """
    if named := os.environ.get("BINDER_MODEL"):
        return named
    if (_HERE / "model_id.txt").exists():
        return (_HERE / "model_id.txt").read_text(encoding="utf-8").strip()
    if (_HERE / "model" / "config.json").exists():
        return str(_HERE / "model")
    raise FileNotFoundError(
        "the page has no model: run `make demo`, or set BINDER_MODEL to a checkpoint, as in "
        "BINDER_MODEL=checkpoints/quickstart python -m demo.app."
    )


@cache
def recognizer() -> Pipeline:
    """Return the pipeline. It is loaded once, and all users share its cache of type vectors.

    If the package is not installed, as on the Hub, the pipeline runs the code in the model's repository.
    """
    remote = sys.modules.get("modeling_binder") is None
    return pipeline("binder-ner", model=model_id(), trust_remote_code=remote)


def own_types() -> dict[str, str]:
    """Return the name and the description of each entity type of the model; empty if the model has no types."""
    return dict(recognizer().model.config.type_descriptions)


def tuned_thresholds() -> dict[str, float]:
    """Return the tuned thresholds of the model's own types; types without a tuned threshold are left out."""
    return dict(getattr(recognizer().model.config, "thresholds", None) or {})


@gpu
def find(text: str, types: Mapping[str, str], **options: Any) -> list[dict[str, Any]]:
    """Find the entities of a text."""
    return list(recognizer()(text, entity_types=dict(types), **options))


@gpu
def find_all(texts: list[str], types: Mapping[str, str], **options: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield the entities of each text as soon as they are found.

    The texts must be a list, because ZeroGPU pickles the arguments and cannot pickle an iterator.
    """
    yield from recognizer()(iter(texts), entity_types=dict(types), **options)


@gpu
def margins(text: str, types: Mapping[str, str], position: int, words: int) -> tuple[list[tuple[int, int]], Any]:
    """Return words around a character position and the margins of their spans; see the pipeline's method `margins`."""
    return recognizer().margins(text, dict(types), position=position, words=words)
