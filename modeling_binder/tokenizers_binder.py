"""The tokenizer of entity types, for checkpoints whose type encoder and text encoder have different tokenizers."""

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
        options: passed to `AutoTokenizer.from_pretrained` (`revision`, `token`, `cache_dir`, ...).

    Returns:
        The tokenizer of the texts and the tokenizer of the types. The second is None if both tokenise alike.

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
    """Return the tokenizer of the type encoder if it differs from that of the text encoder, otherwise None.

    If the tokenizers cannot be loaded, a warning is logged and None is returned.
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
    """Load the tokenizer of entity types of a checkpoint.

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
                f"checkpoint has a separate tokenizer for the descriptions of entity types in {folder}/. Copy the "
                f"tokenizer of the type encoder there, or save the checkpoint again. ({error})"
            ) from None
    # A user who trusts the code of a checkpoint has not agreed to run code that the tokenizer's config may refer to.
    return AutoTokenizer.from_pretrained(name, subfolder=folder, trust_remote_code=False, **location)


def check_type_tokenizer(tokenizer: Any, pooling: str) -> None:
    """Check that a tokenizer can be used for descriptions.

    Args:
        pooling: `config.type_pooling`.

    Raises:
        ValueError: the tokenizer is not fast, or it adds no [CLS] although the model uses the state of [CLS].
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, which type_tokenizer must be. Load one with "
            "AutoTokenizer.from_pretrained(...)."
        )
    if pooling == "cls" and tokenizer("")["input_ids"][:1] not in ([tokenizer.cls_token_id], [tokenizer.bos_token_id]):
        raise ValueError(
            f"{type(tokenizer).__name__} adds no [CLS] token before a description, but config.type_pooling='cls' uses "
            "the state of [CLS]. Use type_pooling='mean' or another type encoder."
        )


def _load(name: str, **options: Any) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(name, **options)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes an empty one if there are no files
        raise OSError(f"{name} has no tokenizer: save it there with tokenizer.save_pretrained({name!r}).")
    return tokenizer


def _tokenise_alike(one: Any, two: Any) -> bool:
    """Return whether two tokenizers are the same, apart from how they pad and truncate."""

    def core(tokenizer: Any) -> Any:
        if not tokenizer.is_fast:
            return tokenizer
        return {**json.loads(tokenizer.backend_tokenizer.to_str()), "padding": None, "truncation": None}

    return bool(core(one) == core(two))
