"""Load and check the tokenizer of descriptions, if the type encoder and the text encoder have different tokenizers."""

import json
from typing import Any

from transformers import AutoTokenizer
from transformers.utils import cached_file, logging

logger = logging.get_logger(__name__)

TYPE_TOKENIZER_FOLDER = "type_tokenizer"  # in the folder or repository of a checkpoint
_FILES = ("tokenizer.json", "tokenizer_config.json")


def load_tokenizers(text_encoder: str, type_encoder: str | None = None, **options: Any) -> tuple[Any, Any]:
    """Load the tokenizers of a text encoder and of a type encoder.

    Args:
        text_encoder, type_encoder: ids on the Hub or local folders.
        options: arguments of `AutoTokenizer.from_pretrained` (`revision`, `token`, `cache_dir`, ...).

    Returns:
        The tokenizer of the text encoder, and the tokenizer of the type encoder or None if it is the same.

    Raises:
        OSError: an encoder has no tokenizer.

    Example:
        >>> tokenizer, type_tokenizer = load_tokenizers(
        ...     "microsoft/mpnet-base", "sentence-transformers/all-MiniLM-L6-v2"
        ... )  # doctest: +SKIP
    """
    tokenizer = _load(text_encoder, **options)
    if type_encoder is None or type_encoder == text_encoder:
        return tokenizer, None
    type_tokenizer = _load(type_encoder, **options)
    return tokenizer, None if _tokenise_alike(tokenizer, type_tokenizer) else type_tokenizer


def find_type_tokenizer(text_encoder: str, type_encoder: str, **options: Any) -> Any:
    """Return the tokenizer of the type encoder, or None if it is the same as the tokenizer of the text encoder.

    If the tokenizers cannot be loaded, log a warning and return None.
    """
    try:
        return load_tokenizers(text_encoder, type_encoder, **options)[1]
    except (OSError, ValueError) as error:
        logger.warning(
            "The tokenizers of %s and %s cannot be compared. If they differ, set model.type_tokenizer to the tokenizer "
            "of the type encoder. (%s)",
            text_encoder,
            type_encoder,
            str(error).splitlines()[0],
        )
        return None


def load_type_tokenizer(name: str, **location: Any) -> Any:
    """Load the tokenizer of descriptions of a checkpoint.

    Args:
        name: folder, or id on the Hub.
        location: `revision`, `subfolder`, `token`, `cache_dir`, ... of the checkpoint.

    Raises:
        OSError: a file is missing.
    """
    folder = "/".join(part for part in (location.pop("subfolder", None), TYPE_TOKENIZER_FOLDER) if part)
    for file in _FILES:
        try:
            cached_file(name, file, subfolder=folder, **location)
        except OSError as error:
            raise OSError(
                f"{name}: {folder}/{file} cannot be loaded. According to its config.json (type_tokenizer: true), this "
                f"checkpoint has a separate tokenizer for descriptions in {folder}/. Copy the tokenizer of the type "
                f"encoder to this folder, or save the checkpoint again. ({error})"
            ) from None
    # The configuration of the tokenizer may refer to code in another repository. trust_remote_code=True for the
    # checkpoint does not mean that the user trusts this code too.
    return AutoTokenizer.from_pretrained(name, subfolder=folder, trust_remote_code=False, **location)


def check_type_tokenizer(tokenizer: Any, pooling: str) -> None:
    """Check that a tokenizer can be used for descriptions.

    Args:
        tokenizer: the tokenizer.
        pooling: `config.type_pooling`.

    Raises:
        ValueError: the tokenizer is not fast, or it adds no [CLS] although `pooling` is "cls".
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"type_tokenizer must be a fast tokenizer, got {type(tokenizer).__name__}. Load one with "
            "AutoTokenizer.from_pretrained(...)."
        )
    if pooling == "cls" and tokenizer("")["input_ids"][:1] not in ([tokenizer.cls_token_id], [tokenizer.bos_token_id]):
        raise ValueError(
            f"{type(tokenizer).__name__} adds no [CLS] token before a description, but config.type_pooling='cls' uses "
            "the state of [CLS]. Use type_pooling='mean' or another type encoder."
        )


def _load(name: str, **options: Any) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(name, **options)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # without files, transformers creates an empty tokenizer
        raise OSError(f"{name} has no tokenizer: save it there with tokenizer.save_pretrained({name!r}).")
    return tokenizer


def _tokenise_alike(one: Any, two: Any) -> bool:
    """Return whether two tokenizers are the same, except for padding and truncation."""

    def core(tokenizer: Any) -> Any:
        if not tokenizer.is_fast:
            return tokenizer
        return {**json.loads(tokenizer.backend_tokenizer.to_str()), "padding": None, "truncation": None}

    return bool(core(one) == core(two))
