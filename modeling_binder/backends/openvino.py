"""Write an encoder as OpenVINO files, in float32 or int8."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..modeling_binder import BinderModel
from ..processing_binder import BinderWindower
from .encoders import HiddenStates, example_inputs

# More windows make the calibration slower, and the scales of the activations hardly change.
MAX_CALIBRATION_WINDOWS = 300


def write_openvino(encoder: Any, path: Path, windows: Sequence[Sequence[int]] | None) -> None:
    """Write an encoder as two OpenVINO files, `NAME.xml` and `NAME.bin`.

    Args:
        encoder: an encoder of transformers in float32.
        path: path of the xml file.
        windows: token ids of text windows. If there are windows, the matrix products are computed in 8 bits. The scales
            of the activations are computed from these windows (static quantisation), so the hidden states of a text do
            not depend on the other texts in a batch. `None` means float32.

    Raises:
        ImportError: a package is missing.
    """
    with _no_telemetry():
        import openvino

        if windows is not None:
            import nncf  # noqa: F401, so that a missing package is noticed before the export

        inputs, dynamic = example_inputs(encoder)
        program = torch.export.export(HiddenStates(encoder).eval(), inputs, dynamic_shapes=dynamic)
        model = openvino.convert_model(program)
        names = "input_ids", "attention_mask", "last_hidden_state"
        for port, name in zip([*model.inputs, *model.outputs], names, strict=True):
            port.get_tensor().set_names({name})
        if windows is not None:
            model = _quantise(model, windows)
        openvino.save_model(model, path, compress_to_fp16=False)


def calibration_windows(model: BinderModel, tokenizer: Any, texts: Iterable[str]) -> list[list[int]]:
    """Return the token ids of at most `MAX_CALIBRATION_WINDOWS` windows, evenly spaced over texts.

    Raises:
        ValueError: all texts are empty.
    """
    windower = BinderWindower.for_model(model, tokenizer)
    windows = [list(window.input_ids) for text in texts if text.strip() for window in windower.read(text)]
    if not windows:
        raise ValueError("the scales of int8 numbers are computed from texts, and all texts of --data are empty.")
    return windows[:: -(-len(windows) // MAX_CALIBRATION_WINDOWS)]


def _quantise(model: Any, windows: Sequence[Sequence[int]]) -> Any:
    import nncf
    import numpy as np

    # Windows are not padded, because the activations of padding would widen the scales.
    inputs = [{"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)} for ids in windows]
    return nncf.quantize(model, nncf.Dataset(inputs), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(inputs))


@contextlib.contextmanager
def _no_telemetry() -> Iterator[None]:
    """Prevent OpenVINO and NNCF from reporting their use to Google Analytics.

    They do not report it in CI jobs, so this function sets the environment variable that marks a CI job.
    """
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before
