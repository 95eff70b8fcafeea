"""An encoder that runs in onnxruntime. It replaces an encoder of transformers; the rest of the model is unchanged."""

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

_OMP_PAUSE_SOFT = 1  # constant of the OpenMP standard: end the threads but keep the settings


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


@functools.cache
def _openmp() -> Any:
    """Return the OpenMP library of torch if it is GNU OpenMP (on Linux), otherwise None."""
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        try:
            library = ctypes.CDLL(str(path))  # torch has already loaded this library
        except OSError:
            continue
        if hasattr(library, "omp_pause_resource"):
            return library
    return None


def end_torch_threads() -> None:
    """End the threads that torch has started for the calling thread. torch starts new threads when it needs them.

    After a computation, idle threads of torch keep the cores busy for some milliseconds. onnxruntime needs the cores,
    so it would take a tenth longer. Starting a thread again takes only some microseconds. This function does nothing if
    torch does not use GNU OpenMP.
    """
    if (openmp := _openmp()) is not None:
        openmp.omp_pause_resource(_OMP_PAUSE_SOFT, openmp.omp_get_initial_device())


# multiprocessing, datasets.map and gunicorn with preloading fork the process. A fork copies only the calling thread. So
# torch would wait forever in the child process for threads that do not exist there. To prevent this, end the threads of
# torch before a fork. Then torch starts new threads in the child process.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=end_torch_threads)


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


class OnnxEncoder(nn.Module):
    """Runs the ONNX file of an encoder, with inputs `input_ids`, `attention_mask` and output `last_hidden_state`.

    Args:
        config: configuration of the exported encoder.
        name: "text_encoder" or "type_encoder". The file is called NAME.onnx.
        max_positions: maximum number of tokens that the encoder accepts.
    """

    def __init__(self, config: Any, name: str, max_positions: int) -> None:
        super().__init__()
        self.config, self.name, self.max_positions = config, name, max_positions
        self.path: str | None = None
        self._session: Any = None
        self._num_threads = 1  # of the session

    def load(self, path: str) -> None:
        """Load an ONNX file into a session of onnxruntime.

        Raises:
            ImportError: onnxruntime is not installed.
        """
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._num_threads = torch.get_num_threads()
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
            self._session = onnxruntime.InferenceSession(path, options, providers=providers, disabled_optimizers=slow)
        self.path = path
        _LOADED.add(self)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        """Return the hidden states of tokens, [B, L, H], in float32 on the device of `input_ids`, without gradients."""
        if self._session is None:
            if self.path is None:
                raise RuntimeError(f"{self.name}.onnx is not loaded: load the checkpoint with from_pretrained.")
            self.load(self.path)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        inputs = {"input_ids": input_ids.cpu().numpy(), "attention_mask": mask.cpu().numpy()}
        if input_ids.device.type == "cpu":
            end_torch_threads()
        with _denormals_are_zero():
            (hidden,) = self._session.run(["last_hidden_state"], inputs)
        return BaseModelOutput(last_hidden_state=torch.from_numpy(hidden).to(input_ids.device))

    def replace_session_after_fork(self) -> None:
        """Leave the session of the parent process, so that this child process creates its own when it needs one.

        A fork does not copy the threads of a session. The inherited session would compute with one thread, and its
        destructor, which runs at the latest when the process exits, would wait forever for the other threads. So the
        inherited session is never destroyed. A session with one thread can be used and destroyed, and is kept, because
        parent and child share its memory. A session whose file was deleted is kept too.
        """
        if self._session is None or self._num_threads == 1:
            return
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        if self.path is not None and os.path.exists(self.path):
            self._session = None

    def get_input_embeddings(self) -> nn.Module:
        raise NotImplementedError(f"{self.name} is an ONNX file: its embeddings are not accessible.")

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be copied or pickled. A copy of the encoder creates a new session.
        return {**self.__dict__, "_session": None}


# The encoders of this process that have had a session
_LOADED: "WeakSet[OnnxEncoder]" = WeakSet()


def _replace_sessions() -> None:
    for encoder in _LOADED:
        encoder.replace_session_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_sessions)
