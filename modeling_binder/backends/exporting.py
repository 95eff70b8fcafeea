"""Export a checkpoint, compare it with the original, and write it only if the two agree."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from ..finetuning import read_documents
from ..loading import load_tokenizer
from ..modeling_binder import BinderModel
from ..pipeline_binder import BinderNerPipeline
from .gate import ExportError, check
from .onnx import export_onnx


def export(
    source: str,
    target: str | os.PathLike[str],
    *,
    onnx: bool = True,
    int8: bool = False,
    freeze_types: bool = False,
    data: str | Path | None = None,
    max_loss: float = 0.5,
    overwrite: bool = False,
) -> str:
    """Export a checkpoint, compare it with the original, and write it only if the two agree.

    Args:
        source: the folder of the original checkpoint, or its id on the Hub.
        target: the output folder. It must be empty or missing, unless `overwrite` is true.
        onnx: store the encoders as ONNX files. If false, only the entity types are frozen.
        int8, freeze_types: see `export_onnx`.
        data: path of documents with gold mentions, on which the two checkpoints are compared. A float32 export must
            find the same spans as the original.
        max_loss: points of F1 on `data` that an int8 export may lose.
        overwrite: replace the output folder.

    Returns:
        The result of the comparison, as a sentence.

    Raises:
        ExportError: the exported checkpoint does not agree with the original, or a package is missing.
        ValueError: an argument is invalid.
    """
    if int8 and data is None:
        raise ValueError("an int8 export is checked on documents with gold mentions: add --data dev.jsonl.")
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not overwrite:
        raise ValueError(f"{target} already exists: choose another folder, or add --overwrite.")
    documents: list[Any] = []
    if data is not None:
        documents = read_documents(data)
    tokenizer = load_tokenizer(source)
    original, changed = _load(source, tokenizer), _load(source, tokenizer).model
    if changed.onnx_encoders():
        raise ValueError(f"{source} has ONNX encoders already: export the original checkpoint.")
    if freeze_types and not changed.config.entity_types:
        raise ValueError(f"{source} has no entity types to freeze.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary, "model")
        folder.mkdir()
        if onnx:
            _export_onnx(changed, tokenizer, folder, int8, freeze_types)
        else:
            changed.freeze_types(tokenizer).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        report = check(original, _load(str(folder), tokenizer), documents, max_loss if onnx and int8 else None)
        facts = {"made of": source, "check": report}
        (folder / "export.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if target.exists():
            os.replace(target, Path(temporary, "former"))  # it is deleted only after the new folder is in its place
        os.replace(folder, target)
    return report


def _load(name: str, tokenizer: Any) -> BinderNerPipeline:
    model = BinderModel.from_pretrained(name, dtype=torch.float32).eval()
    if model.has_adapters:
        model.merge_and_unload()
    return BinderNerPipeline(model=model, tokenizer=tokenizer, task="binder-ner", device=torch.device("cpu"))


def _export_onnx(model: BinderModel, tokenizer: Any, folder: Path, int8: bool, freeze_types: bool) -> None:
    try:
        export_onnx(model, tokenizer, folder, int8, freeze_types)
    except ImportError as error:
        raise ExportError(f"{error}: pip install 'binder-ner[onnx]' to export.") from error
