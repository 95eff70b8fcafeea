"""Push checkpoints and corpora to the Hub, each with its card and in one commit.

`model.push_to_hub`, `pipe.push_to_hub` and `trainer.push_to_hub` all call `push_model`. After a push the repository
holds config.json, model.safetensors, the tokenizer, the code that loads them, README.md (the card), model_card.json
(the facts that the card is made from) and handler.py (for Inference Endpoints). Pickles are never uploaded.
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
    if name == "push_dataset":  # imported when it is used: it imports `finetuning`, which imports this package
        from .dataset import push_dataset

        return push_dataset
    if name == "FACTS":
        warnings.warn("modeling_binder.hub.FACTS is now FACTS_FILE.", FutureWarning, stacklevel=2)
        return FACTS_FILE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
