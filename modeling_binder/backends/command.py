"""Export a checkpoint with ONNX or OpenVINO encoders (float32 or int8), or with frozen entity types.

  binder-ner export onnx checkpoints/mine checkpoints/mine-onnx
  binder-ner export onnx checkpoints/mine checkpoints/mine-int8 --int8 --data my_corpus/dev.jsonl
  binder-ner export openvino checkpoints/mine checkpoints/mine-int8 --int8 --data my_corpus/dev.jsonl
  binder-ner export frozen checkpoints/mine checkpoints/mine-frozen

The exported checkpoint loads like any other checkpoint: pipeline("binder-ner", model="checkpoints/mine-int8"). Only
its encoders run in onnxruntime or OpenVINO; heads, windows and decoding are unchanged. The command compares the
exported checkpoint with the original checkpoint, and writes it only if the two agree.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True)
    for name, text in (
        ("onnx", "store the encoders as ONNX files"),
        ("openvino", "store the encoders as OpenVINO files"),
        ("frozen", "store the vectors of the entity types instead of a type encoder"),
    ):
        command = formats.add_parser(name, help=text, description=text)
        command.add_argument("model", metavar="MODEL", help="folder, or id on the Hub")
        command.add_argument("output", metavar="OUTPUT", type=Path, help="output folder")
        command.add_argument(
            "--data",
            metavar="FILE",
            type=Path,
            help="documents with gold mentions, for the comparison with the original (JSONL, or IOB columns)",
        )
        command.add_argument("--overwrite", action="store_true", help="replace the output folder")
        if name != "frozen":
            command.add_argument("--int8", action="store_true", help="quantise the text encoder (8 bits); needs --data")
            command.add_argument(
                "--max-loss",
                metavar="POINTS",
                type=float,
                default=0.5,
                help="points of F1 that int8 may lose (default: 0.5)",
            )
            command.add_argument(
                "--freeze-types", action="store_true", help="store the vectors of the entity types, no type encoder"
            )


def run(arguments: argparse.Namespace) -> int:
    """Export a checkpoint, and print its size and the result of the comparison with the original.

    Raises:
        ExportError: the exported checkpoint does not agree with the original, or a package is missing.
        ValueError: an argument is wrong.
        OSError: the model cannot be loaded.
    """
    from transformers.utils import logging

    from .exporting import export

    logging.disable_progress_bar()
    frozen = arguments.format == "frozen"
    report = export(
        arguments.model,
        arguments.output,
        backend="torch" if frozen else arguments.format,
        int8=not frozen and arguments.int8,
        freeze_types=frozen or arguments.freeze_types,
        data=arguments.data,
        max_loss=0.5 if frozen else arguments.max_loss,
        overwrite=arguments.overwrite,
    )
    size = sum(path.stat().st_size for path in arguments.output.iterdir()) / 1e6
    print(f"{arguments.output}: {size:,.0f} MB; {report}.")
    return 0
