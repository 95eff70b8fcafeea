"""Evaluate a checkpoint: precision, recall and F1, micro, macro, per type and for nested mentions.

python -m training.evaluate checkpoints/quickstart training/sample/test.jsonl --json metrics.json
"""

import argparse
import sys
from pathlib import Path

from modeling_binder.finetuning import DataError, SpanMetrics, evaluate, read_documents, read_types, write_jsonl
from modeling_binder.finetuning.data import write_json
from modeling_binder.finetuning.evaluation import with_predictions


def main(argv: list[str] | None = None) -> SpanMetrics:
    """Run the command; returns the metrics."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="folder or id on the Hub")
    parser.add_argument("file", help="documents with gold mentions: JSONL, or columns with IOB tags")
    parser.add_argument("--types", type=Path, help="JSON file name -> description (default: the checkpoint's types)")
    parser.add_argument("--decoding", choices=["nested", "flat"], help="default: the checkpoint's")
    parser.add_argument("--inference", choices=["span", "joint"], help="default: the checkpoint's")
    parser.add_argument("--flat-algorithm", choices=["exact", "greedy"], default="exact", help="default: exact")
    parser.add_argument("--max-length", type=int, help="tokens in a window (default: the checkpoint's)")
    parser.add_argument("--batch-size", type=int, default=32, help="windows per batch (default: 32)")
    parser.add_argument("--json", type=Path, help="also write the metrics to this file")
    parser.add_argument("--predictions", type=Path, help="write the predicted mentions to this file, as JSONL")
    arguments = parser.parse_args(argv)
    try:
        documents = read_documents(arguments.file)
        metrics, predictions = evaluate(
            arguments.checkpoint,
            documents,
            entity_types=read_types(arguments.types) if arguments.types else None,
            decoding=arguments.decoding,
            inference=arguments.inference,
            max_length=arguments.max_length,
            batch_size=arguments.batch_size,
            flat_algorithm=arguments.flat_algorithm,
        )
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(metrics.table())
    if arguments.json:
        write_json(arguments.json, metrics.to_dict())
    if arguments.predictions:
        found = with_predictions(documents, predictions)
        write_jsonl(arguments.predictions, found)
        print(f"{arguments.predictions}: {sum(len(document.entities) for document in found)} mentions")
    return metrics


if __name__ == "__main__":
    main()
