"""Load the pipeline of a model. Errors have a message of one line."""

import os
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, pipeline

from .adapters_binder import base_of_adapter
from .pipeline_binder import BinderNerPipeline


def load_pipeline(model: str, **options: Any) -> BinderNerPipeline:
    """Load the pipeline of a BINDER model.

    Args:
        model: folder, or id on the Hub, of a model or of an adapter.
        options: other arguments of `pipeline(...)`, such as `revision`, `device`, `dtype` or `batch_size`.

    Raises:
        ValueError: the model cannot be loaded, or it is not a BINDER model.
    """
    try:
        _check_type(model, options.get("revision"))
        loaded = pipeline("binder-ner", model=model, **options)
    except Exception as error:  # the loaders of files, weights and tokenizers raise errors of many classes
        raise loading_error(model, error) from error
    assert isinstance(loaded, BinderNerPipeline)
    return loaded


def load_tokenizer(model: str | os.PathLike[str]) -> Any:
    """Load the tokenizer of a model or an adapter.

    The tokenizer of an adapter is loaded from its base model, because the folder of an adapter may have no tokenizer.

    Args:
        model: folder, or id on the Hub.
    """
    return AutoTokenizer.from_pretrained(base_of_adapter(model) or model)


def check_model(model: str) -> None:
    """Check that a name belongs to a BINDER model, by loading only the configuration.

    Args:
        model: folder, or id on the Hub, of a model or of an adapter.

    Raises:
        ValueError: the configuration cannot be loaded, or it does not belong to a BINDER model.
    """
    try:
        _check_type(model, None)
    except Exception as error:  # see `load_pipeline`
        raise loading_error(model, error) from error


def _check_type(model: str, revision: str | None) -> None:
    base = base_of_adapter(model, revision=revision)
    found = AutoConfig.from_pretrained(base or model, revision=None if base else revision).model_type
    if found != "binder":
        raise ValueError(f"it is a model of the type {found!r}, not 'binder'")


def loading_error(model: str | os.PathLike[str], error: BaseException) -> ValueError:
    """Return an error with a message of one line for a model that cannot be loaded.

    Args:
        model: folder, or id on the Hub.
        error: the reason.
    """
    where = "" if Path(model).exists() else "there is no such folder, and loading from the Hub failed: "
    return ValueError(f"cannot load the model {str(model)!r}: {where}{one_line(error)}")


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks. If the message is empty, return the class of the error."""
    return " ".join(str(error).split()) or type(error).__name__
