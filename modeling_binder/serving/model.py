"""The model behind the server: load the pipeline, and answer the requests of a pass."""

import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .requests import FindRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """The answer to a request: an HTTP status, and the content of its JSON."""

    status: int
    content: Any = field(repr=False)


@dataclass(frozen=True)
class ModelOptions:
    """How to load the pipeline, and with which arguments to call it.

    Args:
        model: a folder, or a repository on the Hub.
        loading: further arguments of `pipeline(...)`, such as `device` or `dtype`.
        defaults: arguments of a call, such as `entity_types`, for requests that lack them.
    """

    model: str
    loading: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)


def load_model(options: ModelOptions) -> Any:
    """Load the pipeline and run it once.

    Raises:
        ValueError: the model cannot be loaded, or a default is out of range.
    """
    from ..loading import load_pipeline

    found = load_pipeline(options.model, **options.loading)
    warm_up(found, options.defaults)
    return found


def warm_up(pipeline: Any, defaults: dict[str, Any]) -> None:
    """Run a pipeline once, so that a wrong default fails now and the first request is not slower.

    Raises:
        ValueError: a default is out of range.
    """
    if defaults.get("entity_types") is None and not pipeline.model.config.entity_types:
        defaults = {**defaults, "entity_types": ["any"]}  # requests of this server must name their types
    pipeline("", **defaults)


def run_pass(pipeline: Any, requests: Sequence[FindRequest]) -> list[Answer]:
    """Answer requests with the same parameters in one call of the pipeline. It never raises.

    If the call fails, every request is repeated alone: only the one at fault gets the error, and a message that quotes
    a text goes only to the client that sent the text.

    Args:
        pipeline: a `BinderNerPipeline`.
        requests: at least one, with equal keys.
    """
    try:
        found = pipeline([text for request in requests for text in request.texts], **requests[0].parameters)
    except Exception as error:
        if len(requests) > 1:
            return [answer for request in requests for answer in run_pass(pipeline, [request])]
        if isinstance(error, ValueError):
            return [Answer(422, {"error": str(error)})]
        if isinstance(error, TypeError):
            return [Answer(422, {"error": f"a parameter has a wrong type: {error}"})]
        return [internal_error(error)]
    answers, begin = [], 0
    for request in requests:
        results = found[begin : begin + len(request.texts)]
        begin += len(request.texts)
        answers.append(Answer(200, results[0] if request.is_single else results))
    return answers


def internal_error(error: BaseException) -> Answer:
    """Log an unexpected error and return the answer to its request.

    The log shows the kind of the error and where it was raised. Its message may quote a text, so it is left out.
    """
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s while answering a request:\n%s", type(error).__name__, places)
    return Answer(500, {"error": "the server failed on this request; its log says where."})
