"""Base class of encoders that another runtime runs from files; the rest of the model is unchanged."""

import ctypes
import functools
import hashlib
import os
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

_OMP_PAUSE_SOFT = 1  # constant of the OpenMP standard: end the threads but keep the settings


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

    After a computation, idle threads of torch keep the cores busy for some milliseconds. The other runtime (onnxruntime
    or OpenVINO) needs these cores. Without this function, onnxruntime takes a tenth longer. Starting a thread again
    takes only some microseconds. This function does nothing if torch does not use GNU OpenMP.
    """
    if (openmp := _openmp()) is not None:
        openmp.omp_pause_resource(_OMP_PAUSE_SOFT, openmp.omp_get_initial_device())


def _replace_torch_pool() -> None:
    """Replace the second pool of threads of torch, which `torch.set_num_threads` creates, by a pool of this process.

    A fork does not copy the threads of the inherited pool, but torch joins them when the child process exits. Then
    it would wait forever if a new thread has taken the memory of one of them, and crash if this memory is no longer
    mapped. torch replaces an inherited pool when it is used, so this function uses it once.
    """
    torch.set_num_threads(torch.get_num_threads())


# multiprocessing, datasets.map and gunicorn with preloading fork the process. A fork copies only the calling thread. So
# torch would wait forever in the child process for threads that do not exist there. To prevent this, end the threads of
# torch before a fork. Then torch starts new threads in the child process.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=end_torch_threads, after_in_child=_replace_torch_pool)


class ExportedEncoder(nn.Module):
    """An encoder in files, with the inputs `input_ids` and `attention_mask` and the output `last_hidden_state`.

    Args:
        config: configuration of the exported encoder.
        name: "text_encoder" or "type_encoder"; the files are named after it.
        max_positions: maximum number of tokens that the encoder accepts.
    """

    backend: str  # name of the runtime
    suffixes: tuple[str, ...]  # suffixes of the files
    starts_after_fork = True  # whether a forked process can create a session although its parent had one
    digest: Tensor

    def __init__(self, config: Any, name: str, max_positions: int) -> None:
        super().__init__()
        self.config, self.name, self.max_positions = config, name, max_positions
        self.paths: list[str] = []
        self._session: Any = None
        self._num_threads = 1  # of the session
        # The SHA-256 of the files. It is stored with the weights of the model, so that files of other weights are
        # noticed. Zeros mean that the checkpoint is older than this check.
        self.register_buffer("digest", torch.zeros(32, dtype=torch.uint8))

    @property
    def files(self) -> list[str]:
        """The names of the files in a checkpoint."""
        return [f"{self.name}{suffix}" for suffix in self.suffixes]

    def load(self, paths: list[str]) -> None:
        """Load the files.

        Args:
            paths: one path for each of `files`.

        Raises:
            ImportError: the runtime is not installed.
            ValueError: the files belong to other weights than those of the model.
        """
        found = _digest(paths)
        if self.digest.any() and bytes(self.digest.tolist()) != found:
            raise ValueError(
                f"{' and '.join(self.files)} do not belong to model.safetensors: they were exported from other "
                "weights, or were changed. Copy all files of one export, or export the original checkpoint again: "
                f"binder-ner export {self.backend} MODEL OUTPUT"
            )
        self.digest.copy_(torch.tensor(list(found), dtype=torch.uint8))
        self.paths = paths
        self._open()

    def _open(self) -> None:
        self._num_threads = torch.get_num_threads()
        self._session = self.start(self.paths)
        _LOADED.add(self)

    def start(self, paths: list[str]) -> Any:
        """Return a session of the runtime. It does not need to support copying or pickling."""
        raise NotImplementedError

    def run(self, session: Any, inputs: dict[str, Any]) -> Any:
        """Return the hidden states [B, L, H] as a numpy array.

        Args:
            session: the result of `start`.
            inputs: numpy arrays [B, L] of integers.
        """
        raise NotImplementedError

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        """Return the hidden states of tokens, [B, L, H], in float32 on the device of `input_ids`, without gradients."""
        if self._session is None:
            if not self.paths:
                raise RuntimeError(f"{self.files[0]} is not loaded: load the checkpoint with from_pretrained.")
            self._open()
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        inputs = {"input_ids": input_ids.cpu().numpy(), "attention_mask": mask.cpu().numpy()}
        if input_ids.device.type == "cpu":
            end_torch_threads()
        hidden = torch.from_numpy(self.run(self._session, inputs))
        return BaseModelOutput(last_hidden_state=hidden.to(input_ids.device))

    def replace_session_after_fork(self) -> None:
        """Stop using the session that this process inherited, so that it creates its own when it needs one.

        A fork does not copy the threads of a session. The inherited session would compute with one thread, and its
        destructor, which runs at the latest when the process exits, would wait forever for the other threads. So an
        inherited session with several threads is never destroyed. A session with one thread has no such problem. The
        child process continues to use it, because this saves memory. It also continues to use a session whose files
        were deleted, or whose runtime cannot create another session in a forked process.
        """
        if self._session is None or self._num_threads == 1:
            return
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        if self.starts_after_fork and all(os.path.exists(path) for path in self.paths):
            self._session = None

    def get_input_embeddings(self) -> nn.Module:
        raise NotImplementedError(f"{self.name} runs in {self.backend}: its embeddings are not accessible.")

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be copied or pickled. A copy of the encoder creates a new session.
        return {**self.__dict__, "_session": None}


def _digest(paths: list[str]) -> bytes:
    """Return the SHA-256 of the contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.digest()


# The encoders of this process that have had a session
_LOADED: "WeakSet[ExportedEncoder]" = WeakSet()


def _replace_sessions() -> None:
    for encoder in _LOADED:
        encoder.replace_session_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_sessions)
