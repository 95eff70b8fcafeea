"""Handler for Inference Endpoints: the Hub imports this file from the repository and calls `EndpointHandler`.

A request looks like this:

    {"inputs": "IL-2 gene expression", "parameters": {"threshold": 0.7, "entity_types": {"Gene": "A gene."}}}

The handler needs only transformers and torch.
"""

from typing import Any

import torch
from transformers import pipeline

PARAMETERS = (
    "entity_types",
    "threshold",
    "decoding",
    "inference",
    "max_length",
    "stride",
    "is_split_into_words",
    "batch_size",
)


class EndpointHandler:
    """Answers requests with the "binder-ner" pipeline of the model repository that contains this file.

    Args:
        path: folder with the files of the repository; defaults to the current folder.
    """

    def __init__(self, path: str = "") -> None:
        # The owner of the endpoint chose this repository, so its code may run.
        self.pipeline = pipeline(
            "binder-ner", model=path or ".", trust_remote_code=True, device=0 if torch.cuda.is_available() else -1
        )

    def __call__(self, data: dict[str, Any]) -> Any:
        """Find the entities in a text, or in each text of a list.

        Args:
            data: `{"inputs": text or list of texts, "parameters": {...}}`. The parameters are arguments of the
                pipeline. With `is_split_into_words`, the inputs are a list of words or a list of lists of words.

        Returns:
            For a text, a list of dictionaries with the keys `entity_group`, `score`, `word`, `start` and `end`. For a
            list of texts, a list with one such list per text.

        Raises:
            ValueError: the request is malformed; the message says what is expected.
        """
        inputs, parameters = parse_request(data)
        try:
            return self.pipeline(inputs, **parameters)
        except TypeError as error:
            raise ValueError(f"a parameter has a wrong type: {error}") from error


def parse_request(data: Any) -> tuple[Any, dict[str, Any]]:
    """Return the inputs and the parameters of a request. Parameters that are null are left out.

    Raises:
        ValueError: the request is malformed; the message says what is expected.
    """
    if not isinstance(data, dict) or "inputs" not in data:
        given = f"the keys {sorted(map(str, data))}" if isinstance(data, dict) else type(data).__name__
        raise ValueError(f'expected {{"inputs": text or list of texts, "parameters": {{...}}}}, got {given}.')
    inputs, parameters = data["inputs"], data.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise ValueError(f'"parameters" must be an object such as {{"threshold": 0.7}}, got {parameters!r:.80}.')
    unknown = sorted(str(name) for name in parameters if name not in PARAMETERS)
    if unknown:
        raise ValueError(f"unknown parameters: {', '.join(unknown)}. Known are {', '.join(PARAMETERS)}.")
    parameters = {name: value for name, value in parameters.items() if value is not None}
    is_split = parameters.get("is_split_into_words", False)
    if not isinstance(is_split, bool):
        raise ValueError(f'"is_split_into_words" must be true or false, got {is_split!r:.80}.')
    if is_split:
        if not _is_words(inputs) and not (isinstance(inputs, list) and all(map(_is_words, inputs))):
            raise ValueError(
                '"inputs" must be a list of words, or a list of such lists, with is_split_into_words; '
                f"got {inputs!r:.80}."
            )
    elif not isinstance(inputs, str) and not _is_words(inputs):
        raise ValueError(f'"inputs" must be a text or a list of texts, got {inputs!r:.80}.')
    return inputs, parameters


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
