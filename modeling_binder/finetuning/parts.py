"""Freeze parts of a model (such as its text encoder), set their learning rates, and encode descriptions of types."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..modeling_binder import BinderModel
from ..processing_binder import BinderWindower

PARTS = ("embeddings", "text_encoder", "type_encoder", "heads")
PHRASINGS_PER_BATCH = 256


def part_of(parameter: str) -> str:
    """Return the part of `BinderModel` (one of `PARTS`) that contains the parameter with the given name."""
    if parameter.startswith("text_encoder."):
        return "embeddings" if ".embeddings." in parameter else "text_encoder"
    return "type_encoder" if parameter.startswith("type_encoder.") else "heads"


def _members(model: BinderModel, part: str) -> set[str]:
    # The text encoder includes its embeddings. With `share_encoders`, the text encoder is also the type encoder.
    parts = {"text_encoder", "embeddings"} if part == "text_encoder" else {part}
    if part == "type_encoder" and model.config.share_encoders:
        parts = {"text_encoder", "embeddings"}
    return {name for name, _ in model.named_parameters() if part_of(name) in parts}


def check_parts(parts: Iterable[str], argument: str) -> None:
    """Raise ValueError if a name is not a part of the model."""
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"{argument} accepts the parts {', '.join(PARTS)}, got {part!r}.")


def check_rates(rates: Any) -> None:
    """Raise ValueError if learning rates are not a mapping from parts of the model to numbers of at least 0."""
    if not isinstance(rates, Mapping):
        raise ValueError(f"learning_rates must be a mapping such as {{'heads': 4e-4}}, got {rates!r:.60}.")
    check_parts(rates, "learning_rates")
    for part, rate in rates.items():
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < math.inf:
            raise ValueError(f"learning_rates: the rate of {part!r} must be a number of at least 0, got {rate!r:.60}.")


def freeze_parts(model: BinderModel, parts: Iterable[str]) -> None:
    """Exclude parts of a model from training.

    Raises:
        ValueError: a name is not one of `PARTS`.
    """
    parts = list(parts)
    check_parts(parts, "freeze")
    frozen = {name for part in parts for name in _members(model, part)}
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)


def types_are_frozen(model: BinderModel) -> bool:
    """Return whether the encoder of the descriptions is frozen. Training then does not change its outputs."""
    encoder = model.type_encoder if model.type_encoder is not None else model.text_encoder
    return not any(parameter.requires_grad for parameter in encoder.parameters())


def parameter_groups(
    model: BinderModel, rates: Mapping[str, float], decaying: Iterable[str], weight_decay: float
) -> list[dict[str, Any]]:
    """Return the parameter groups of the optimizer: two for each learning rate, with and without weight decay.

    Args:
        model: the model. Its frozen parameters are omitted.
        rates: part -> learning rate. If "embeddings" has no rate, the rate of "text_encoder" also applies to the
            embeddings. Parts without a rate use the default of the optimizer.
        decaying: names of the parameters with weight decay.
        weight_decay: the weight decay of these parameters.
    """
    decaying = set(decaying)
    groups: dict[tuple[float | None, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = part_of(name)
            rate = rates.get(part, rates.get("text_encoder") if part == "embeddings" else None)
            groups.setdefault((rate, name in decaying), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decays else 0.0,
            **({} if rate is None else {"lr": rate}),
        }
        for (rate, decays), parameters in groups.items()
    ]


@torch.no_grad()
def encode_phrasings(
    model: BinderModel, processor: BinderWindower, texts: Iterable[str], description: str = "Encoding types"
) -> Tensor:
    """Encode descriptions, in batches of descriptions with equal numbers of tokens.

    Args:
        model: the model. Dropout is off during the call, even if the model is in training mode.
        processor: the windower of the model, which tokenises descriptions.
        texts: the P descriptions.
        description: text of the progress bar.

    Returns:
        Pooled states [P, H] with hidden size H, in float32 on the device of the model; see
        `BinderModel.encode_type_states`.
    """
    inputs = processor.encode_types(texts, model.max_type_positions)
    lengths = inputs["type_attention_mask"].sum(1)
    device = model.start_head.scale.device
    training = model.training
    model.eval()
    order = lengths.argsort(stable=True)
    states: Tensor | None = None
    with tqdm(total=len(order), desc=description, unit="type", disable=len(order) < 1000) as bar:
        for length, group in ((length, order[lengths[order] == length]) for length in lengths.unique().tolist()):
            for some in group.split(PHRASINGS_PER_BATCH):
                batch = {name: tensor[some, :length].to(device) for name, tensor in inputs.items()}
                with torch.autocast(device.type, enabled=False):
                    encoded = model.encode_type_states(**batch).float()
                if states is None:
                    states = encoded.new_empty(len(order), encoded.shape[-1])
                states[some.to(device)] = encoded
                bar.update(len(some))
    model.train(training)
    if states is None:
        raise ValueError("there are no descriptions to encode.")
    return states
