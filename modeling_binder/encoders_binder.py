"""Create, load and run the encoders inside a BINDER model.

Functions of this module import the auto classes of transformers only when they are called. An import of these classes
registers the BINDER model, and this registration needs the complete module.
"""

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import logging

from .configuration_binder import BinderConfig
from .exported_binder import ExportedEncoder
from .onnx_binder import OnnxEncoder
from .openvino_binder import OpenVinoEncoder

logger = logging.get_logger(__name__)

DESCRIPTIONS_PER_BLOCK = 1024  # descriptions that are encoded at once

_ADVICE = "BINDER needs a bidirectional encoder that starts with a [CLS] token, such as BERT, RoBERTa or ModernBERT."
_LEFT_TO_RIGHT = (
    "reads texts from left to right: the first token does not depend on later tokens, so it cannot represent the "
    f"whole text. {_ADVICE}"
)


def build_encoder(config: BinderConfig, name: str) -> nn.Module:
    """Create an encoder with newly initialised weights, or an `ExportedEncoder` whose files are loaded later.

    Args:
        config: configuration of the BINDER model.
        name: "text_encoder" or "type_encoder".

    Raises:
        ValueError: the configuration describes a model that does not encode texts, or reads texts from left to right.
    """
    from transformers import AutoModel

    encoder_config: Any = config.text_config if name == "text_encoder" else config.type_config
    exported: type[ExportedEncoder]
    for exported in (OnnxEncoder, OpenVinoEncoder):
        limits = getattr(config, exported.backend) or {}
        if name in limits:
            return exported(encoder_config, name, limits[name])
    # The configuration of the encoder may refer to code in another repository. trust_remote_code=True for the BINDER
    # checkpoint does not mean that the user trusts this code too.
    encoder: nn.Module = AutoModel.from_config(encoder_config, trust_remote_code=False, **_options(encoder_config))
    _check_modules(f"the {name} of the configuration", encoder)
    return encoder


def load_encoder(name: str, **options: Any) -> PreTrainedModel:
    """Load a pretrained encoder, in float32 by default.

    Args:
        name: id on the Hub or local folder.
        options: arguments of `AutoModel.from_pretrained`.

    Raises:
        ValueError: transformers cannot load the model as an encoder, or its first token does not depend on later
            tokens.
    """
    from transformers import MODEL_MAPPING, AutoConfig, AutoModel

    options = {"dtype": torch.float32, **options}
    where = {key: options[key] for key in ("revision", "token", "cache_dir") if key in options}
    config = AutoConfig.from_pretrained(name, **where)
    if config.__class__ not in MODEL_MAPPING:
        raise ValueError(
            f"{name!r} is a {config.model_type!r} model, which transformers cannot load as an encoder. "
            "Choose an encoder such as 'google-bert/bert-base-uncased'."
        )
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # no warning about the missing pooler, because BINDER does not use a pooler
    try:
        encoder, loading = AutoModel.from_pretrained(
            name, config=config, output_loading_info=True, **_options(config), **options
        )
    finally:
        logging.set_verbosity(verbosity)
    if loading["missing_keys"]:
        logger.warning(
            "%s has no weights for %d tensors of the encoder, which get random values (first: %s).",
            name,
            len(loading["missing_keys"]),
            sorted(loading["missing_keys"])[0],
        )
    _check_first_token(name, encoder)
    return encoder


def _check_modules(name: str, encoder: Any) -> None:
    """Check the class of an encoder. The encoder is not run, because its weights may not be loaded yet."""
    model_type = encoder.config.model_type
    if encoder.config.is_encoder_decoder:
        raise ValueError(f"{name} is a {model_type!r} model, which also has a decoder. {_ADVICE}")
    if encoder.main_input_name != "input_ids":
        raise ValueError(f"{name} is a {model_type!r} model, which does not encode tokens. {_ADVICE}")
    if any(getattr(module, "is_causal", False) is True for module in encoder.modules()):
        raise ValueError(f"{name} is a {model_type!r} model. It {_LEFT_TO_RIGHT}")


def _check_first_token(name: str, encoder: PreTrainedModel) -> None:
    """Check that the state of the first token depends on later tokens, because it must represent the whole text."""
    _check_modules(repr(name), encoder)
    ids = [token for token in range(8) if token != getattr(encoder.config, "pad_token_id", None)]
    texts = torch.tensor([ids[:4], [*ids[:3], ids[4]]], device=execution_device(encoder))
    try:
        with torch.no_grad():
            first = encode(encoder, texts, torch.ones_like(texts), None)[:, 0].float()
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{name!r} does not encode tokens ({error}). {_ADVICE}") from error
    if not first.is_meta and (first[0] - first[1]).abs().max() <= 1e-6 * first.abs().max():
        raise ValueError(f"{name!r} {_LEFT_TO_RIGHT}")


