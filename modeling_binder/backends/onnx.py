"""Write a checkpoint whose encoders are ONNX files, in float32 or int8."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..modeling_binder import BinderModel
from ..onnx_binder import OnnxEncoder, import_onnxruntime


class _Hidden(nn.Module):
    """An encoder with two tensors as inputs and one tensor as output. The exporter can trace only such a module."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


def export_onnx(
    model: BinderModel, tokenizer: Any, folder: str | os.PathLike[str], int8: bool = False, freeze_types: bool = False
) -> None:
    """Write a checkpoint whose encoders are ONNX files with dynamic batch size and length.

    This function does not compare the checkpoint with the original; `export` does.

    Args:
        model: a model in float32. It is changed: its encoders are replaced.
        tokenizer: the tokenizer of the model.
        folder: an empty folder.
        int8: compute the matrix products of the text encoder in 8 bits (dynamic quantisation). A separate type encoder
            stays in float32, because it runs only once per entity type.
        freeze_types: store the vectors of the model's entity types instead of a type encoder.
    """
    folder = Path(folder)
    if freeze_types:
        model.freeze_types(tokenizer)
    limits = {"text_encoder": model.max_positions, "type_encoder": model.max_type_positions}
    encoders = {name: getattr(model, name) for name in limits if getattr(model, name) is not None}
    for name, encoder in encoders.items():
        _write_onnx(encoder, folder / f"{name}.onnx", int8 and name == "text_encoder")
        tokenizer_of_encoder = model.type_tokenizer or tokenizer if name == "type_encoder" else tokenizer
        shell = OnnxEncoder(encoder.config, name, limits[name] or tokenizer_of_encoder.model_max_length)
        shell.path = str(folder / f"{name}.onnx")
        setattr(model, name, shell)
    model.config.onnx = {name: getattr(model, name).max_positions for name in encoders}
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_onnx(encoder: Any, path: Path, int8: bool) -> None:
    ids = torch.arange(3 * 17).reshape(3, 17) % encoder.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    dynamic = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    # In operator set 23, attention is one operator. onnxruntime runs it faster than the separate operations.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet():
        warnings.simplefilter("ignore")
        from onnxscript.optimizer import optimize
        from onnxscript.rewriter import rewrite

        from .onnx_attention import ATTENTION_ON_HIDDEN_STATES

        program: Any = torch.onnx.export(
            _Hidden(encoder).eval(),
            (ids, mask),
            input_names=["input_ids", "attention_mask"],
            output_names=["last_hidden_state"],
            dynamo=True,
            dynamic_shapes=(dynamic, dynamic),
            opset_version=23,
            optimize=False,  # would fuse rotary positions into an operator that onnxruntime does not support
            verbose=False,
        )
        program.model = rewrite(optimize(program.model), [ATTENTION_ON_HIDDEN_STATES])
        program.save(path, external_data=False)
        if int8:
            import_onnxruntime()
            from onnxruntime.quantization import QuantType, quantize_dynamic

            wide = path.with_suffix(".fp32.onnx")
            path.rename(wide)
            # Quantise only matrix products. The quantiser would confuse the standard operator "Attention" with
            # onnxruntime's own operator "Attention".
            quantize_dynamic(
                wide, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
            )
            wide.unlink()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter and the quantiser, because their warnings do not concern users."""
    import logging as standard

    before = standard.root.manager.disable
    standard.disable(standard.WARNING)
    try:
        yield
    finally:
        standard.disable(before)
