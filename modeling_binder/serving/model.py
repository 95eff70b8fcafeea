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
    """How to load the pipeline.

    Args:
        model: a folder, or a repository on the Hub.
        options: further arguments of `pipeline(...)`, such as `device`, `dtype` or `entity_types`.
        threads: of the model on a CPU; None leaves it to torch.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    threads: int | None = None


def load_model(options: ModelOptions) -> Any:
    """Load the pipeline and run it once, so that a wrong option fails now and the first request is not slower.

    Raises:
        Exception: whatever transformers raises if the model cannot be loaded.
    """
    import torch
    from transformers import pipeline

    import modeling_binder  # noqa: F401 (registers the pipeline)

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    found = pipeline("binder-ner", model=options.model, **options.options)
    if found.model.config.entity_types or options.options.get("entity_types"):
        found("")
    return found


def run_pass(pipeline: Any, requests: Sequence[FindRequest]) -> list[Answer]:
    """Answer requests with the same parameters in one call of the pipeline. It never raises.

    If the call fails, every request is repeated alone: only the one at fault gets the error, and a message that quotes
    a text goes to the client that sent it.

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
