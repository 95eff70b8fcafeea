"""An encoder that runs in onnxruntime in place of a transformers encoder; the rest of the model is unchanged."""

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

_OMP_PAUSE_SOFT = 1  # constant of the OpenMP standard: end the threads and keep the settings


@contextmanager
def _denormals_are_zero() -> Iterator[None]:
    """Treat denormal floats as zero in the calling thread, and restore its setting afterwards.

    Attention weights of masked positions are denormal, and multiplying denormal floats is slow. onnxruntime changes
    this setting for its own threads, but the calling thread computes too.
    """
    before = sys.float_info.min / 16 == 0  # true if the thread already treats denormal floats as zero
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@functools.cache
def _openmp() -> Any:
    """Return torch's OpenMP runtime if it is the GNU one (Linux), otherwise None."""
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        try:
            library = ctypes.CDLL(str(path))  # returns the library that is already loaded
        except OSError:
            continue
        if hasattr(library, "omp_pause_resource"):
            return library
    return None


def end_torch_threads() -> None:
    """End the threads that torch started for the calling thread; torch starts them again when it needs them.

    Otherwise these threads keep spinning for milliseconds on the cores that onnxruntime needs, which costs onnxruntime
    a tenth of its time. Starting a thread again takes some microseconds. The function does nothing if torch does not
    use GNU OpenMP.
    """
    if (openmp := _openmp()) is not None:
        openmp.omp_pause_resource(_OMP_PAUSE_SOFT, openmp.omp_get_initial_device())


# multiprocessing, datasets.map and gunicorn with preloading fork the process. A fork copies only the calling thread, so
# torch would wait forever in the child process for threads that do not exist there. If the threads of torch are ended
# before the fork, torch starts new threads in the child process.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=end_torch_threads)


class OnnxEncoder(nn.Module):
    """Runs `NAME.onnx`, with the inputs `input_ids` and `attention_mask` and the output `last_hidden_state`.

    Args:
        config: configuration of the exported encoder.
        name: "text_encoder" or "type_encoder".
        max_positions: maximum number of tokens that the encoder accepts.
    """

    def __init__(self, config: Any, name: str, max_positions: int) -> None:
        super().__init__()
        self.config, self.name, self.max_positions = config, name, max_positions
        self.path: str | None = None
        self._session: Any = None

    def load(self, path: str) -> None:
        """Load an ONNX file into a session of onnxruntime.

        Raises:
            ImportError: onnxruntime is not installed.
        """
        try:
            import onnxruntime
        except ImportError:
            raise ImportError(
                "the encoders of this checkpoint are ONNX files and need onnxruntime: pip install onnxruntime"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that spin save time between two operators. Between two runs they would block the cores that torch
        # needs, so they stop spinning at the end of a run.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        options.log_severity_level = 3
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        # SkipLayerNormFusion joins an addition and a layer normalisation into one operator. On a CPU this operator
        # takes three times as long as the two separate operators.
        slow = None if providers[0].startswith("CUDA") else ["SkipLayerNormFusion"]
        with _denormals_are_zero():
            self._session = onnxruntime.InferenceSession(path, options, providers=providers, disabled_optimizers=slow)
        self.path = path

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        """Return hidden states [B, L, H] in float32 on the device of `input_ids`, without gradients."""
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

    def get_input_embeddings(self) -> nn.Module:
        raise NotImplementedError(f"{self.name} is an ONNX file: its embeddings are not accessible.")

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be copied or pickled; the copy creates its own.
        return {**self.__dict__, "_session": None}
