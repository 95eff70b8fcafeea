"""Export a checkpoint: encoders as ONNX files, in float32 or int8; or its types frozen.

    python -m modeling_binder.export onnx checkpoints/mine checkpoints/mine-onnx
    python -m modeling_binder.export onnx checkpoints/mine checkpoints/mine-int8 --int8 --data my_corpus/dev.jsonl
    python -m modeling_binder.export frozen checkpoints/mine checkpoints/mine-frozen

The result is a checkpoint like any other: pipeline("binder-ner", model="checkpoints/mine-int8"). Only the encoders are
ONNX; heads, windows and decoding are the same code, with any number of types. Nothing is written that does not agree
with the checkpoint it was made of.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer
from transformers.utils import logging

from hub_cards import EXAMPLES

from .modeling_binder import BinderModel
from .onnx_binder import OnnxEncoder
from .pipeline_binder import BinderNerPipeline

Texts = Sequence[str]
# Scores of two float32 programs differ in the last bits: spans this near to their threshold may go either way.
_TIE = 1e-3


class ExportError(RuntimeError):
    """The exported model does not do what the checkpoint does, or cannot be made; nothing was written."""


class _Hidden(nn.Module):
    """An encoder as a function of two tensors."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


def export_onnx(
    model: BinderModel, tokenizer: Any, folder: str | os.PathLike[str], int8: bool = False, freeze_types: bool = False
) -> None:
    """Write a checkpoint whose encoders are ONNX files, with dynamic batch and length, unchecked.

    Args:
        model: in float32.
        tokenizer: of the model.
        folder: an empty one.
        int8: weights and activations of the text encoder's matrix products in 8 bits (dynamic quantisation). An
            encoder for the types alone stays as it is: it runs once a type.
        freeze_types: keep the vectors of the model's types instead of a type encoder.
    """
    folder = Path(folder)
    if freeze_types:
        model.freeze_types(tokenizer)
    limits = {"text_encoder": model.max_positions, "type_encoder": model.max_type_positions}
    encoders = {name: getattr(model, name) for name in limits if getattr(model, name) is not None}
    for name, encoder in encoders.items():
        _write_onnx(encoder, folder / f"{name}.onnx", int8 and name == "text_encoder")
        shell = OnnxEncoder(encoder.config, name, limits[name] or tokenizer.model_max_length)
        shell.path = str(folder / f"{name}.onnx")
        setattr(model, name, shell)
    model.config.onnx = {name: getattr(model, name).max_positions for name in encoders}
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_onnx(encoder: Any, path: Path, int8: bool) -> None:
    ids = torch.arange(3 * 17).reshape(3, 17) % encoder.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    dynamic = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    # Operator set 23 has attention as one operator, which onnxruntime runs faster than its parts.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet():
        warnings.simplefilter("ignore")
        from onnxscript.optimizer import optimize
        from onnxscript.rewriter import rewrite

        from .onnx_attention import ATTENTION_ON_HIDDEN_STATES

        program: Any = torch.onnx.export(
            _Hidden(encoder).eval(),
            (ids, mask),
            input_names=["input_ids", "attention_mask"],
            output_names=["last_hidden_state"],
            dynamo=True,
            dynamic_shapes=(dynamic, dynamic),
            opset_version=23,
            optimize=False,  # it would fuse rotary positions into an operator that onnxruntime refuses to run
            verbose=False,
        )
        program.model = rewrite(optimize(program.model), [ATTENTION_ON_HIDDEN_STATES])
        program.save(path, external_data=False)
        if int8:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            wide = path.with_suffix(".fp32.onnx")
            path.rename(wide)
            # Matrix products alone: the quantiser would take the attention operator for another one of that name.
            quantize_dynamic(
                wide, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
            )
            wide.unlink()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's and the quantiser's advice is for their developers."""
    import logging as standard

    before = standard.root.manager.disable
    standard.disable(standard.WARNING)
    try:
        yield
    finally:
        standard.disable(before)


def disagreements(one: BinderNerPipeline, two: BinderNerPipeline, texts: Texts) -> list[str]:
    """Spans that one pipeline finds and the other does not, ties aside, as sentences."""
    lowest = 0.3
    said = []
    for text, *results in zip(
        texts, one(list(texts), threshold=lowest), two(list(texts), threshold=lowest), strict=True
    ):
        first, second = ({(e["entity_group"], e["start"], e["end"]): e["score"] for e in found} for found in results)
        for span in first.keys() | second.keys():
            scores = first.get(span, lowest), second.get(span, lowest)
            if abs(scores[0] - scores[1]) > _TIE:
                kind, start, end = span
                said.append(f"{kind} {text[start:end]!r}: {scores[0]:.4f} and {scores[1]:.4f}")
    return said


def f1(pipe: BinderNerPipeline, documents: Sequence[Any]) -> float:
    """Exact-match micro-F1 of a pipeline on documents, in percent."""
    from .finetuning import compute_span_metrics

    found = pipe([document.text for document in documents])
    guesses = [[(e["start"], e["end"], e["entity_group"]) for e in entities] for entities in found]
    gold = [document.entities for document in documents]
    return 100 * compute_span_metrics(gold, guesses, list(pipe.model.config.type_descriptions)).micro.f1


def check(original: BinderNerPipeline, exported: BinderNerPipeline, data: Sequence[Any], max_loss: float | None) -> str:
    """Compare an exported checkpoint with the one that it was made of; what was found, in a sentence.

    Without `max_loss` the spans must be the same on the texts of the data, or on sentences of our own; with it the F1
    on the data may fall by so many points, as is expected of int8.

    Raises:
        ExportError: it does not agree.
    """
    if max_loss is not None:
        before, after = f1(original, data), f1(exported, data)
        said = f"F1 {before:.2f} in float32, {after:.2f} in int8, on {len(data):,} documents"
        if before - after > max_loss:
            raise ExportError(
                f"int8 loses {before - after:.2f} points of F1, more than {max_loss:g} ({said}); nothing was written. "
                "Try without --int8, or on the original checkpoint pipeline(..., dtype='bfloat16'); --max-loss allows "
                "more."
            )
        return said
    texts = [document.text for document in data[:500]] or [*EXAMPLES, " ".join(EXAMPLES * 4)]
    different = disagreements(original, exported, texts)
    if different:
        raise ExportError(
            f"the exported model finds other spans, {len(different)} on {len(texts)} texts "
            f"({'; '.join(different[:3])}); nothing was written. Please report this with the encoder's name."
        )
    return f"the same spans on {len(texts)} texts"


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
    """Export, check, and only then put the result where it was asked for.

    Args:
        source: folder or id on the Hub.
        target: folder to write; must not be there, or be empty, unless `overwrite`.
        onnx: encoders as ONNX files; else the checkpoint with its types frozen.
        int8, freeze_types: see `export_onnx`.
        data: documents with gold mentions: what int8 is judged by, and texts for the comparison in float32.
        max_loss: points of F1 that int8 may lose on the data.
        overwrite: replace the target.

    Returns:
        What the check found.

    Raises:
        ExportError: the result does not agree with the source, or a package is missing.
        ValueError: an argument is wrong.
    """
    if int8 and data is None:
        raise ValueError("int8 is judged by its F1: name documents with gold mentions, --data dev.jsonl.")
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not overwrite:
        raise ValueError(f"{target} is there already: name another folder, or add --overwrite.")
    documents: list[Any] = []
    if data is not None:
        from .finetuning import read_documents

        documents = read_documents(data)
    tokenizer = AutoTokenizer.from_pretrained(source)

    def load(name: str) -> BinderNerPipeline:
        model = BinderModel.from_pretrained(name, dtype=torch.float32).eval()
        return BinderNerPipeline(
            model=model, tokenizer=tokenizer, task="binder-ner", device=torch.device("cpu"), type_cache=False
        )

    original, changed = load(source), load(source).model
    if changed.onnx_encoders():
        raise ValueError(f"{source} has ONNX encoders already: export the checkpoint that it was made of.")
    if freeze_types and not changed.config.entity_types:
        raise ValueError(f"{source} has no entity types to freeze.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        folder = Path(beside, "model")
        folder.mkdir()
        if onnx:
            try:
                export_onnx(changed, tokenizer, folder, int8, freeze_types)
            except ImportError as error:
                raise ExportError(f"{error}: pip install 'binder-ner[onnx]' to export.") from error
        else:
            changed.freeze_types(tokenizer).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        said = check(original, load(str(folder)), documents, max_loss if onnx and int8 else None)
        facts = {"made of": source, "check": said}
        (folder / "export.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        os.replace(folder, target)
    return said


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m modeling_binder.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("onnx", "encoders as ONNX files"), ("frozen", "the types' vectors, no type encoder")):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("model", help="folder or id on the Hub")
        command.add_argument("output", type=Path, help="folder to write")
        command.add_argument("--data", type=Path, help="documents with gold mentions (JSONL, or columns with IOB tags)")
        command.add_argument("--overwrite", action="store_true", help="replace the folder")
        if name == "onnx":
            command.add_argument("--int8", action="store_true", help="8 bits instead of 32; needs --data")
            command.add_argument("--max-loss", type=float, default=0.5, help="points of F1 (default 0.5)")
            command.add_argument("--freeze-types", action="store_true", help="keep the types' vectors alone")
    arguments = parser.parse_args(argv)
    logging.disable_progress_bar()
    onnx = arguments.command == "onnx"
    try:
        said = export(
            arguments.model,
            arguments.output,
            onnx=onnx,
            int8=onnx and arguments.int8,
            freeze_types=not onnx or arguments.freeze_types,
            data=arguments.data,
            max_loss=arguments.max_loss if onnx else 0.5,
            overwrite=arguments.overwrite,
        )
    except (ExportError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    size = sum(path.stat().st_size for path in arguments.output.iterdir()) / 1e6
    print(f"{arguments.output}: {size:,.0f} MB; {said}.")


if __name__ == "__main__":
    main()
