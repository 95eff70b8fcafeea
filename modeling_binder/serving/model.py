"""Load the pipeline of the server, and answer the requests of a pass."""

import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .requests import FindRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """The answer to a request: an HTTP status, and the data of the JSON body."""

    status: int
    content: Any = field(repr=False)


@dataclass(frozen=True)
class ModelOptions:
    """Arguments for loading and calling the pipeline.

    Args:
        model: a folder, or an id on the Hub.
        loading: other arguments of `pipeline(...)`, such as `device` or `dtype`.
        defaults: arguments for calls of the pipeline, such as `entity_types`. A request may replace them.
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
    """Run a pipeline once. Then wrong defaults raise at the start, and the first request is as fast as later ones.

    Raises:
        ValueError: a default is out of range.
    """
    if defaults.get("entity_types") is None and not pipeline.model.config.entity_types:
        defaults = {**defaults, "entity_types": ["any"]}  # any type will do, because there is no default
    pipeline("", **defaults)


def run_pass(pipeline: Any, requests: Sequence[FindRequest]) -> list[Answer]:
    """Answer requests with the same parameters in one call of the pipeline. This function never raises.

    If the call fails, each request is repeated separately. Then only the request that causes the error gets the error.
    This matters for privacy too, because the error may quote a text.

    Args:
        pipeline: a `BinderNerPipeline`.
        requests: one or more requests with equal keys.
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

    The log contains the class and the traceback of the error. It does not contain the message, which may quote a text.
    """
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s while answering a request:\n%s", type(error).__name__, places)
    return Answer(500, {"error": "the server failed on this request; see its log."})
