"""Sharing on the Hub: a checkpoint, or a corpus, with its card, as one commit.

`model.push_to_hub`, `pipe.push_to_hub` and `trainer.push_to_hub` all end here. After a push the repository holds
config.json, model.safetensors, the tokenizer, the code that loads them, README.md (the card), model_card.json (what the
card is made of) and handler.py (Inference Endpoints). Pickles never go up.
"""

from .checkpoint import (
    FACTS,
    base_models,
    facts_of,
    find_examples,
    fingerprint,
    prepare_model,
    push_model,
    push_model_folder,
    write_card,
)
from .repository import PushError, check_access, explained, push_files

__all__ = [
    "FACTS",
    "PushError",
    "base_models",
    "check_access",
    "explained",
    "facts_of",
    "find_examples",
    "fingerprint",
    "prepare_model",
    "push_files",
    "push_model",
    "push_model_folder",
    "write_card",
]
