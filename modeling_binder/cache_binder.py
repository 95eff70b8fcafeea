"""Vectors of entity types on disk, beside the model: a description is encoded once, and not once a process."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils import logging

logger = logging.get_logger(__name__)

FILE = "type_vectors.safetensors"
MOST = 2**15  # vectors kept in a file: 50 MB of them


class TypeVectorCache:
    """A safetensors file of vectors [3, D], each under a hash of the weights and the tokens that it was made of.

    A file that cannot be read or written costs time and nothing else.

    Args:
        path: the file.
        model: whose type encoder and heads the vectors belong to.
    """

    def __init__(self, path: str | os.PathLike[str], model: Any) -> None:
        self.path, self.model = Path(path), model
        self._weights: str | None = None

    def key(self, input_ids: Iterable[int]) -> str:
        """The name of the vector of a tokenised description."""
        if self._weights is None:
            self._weights = _hash_of_weights(self.model)
        tokens = ",".join(map(str, input_ids))
        return hashlib.sha256(f"{self._weights} {tokens}".encode()).hexdigest()

    def read(self, keys: Iterable[str]) -> dict[str, Tensor]:
        """Those of the vectors that are there."""
        held = self._held()
        return {key: held[key] for key in keys if key in held}

    def write(self, vectors: Mapping[str, Tensor]) -> None:
        """Add vectors; what another process added meanwhile stays, as long as there is room."""
        held = {**self._held(), **{key: vector.detach().cpu().contiguous() for key, vector in vectors.items()}}
        kept = dict(list(held.items())[-MOST:])
        beside = None
        try:
            handle, beside = tempfile.mkstemp(dir=self.path.parent, prefix=f"{self.path.name}.")
            os.close(handle)
            save_file(kept, beside)
            os.replace(beside, self.path)
        except (OSError, SafetensorError) as error:
            logger.info("The vectors of new types are not kept in %s: %s", self.path, error)
            if beside is not None and os.path.exists(beside):
                os.remove(beside)

    def _held(self) -> dict[str, Tensor]:
        try:
            return load_file(self.path) if self.path.exists() else {}
        except (OSError, SafetensorError) as error:
            logger.info("%s is not read: %s", self.path, error)
            return {}


def beside(model: Any) -> Path | None:
    """Where the cache of a model is: in its folder, or in its part of the Hub's cache; None for neither."""
    name = getattr(model.config, "_name_or_path", None)
    if not name:
        return None
    if os.path.isdir(name):
        return Path(name) / FILE if os.access(name, os.W_OK) else None
    try:
        config = try_to_load_from_cache(name, "config.json", revision=getattr(model.config, "_commit_hash", None))
    except ValueError:  # no id of the Hub
        return None
    return Path(config).parents[2] / FILE if isinstance(config, str) else None


def raw(tensor: Tensor) -> Any:
    """The bytes of a tensor of any type, to be hashed where they lie."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def _hash_of_weights(model: Any) -> str:
    """Of all that makes a type's vector: the encoder of descriptions and the heads' side of the types."""
    digest = hashlib.blake2b(digest_size=16)
    encoder = model.type_encoder if model.type_encoder is not None else model.text_encoder
    path = getattr(encoder, "path", None)
    if path is not None:  # an ONNX file
        with open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    heads = (model.start_head, model.end_head, model.span_head)
    parts = [encoder, *(head.type_projection for head in heads)]
    for part in parts:
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(raw(tensor))
    return digest.hexdigest()
