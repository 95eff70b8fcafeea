"""Export a checkpoint, compare it with the original, and write it only if the two agree."""

import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..exported_binder import ExportedEncoder
from ..finetuning import read_documents
from ..loading import load_tokenizer
from ..modeling_binder import BinderModel
from ..onnx_binder import OnnxEncoder
from ..openvino_binder import OpenVinoEncoder
from ..pipeline_binder import BinderNerPipeline
from .encoders import replace_encoders
from .gate import ExportError, check
from .onnx import write_onnx
from .openvino import calibration_windows, write_openvino


def export(
    source: str,
    target: str | os.PathLike[str],
    *,
    backend: str = "onnx",
    int8: bool = False,
    freeze_types: bool = False,
    data: str | Path | None = None,
    max_loss: float = 0.5,
    overwrite: bool = False,
    onnx: bool | None = None,
) -> str:
    """Export a checkpoint, compare it with the original, and write it only if the two agree.

    Args:
        source: the folder of the original checkpoint, or its id on the Hub.
        target: the output folder. It must be empty or missing, unless `overwrite` is true.
        backend: library that runs the encoders of the export: "onnx", "openvino" or "torch".
        int8: compute the matrix products of the text encoder in 8 bits. A separate type encoder stays in float32,
            because it runs only once per entity type.
        freeze_types: store the vectors of the model's entity types instead of a type encoder. The backend "torch"
            always does this, and changes nothing else.
        data: path of documents with gold mentions, on which the two checkpoints are compared. A float32 export must
            find the same spans as the original. For OpenVINO in int8, the ranges of the activations are computed from
            the texts of these documents.
        max_loss: points of F1 on `data` that an int8 export may lose.
        overwrite: replace the output folder.
        onnx: deprecated; `onnx=False` is now `backend="torch"`.

    Returns:
        The result of the comparison, as a sentence.

    Raises:
        ExportError: the exported checkpoint does not agree with the original, or a package is missing.
        ValueError: an argument is invalid.
    """
    if onnx is not None:
        warnings.warn("export(onnx=...) is now export(backend='onnx' or 'torch').", FutureWarning, stacklevel=2)
        backend = "onnx" if onnx else "torch"
    int8, freeze_types = int8 and backend != "torch", freeze_types or backend == "torch"
    target = Path(target)
    _check_arguments(target, backend, int8, data, overwrite)
    documents: list[Any] = [] if data is None else read_documents(data)
    tokenizer = load_tokenizer(source)
    original, changed = _load(source, tokenizer), _load(source, tokenizer).model
    if changed.exported_encoders():
        raise ValueError(f"{source} runs on {changed.backend} already: export the original checkpoint.")
    if freeze_types and not changed.config.entity_types:
        raise ValueError(f"{source} has no entity types to freeze.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary, "model")
        folder.mkdir()
        if freeze_types:
            changed.freeze_types(tokenizer)
        if backend != "torch":
            _replace_encoders(changed, tokenizer, folder, backend, int8, documents)
        changed.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        report = check(original, _load(str(folder), tokenizer), documents, max_loss if int8 else None)
        facts = {"made of": source, "check": report}
        (folder / "export.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if target.exists():
            # The old folder is deleted with the temporary folder, after the new folder has replaced it.
            os.replace(target, Path(temporary, "former"))
        os.replace(folder, target)
    return report


def _check_arguments(target: Path, backend: str, int8: bool, data: str | Path | None, overwrite: bool) -> None:
    if backend not in ("onnx", "openvino", "torch"):
        raise ValueError(f"backend must be 'onnx', 'openvino' or 'torch', got {backend!r}.")
    if int8 and data is None:
        raise ValueError("an int8 export is checked on documents with gold mentions: add --data dev.jsonl.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not overwrite:
        raise ValueError(f"{target} already exists: choose another folder, or add --overwrite.")


def _load(name: str, tokenizer: Any) -> BinderNerPipeline:
    model = BinderModel.from_pretrained(name, dtype=torch.float32).eval()
    if model.has_adapters:
        model.merge_and_unload()
    return BinderNerPipeline(model=model, tokenizer=tokenizer, task="binder-ner", device=torch.device("cpu"))


def _replace_encoders(
    model: BinderModel, tokenizer: Any, folder: Path, backend: str, int8: bool, documents: Sequence[Any]
) -> None:
    def write(encoder: Any, path: Path, int8: bool) -> None:
        if backend == "onnx":
            write_onnx(encoder, path, int8)
        else:
            write_openvino(encoder, path, windows if int8 else None)

    windows: list[list[int]] = []
    if int8 and backend == "openvino":
        windows = calibration_windows(model, tokenizer, [document.text for document in documents])
    runtime: type[ExportedEncoder] = OnnxEncoder if backend == "onnx" else OpenVinoEncoder
    try:
        replace_encoders(model, tokenizer, folder, runtime, write, int8)
    except ImportError as error:
        raise ExportError(f"{error}: pip install 'binder-ner[{backend}]' to export.") from error
