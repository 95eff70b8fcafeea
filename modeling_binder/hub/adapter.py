"""Prepare adapters of PEFT for the Hub: the files to push, and the facts for the model card."""

import os
from pathlib import Path
from typing import Any

from ..adapters_binder import (
    ADAPTER_CONFIG,
    ADAPTER_SETTINGS,
    ADAPTER_WEIGHTS,
    active_adapter,
    save_adapter_settings,
    unwrapped,
)

# The files of an adapter, and the files of a complete model. A push of an adapter removes the files of a complete model
# from the repository, and a push of a complete model removes the files of an adapter. transformers would load both.
ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_SETTINGS, ADAPTER_WEIGHTS)
COMPLETE_FILES = ("config.json", "handler.py", "*_binder.py")
_PEFT_PREFIX = "base_model.model."  # prefix of the names of weights in a PeftModel


def save_adapter(model: Any, folder: str | os.PathLike[str]) -> None:
    """Save the active adapter of a `BinderModel` or a `PeftModel`, with its entity types."""
    binder = unwrapped(model)
    if binder is model:
        binder.save_pretrained(folder)
        return
    name = str(active_adapter(model))
    model.save_pretrained(folder, selected_adapters=[name])
    for path in Path(folder, name).glob("*") if name != "default" else ():  # PEFT saves these in a subfolder
        path.replace(Path(folder, path.name))
    if name != "default":
        Path(folder, name).rmdir()
    Path(folder, "README.md").unlink()  # a card by PEFT, which has no information about this adapter
    save_adapter_settings(binder.config, folder)


def adapter_weights(model: Any) -> dict[str, Any]:
    """Return the weights of the active adapter. Their names do not contain the name of the adapter or PEFT's prefix."""
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(model, adapter_name=str(active_adapter(model)))
    return {name.removeprefix(_PEFT_PREFIX): tensor for name, tensor in weights.items()}


def base_of(model: Any) -> str:
    """Return the folder or the id of the base model of the active adapter, as PEFT saves it. Empty if unknown."""
    return str(model.peft_config[active_adapter(model)].base_model_name_or_path or "")


def check_base(model: Any) -> None:
    """Check that the base model of an adapter has an id on the Hub.

    Raises:
        ValueError: the base model is a local folder, or it is unknown.
    """
    base = base_of(model)
    if not base or os.path.exists(base) or base.count("/") != 1:
        raise ValueError(
            f"the base model of this adapter is {base or 'unknown'!r} and not on the Hub. Push the base first and "
            'set model.peft_config["default"].base_model_name_or_path = "user/base", or push the merged model: '
            "model.merge_and_unload().push_to_hub(...)."
        )


def adapter_facts(model: Any) -> dict[str, Any]:
    """Return the facts `base_model` and `adapter` for the card of an adapter."""
    config = model.peft_config[active_adapter(model)]
    base = base_of(model)
    weights = adapter_weights(model)
    return {
        "base_model": [] if os.path.exists(base) else [base],
        "adapter": {
            "base": base,
            "method": config.peft_type.value,
            "rank": getattr(config, "r", None),
            "alpha": getattr(config, "lora_alpha", None),
            "layers": sorted(config.target_modules or ()),
            "parameters": sum(tensor.numel() for tensor in weights.values()),
        },
    }
