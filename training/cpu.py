"""What the processor can do that no library tells."""

import torch


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU multiplies matrices in bfloat16 (AVX-512, AMX, Arm's bf16).

    One that does not still computes the right numbers, but about twenty times slower than in float32 (measured on a
    CPU with AVX2 alone).
    """
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
