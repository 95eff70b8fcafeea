"""Describe the machine on which the code runs: the GPU or CPU, the versions of libraries, and bfloat16 support."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import torch


def hardware() -> str:
    """Return the name of the GPU, or the name of the CPU with the number of threads. The model card shows it."""
    if torch.cuda.is_available():
        count, name = torch.cuda.device_count(), torch.cuda.get_device_name(0)
        return name if count == 1 else f"{count} x {name}"
    return cpu(torch.get_num_threads())


def cpu(threads: int) -> str:
    """Return the name of the CPU with a number of threads."""
    return f"{threads} thread{'s' if threads > 1 else ''} of {processor()}"


def processor() -> str:
    """Return the name of the CPU."""
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that affect the results of a model."""
    found = {"Python": platform.python_version()}
    for library in ("binder-ner", "torch", "transformers", "tokenizers", "accelerate"):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def cpu_multiplies_bf16() -> bool:
    """Return whether this CPU has instructions for bfloat16 matrix products (AVX-512, AMX, Arm's bf16).

    Without these instructions, the results are the same. But on a CPU with only AVX2, a product took about twenty times
    as long as in float32.
    """
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
