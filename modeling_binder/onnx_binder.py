"""An encoder that onnxruntime runs, in the place of a transformers encoder. Everything behind it stays as it is."""

import ctypes
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

_SOFT = 1  # omp_pause_soft of the OpenMP standard: settings stay


@contextmanager
def _denormals_are_zero() -> Iterator[None]:
    """Attention weights of masked positions are too small for a normal float, and such numbers are slow to multiply.

    onnxruntime sets this for its own threads; the caller's, which works with them, is left as it was found.
    """
    before = sys.float_info.min / 16 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@functools.cache
def _openmp() -> Any:
    """The OpenMP runtime that came with torch, where it is GNU's (Linux); None elsewhere."""
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        try:
            library = ctypes.CDLL(str(path))  # the one that is loaded already
        except OSError:
            continue
        if hasattr(library, "omp_pause_resource"):
            return library
    return None


def end_torch_threads() -> None:
    """End the threads with which torch worked for the calling thread; the next work starts them again.

    They would spin for milliseconds after it, on the cores that onnxruntime needs now, and take a tenth of its time.
    To start them costs some microseconds each. Does nothing where torch's threads are not GNU OpenMP's.
    """
    if (openmp := _openmp()) is not None:
        openmp.omp_pause_resource(_SOFT, openmp.omp_get_initial_device())


class OnnxEncoder(nn.Module):
    """Runs `NAME.onnx`, which has the inputs `input_ids` and `attention_mask` and the output `last_hidden_state`.

    Args:
        config: of the encoder that was exported.
        name: "text_encoder" or "type_encoder".
        max_positions: tokens that it can read.
    """

    def __init__(self, config: Any, name: str, max_positions: int) -> None:
        super().__init__()
        self.config, self.name, self.max_positions = config, name, max_positions
        self.path: str | None = None
        self._session: Any = None

    def load(self, path: str) -> None:
        """Make the session.

        Raises:
            ImportError: onnxruntime is not installed.
        """
        try:
            import onnxruntime
        except ImportError:
            raise ImportError(
                "this checkpoint's encoders are ONNX files, which onnxruntime runs: pip install onnxruntime"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that spin between two operators save time; between two runs they would take the cores from torch.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        options.log_severity_level = 3
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        # On a CPU the fused operator takes three times as long as the addition and the normalisation that it replaces.
        slow = None if providers[0].startswith("CUDA") else ["SkipLayerNormFusion"]
        with _denormals_are_zero():
            self._session = onnxruntime.InferenceSession(path, options, providers=providers, disabled_optimizers=slow)
        self.path = path

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        """Hidden states [B, L, H], float32, on the device of `input_ids`; no gradient passes."""
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
        raise NotImplementedError(f"{self.name} is an ONNX file: its embeddings cannot be taken out.")

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be copied or pickled; the copy makes its own.
        return {**self.__dict__, "_session": None}
