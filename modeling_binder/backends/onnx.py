"""Write an encoder as an ONNX file, in float32 or int8."""

from pathlib import Path
from typing import Any

import torch

from ..onnx_binder import import_onnxruntime
from .encoders import HiddenStates, example_inputs


def write_onnx(encoder: Any, path: Path, int8: bool) -> None:
    """Write an encoder as an ONNX file.

    Args:
        encoder: an encoder of transformers in float32.
        path: path of the file.
        int8: compute the matrix products in 8 bits (dynamic quantisation).

    Raises:
        ImportError: a package is missing.
    """
    from onnxscript.optimizer import optimize
    from onnxscript.rewriter import rewrite

    from .onnx_attention import ATTENTION_ON_HIDDEN_STATES

    inputs, dynamic = example_inputs(encoder)
    # In operator set 23, attention is one operator. onnxruntime runs it faster than the separate operations.
    program: Any = torch.onnx.export(
        HiddenStates(encoder).eval(),
        inputs,
        input_names=["input_ids", "attention_mask"],
        output_names=["last_hidden_state"],
        dynamo=True,
        dynamic_shapes=dynamic,
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
        # Quantise only matrix products. The quantiser would confuse the standard operator "Attention" with the operator
        # "Attention" of onnxruntime.
        quantize_dynamic(
            wide, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
        )
        wide.unlink()
