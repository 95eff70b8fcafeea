"""Export a checkpoint: encoders as ONNX files, in float32 or int8; or its types frozen.

    python -m modeling_binder.backends onnx checkpoints/mine checkpoints/mine-onnx
    python -m modeling_binder.backends onnx checkpoints/mine checkpoints/mine-int8 --int8 --data my_corpus/dev.jsonl
    python -m modeling_binder.backends frozen checkpoints/mine checkpoints/mine-frozen

The result is a checkpoint like any other: pipeline("binder-ner", model="checkpoints/mine-int8"). Only the encoders are
ONNX; heads, windows and decoding are the same code, with any number of types. Nothing is written that does not agree
with the checkpoint it was made of.
"""

import argparse
import sys
from pathlib import Path

from transformers.utils import logging

from .export import export
from .gate import ExportError


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m modeling_binder.backends",
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