def _options(config: PreTrainedConfig) -> dict[str, bool]:
    # BINDER does not use the pooler, so it is left out if the encoder allows this.
    from transformers import MODEL_MAPPING

    signature = inspect.signature(MODEL_MAPPING[type(config)].__init__)
    return {"add_pooling_layer": False} if "add_pooling_layer" in signature.parameters else {}


def encode(
    encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None
) -> Tensor:
    """Run an encoder on tokens [B, L] and return its last hidden states, [B, L, H]."""
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if token_type_ids is not None and "token_type_ids" in inspect.signature(encoder.forward).parameters:
        inputs["token_type_ids"] = token_type_ids
    with attention_kernels(input_ids.device):
        hidden: Tensor = encoder(**inputs).last_hidden_state
    return hidden


def encode_pooled(
    encoder: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    token_type_ids: Tensor | None,
    pooling: str,
) -> Tensor:
    """Run an encoder on descriptions [T, L], and pool the states of each description to one state, [T, H].

    Many descriptions are encoded in blocks of similar length, so that most blocks have little padding.

    Args:
        encoder, input_ids, attention_mask, token_type_ids: see `encode`. Padding is on the right.
        pooling: "cls" or "mean", see `BinderConfig.type_pooling`.
    """
    if attention_mask is None or len(input_ids) <= DESCRIPTIONS_PER_BLOCK:
        return _pooled(encode(encoder, input_ids, attention_mask, token_type_ids), attention_mask, pooling)
    lengths, order = attention_mask.sum(1).sort()
    longest = [*lengths.tolist()[DESCRIPTIONS_PER_BLOCK - 1 :: DESCRIPTIONS_PER_BLOCK], input_ids.shape[1]]
    blocks = []
    for rows, length in zip(order.split(DESCRIPTIONS_PER_BLOCK), longest, strict=False):
        mask = attention_mask[rows, :length]
        segments = None if token_type_ids is None else token_type_ids[rows, :length]
        blocks.append(_pooled(encode(encoder, input_ids[rows, :length], mask, segments), mask, pooling))
    return torch.cat(blocks)[order.argsort()]


def _pooled(states: Tensor, attention_mask: Tensor | None, pooling: str) -> Tensor:
    """Pool states [T, L, H] to one state per row, [T, H]."""
    if pooling == "cls":
        return states[:, 0]
    if attention_mask is None:
        return states.mean(1)
    weights = attention_mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def attention_kernels(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which `scaled_dot_product_attention` does not use the kernels of cuDNN.

    On recent GPUs, PyTorch prefers these kernels. cuDNN then builds a plan for each new shape of a batch, which takes
    longer than the forward pass (https://github.com/modelscope/FunASR/issues/3704). The batches of BINDER have many
    shapes, because windows and descriptions are padded to the longest of a batch.
    """
    if device.type != "cuda" or not torch.backends.cuda.cudnn_sdp_enabled():
        return nullcontext()
    others = {
        SDPBackend.FLASH_ATTENTION: torch.backends.cuda.flash_sdp_enabled(),
        SDPBackend.EFFICIENT_ATTENTION: torch.backends.cuda.mem_efficient_sdp_enabled(),
        SDPBackend.MATH: torch.backends.cuda.math_sdp_enabled(),
    }
    allowed = [backend for backend, enabled in others.items() if enabled]  # those that the user has not switched off
    return sdpa_kernel(allowed) if allowed else nullcontext()


def max_positions(encoder: nn.Module) -> int | None:
    """Return the maximum number of tokens of an encoder, special tokens included. None means no limit."""
    if isinstance(encoder, ExportedEncoder):
        return encoder.max_positions
    limit: int | None = getattr(encoder.config, "max_position_embeddings", None)
    if limit is None or limit <= 0:
        return None
    # In RoBERTa and similar models, the first token has the position padding_idx + 1. So fewer positions are left.
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return limit if padding is None else limit - padding - 1


def execution_device(*modules: nn.Module) -> torch.device:
    """Return the device of the first weight in some modules, or the CPU if all weights are offloaded.

    If weights are offloaded, hooks move the inputs to the right device.

    Args:
        modules: the modules. An `ExportedEncoder` has no weights. Pass another module of the model with it.
    """
    devices = (tensor.device for module in modules for tensor in module.parameters() if tensor.device.type != "meta")
    return next(devices, torch.device("cpu"))
