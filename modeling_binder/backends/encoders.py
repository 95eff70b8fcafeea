"""Replace the encoders of a model by encoders that another runtime runs."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..exported_binder import ExportedEncoder
from ..modeling_binder import BinderModel


def replace_encoders(
    model: BinderModel,
    tokenizer: Any,
    folder: Path,
    runtime: type[ExportedEncoder],
    write: Callable[[Any, Path, bool], None],
    int8: bool,
) -> None:
    """Replace the encoders of a model by encoders that another runtime runs, with dynamic batch size and length.

    Args:
        model: a model in float32.
        tokenizer: the tokenizer of the model.
        folder: a folder for the files of the new encoders.
        runtime: class of the new encoders.
        write: writes the files of an encoder. The arguments are the encoder, the path of the first file, and whether to
            compute the matrix products in 8 bits.
        int8: whether the text encoder computes in 8 bits. A separate type encoder never does, because it runs only once
            per type.

    Raises:
        ImportError: a package is missing.
    """
    limits = {"text_encoder": model.max_positions, "type_encoder": model.max_type_positions}
    encoders = {name: getattr(model, name) for name in limits if getattr(model, name) is not None}
    for name, encoder in encoders.items():
        tokenizer_of_encoder = model.type_tokenizer or tokenizer if name == "type_encoder" else tokenizer
        exported = runtime(encoder.config, name, limits[name] or tokenizer_of_encoder.model_max_length)
        paths = [folder / file for file in exported.files]
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet():
            warnings.simplefilter("ignore")
            write(encoder, paths[0], int8 and name == "text_encoder")
        exported.load([str(path) for path in paths])
        setattr(model, name, exported)
    setattr(model.config, runtime.backend, {name: getattr(model, name).max_positions for name in encoders})


class HiddenStates(nn.Module):
    """Wraps an encoder as a function from two tensors to one tensor, which exporters can trace."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


def example_inputs(encoder: Any) -> tuple[tuple[Tensor, Tensor], tuple[Any, Any]]:
    """Return example inputs of `HiddenStates` with padding, and which of their dimensions are dynamic."""
    ids = torch.arange(3 * 17).reshape(3, 17) % encoder.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    dynamic = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    return (ids, mask), (dynamic, dynamic)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence exporters and quantisers, whose warnings are meant for their developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
