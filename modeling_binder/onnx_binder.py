"""An encoder that runs in onnxruntime. It replaces an encoder of transformers; the rest of the model is unchanged."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .exported_binder import ExportedEncoder


@contextmanager
def _denormals_are_zero() -> Iterator[None]:
    """Treat denormal floats (extremely small numbers) as zero in the calling thread. Restore the setting at the end.

    Attention weights of masked positions are denormal, and computing with denormal floats is slow. onnxruntime changes
    the setting only for its own threads, but the calling thread computes too.
    """
    before = sys.float_info.min / 16 == 0  # true if the thread already treats denormal floats as zero
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def import_onnxruntime() -> Any:
    """Import onnxruntime without its telemetry, unless the variable ORT_DISABLE_TELEMETRY says otherwise.

    At its import, onnxruntime 1.29 and later start a thread that sends usage data to Microsoft. After a fork, this
    thread does not exist in the child process, and the child would wait for it forever when it exits.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:  # transformers requires the packages of all imports that are outside of a try block
        import onnxruntime
    except ImportError:
        raise ImportError(
            "the encoders of this checkpoint are ONNX files and need onnxruntime: pip install onnxruntime"
        ) from None
    return onnxruntime


class OnnxEncoder(ExportedEncoder):
    """Runs `NAME.onnx` in onnxruntime; see `ExportedEncoder`."""

    backend = "onnx"
    suffixes = (".onnx",)

    def start(self, paths: list[str]) -> Any:
        """Return a session of onnxruntime.

        Raises:
            ImportError: onnxruntime is not installed.
        """
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # During a run, idle threads of onnxruntime stay active (they "spin"), because this saves time between two
        # operators. They must stop at the end of a run, because torch needs the cores between two runs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        options.log_severity_level = 3
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        # SkipLayerNormFusion replaces an addition and a layer normalisation by one operator. On a CPU, this operator
        # takes three times as long as the two separate operators.
        slow = None if providers[0].startswith("CUDA") else ["SkipLayerNormFusion"]
        with _denormals_are_zero():
            return onnxruntime.InferenceSession(paths[0], options, providers=providers, disabled_optimizers=slow)

    def run(self, session: Any, inputs: dict[str, Any]) -> Any:
        """See `ExportedEncoder.run`."""
        with _denormals_are_zero():
            (hidden,) = session.run(["last_hidden_state"], inputs)
        return hidden
