"""Push checkpoints and corpora to the Hub, with a card and in one commit.

`model.push_to_hub`, `pipe.push_to_hub` and `trainer.push_to_hub` all call `push_model`. It pushes these files
(for an adapter, the adapter instead of the model, and no handler):

- config.json, model.safetensors, the files of the tokenizer, and the Python code that loads these files.
- README.md: the model card. model_card.json: the facts from which the card is generated.
- handler.py: for Inference Endpoints.

Pickle files are never uploaded.
"""

import warnings
from typing import Any

from .checkpoint import (
    FACTS_FILE,
    base_models,
    facts_of,
    find_examples,
    fingerprint,
    prepare_model,
    push_model,
    push_model_folder,
    rewrite_card,
    write_card,
)
from .repository import PushError, check_access, explained, push_files

__all__ = [
    "FACTS_FILE",
    "PushError",
    "base_models",
    "check_access",
    "explained",
    "facts_of",
    "find_examples",
    "fingerprint",
    "prepare_model",
    "push_dataset",
    "push_files",
    "push_model",
    "push_model_folder",
    "rewrite_card",
    "write_card",
]


def __getattr__(name: str) -> Any:
    if name == "push_dataset":  # imported on first use, because it imports `finetuning`, which imports this package
        from .dataset import push_dataset

        return push_dataset
    if name == "FACTS":
        warnings.warn("modeling_binder.hub.FACTS is now FACTS_FILE.", FutureWarning, stacklevel=2)
        return FACTS_FILE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
