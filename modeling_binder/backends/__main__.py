"""Export a checkpoint with ONNX encoders (float32 or int8), or with frozen entity types.

    python -m modeling_binder.backends onnx checkpoints/mine checkpoints/mine-onnx
    python -m modeling_binder.backends onnx checkpoints/mine checkpoints/mine-int8 --int8 --data my_corpus/dev.jsonl
    python -m modeling_binder.backends frozen checkpoints/mine checkpoints/mine-frozen

The result loads like any other checkpoint: pipeline("binder-ner", model="checkpoints/mine-int8"). Only the encoders
run in onnxruntime; heads, windows and decoding are unchanged, with any number of types. The export is compared with the
original checkpoint and is written only if the two agree.
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
    for name, text in (
        ("onnx", "store the encoders as ONNX files"),
        ("frozen", "store the vectors of the types instead of a type encoder"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("model", help="folder, or id on the Hub")
        command.add_argument("output", type=Path, help="output folder")
        command.add_argument(
            "--data",
            type=Path,
            help="documents with gold mentions, for the comparison (JSONL, or IOB columns)",
        )
        command.add_argument("--overwrite", action="store_true", help="replace the output folder")
        if name == "onnx":
            command.add_argument("--int8", action="store_true", help="8 bits for the text encoder; needs --data")
            command.add_argument(
                "--max-loss", type=float, default=0.5, help="points of F1 that it may lose (default 0.5)"
            )
            command.add_argument("--freeze-types", action="store_true", help="store no type encoder")
    arguments = parser.parse_args(argv)
    logging.disable_progress_bar()
    onnx = arguments.command == "onnx"
    try:
        report = export(
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
    print(f"{arguments.output}: {size:,.0f} MB; {report}.")


if __name__ == "__main__":
    main()
