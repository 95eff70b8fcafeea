"""Configure LoRA for a `BinderModel`, and store the path of the base model in an adapter."""

import logging
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from ..adapters_binder import INSTALL_PEFT, unwrapped
from ..modeling_binder import BinderModel
from .parts import check_parts

logger = logging.getLogger(__name__)

ENCODERS = ("text_encoder", "type_encoder")
HEADS = ("start_head", "end_head", "span_head")


def lora_config(
    model: BinderModel,
    r: int = 16,
    alpha: int | None = None,
    target: str | Sequence[str] | None = None,
    dropout: float = 0.0,
    freeze: Iterable[str] = (),
    **options: Any,
) -> Any:
    """Return a `peft.LoraConfig` for a model. The encoders get adapters, and all weights of the heads are trained.

    The heads (projections, width embeddings and scales) are saved with the adapter. All their weights are trained,
    because the heads are small, and because a model from `BinderModel.from_encoders` has random heads.

    Args:
        model: the model that the configuration is for.
        r: rank of the adapters.
        alpha: the outputs of the adapters are multiplied by alpha / r. Defaults to 2 * r.
        target: names of the linear layers in the encoders that get adapters, such as "query". Defaults to all linear
            layers.
        dropout: probability of dropout on the inputs of the adapters during training.
        freeze: parts of the model that are not trained. A frozen "text_encoder" or "type_encoder" gets no adapters.
            Frozen "heads" keep their weights.
        options: further arguments of `LoraConfig`.

    Raises:
        ModuleNotFoundError: peft is not installed.
        ValueError: a number is out of range, or a target is not a linear layer of the encoders.

    Example:
        >>> from peft import get_peft_model
        >>> adapted = get_peft_model(model, lora_config(model, r=16))  # doctest: +SKIP
    """
    try:
        from peft import LoraConfig
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; LoRA needs the package peft: {INSTALL_PEFT}.") from error
    alpha, frozen = 2 * r if alpha is None else alpha, set(freeze)
    check_parts(frozen, "freeze")
    if model.config.share_encoders and "type_encoder" in frozen:
        frozen.add("text_encoder")
    if r < 1 or alpha <= 0 or not 0 <= dropout < 1:
        raise ValueError(f"LoRA needs r >= 1, alpha > 0 and 0 <= dropout < 1, got {r=}, {alpha=} and {dropout=}.")
    adapted = [name for name in ENCODERS if name not in frozen and getattr(model, name) is not None]
    layers = {path.rpartition(".")[2] for name in adapted for path in _linear_layers(getattr(model, name))}
    targets = sorted(layers) if target is None else [target] if isinstance(target, str) else list(target)
    unknown = [name for name in targets if name not in layers]
    if unknown or not targets:
        raise ValueError(
            f"the target {', '.join(unknown) or 'of LoRA'} matches no linear layer in the encoders that are trained "
            f"({', '.join(adapted) or 'none'}). Their linear layers are {', '.join(sorted(layers)) or 'none'}."
        )
    others = [name for name, _ in model.named_children() if name not in adapted]
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        exclude_modules=rf"({'|'.join(map(re.escape, others))})(\..*)?",
        modules_to_save=None if "heads" in frozen else list(HEADS),
        **options,
    )


def resolve_base(model: Any) -> None:
    """Make the path of the base model in the configuration of adapters absolute.

    A relative path would be wrong in another working directory.

    Args:
        model: a `PeftModel`, or a `BinderModel`. A `BinderModel` is not changed.
    """
    if unwrapped(model) is model:
        return
    for config in model.peft_config.values():
        base = config.base_model_name_or_path
        if not base:
            logger.warning(
                "The base model of the adapter was not loaded from a checkpoint, so the saved adapter will not contain "
                "the path of its base. Save the base before you add adapters: model.save_pretrained(FOLDER), and load "
                "it from there."
            )
        elif os.path.exists(base):
            config.base_model_name_or_path = os.path.abspath(base)


def _linear_layers(encoder: nn.Module) -> list[str]:
    return [path for path, module in encoder.named_modules() if isinstance(module, nn.Linear)]
