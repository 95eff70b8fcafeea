"""Evaluate a checkpoint: precision, recall and F1, micro, macro, per type and for nested mentions alone.

python -m training.evaluate checkpoints/quickstart training/sample/test.jsonl --json metrics.json
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoModel, AutoTokenizer, TrainingArguments

from modeling_binder import BinderModel
from modeling_binder.finetuning import BinderTrainer, DataError, Document, read_documents, read_types
from modeling_binder.finetuning.data import Mention, check_labels, write_json, write_jsonl
from modeling_binder.finetuning.metrics import SpanMetrics


def evaluate(
    checkpoint: str, documents: list[Document], batch_size: int = 32, flat_algorithm: str = "exact", **config: Any
) -> tuple[SpanMetrics, list[list[dict[str, Any]]]]:
    """Predict documents with a checkpoint and score them.

    Args:
        checkpoint: folder or id on the Hub.
        documents: with gold mentions.
        batch_size: windows at once.
        flat_algorithm: "exact" or "greedy", for flat decoding.
        config: fields of the model's configuration to override, such as `decoding` or `entity_types`.

    Returns:
        The metrics, and a list of entity dictionaries for each document.
    """
    model: BinderModel = AutoModel.from_pretrained(checkpoint)
    for name, value in config.items():
        if value is not None:
            setattr(model.config, name, value)
    check_labels(documents, model.config.type_descriptions, "the documents")
    with tempfile.TemporaryDirectory() as folder:
        trainer = BinderTrainer(
            model,
            TrainingArguments(output_dir=folder, per_device_eval_batch_size=batch_size, report_to="none"),
            processing_class=AutoTokenizer.from_pretrained(checkpoint),
            flat_algorithm=flat_algorithm,
        )
        predictions = trainer.predict(documents).predictions
    if trainer.last_metrics is None:
        raise RuntimeError("the trainer returned no metrics")
    return trainer.last_metrics, predictions


def main(argv: list[str] | None = None) -> SpanMetrics:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="folder or id on the Hub")
    parser.add_argument("file", help="documents with gold mentions: JSONL, or columns with IOB tags")
    parser.add_argument("--types", type=Path, help="JSON file name -> description; defaults to the checkpoint's types")
    parser.add_argument("--decoding", choices=["nested", "flat"], help="defaults to the checkpoint's")
    parser.add_argument("--inference", choices=["span", "joint"], help="defaults to the checkpoint's")
    parser.add_argument("--flat-algorithm", choices=["exact", "greedy"], default="exact", help="default: exact")
    parser.add_argument("--max-length", type=int, help="tokens in a window; defaults to the checkpoint's")
    parser.add_argument("--batch-size", type=int, default=32, help="windows at once (default 32)")
    parser.add_argument("--json", type=Path, help="write the metrics to this file as well")
    parser.add_argument("--predictions", type=Path, help="write what was found to this file, as JSONL")
    arguments = parser.parse_args(argv)
    try:
        documents = read_documents(arguments.file)
        types = None
        if arguments.types:
            types = [{"name": name, "description": text} for name, text in read_types(arguments.types).items()]
        metrics, predictions = evaluate(
            arguments.checkpoint,
            documents,
            arguments.batch_size,
            arguments.flat_algorithm,
            entity_types=types,
            decoding=arguments.decoding,
            inference=arguments.inference,
            max_length=arguments.max_length,
        )
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(metrics.table())
    if arguments.json:
        write_json(arguments.json, metrics.to_dict())
    if arguments.predictions:
        found = [
            Document(
                id=document.id,
                text=document.text,
                entities=tuple(Mention(entity["start"], entity["end"], entity["label"]) for entity in entities),
            )
            for document, entities in zip(documents, predictions, strict=True)
        ]
        write_jsonl(arguments.predictions, found)
        print(f"{arguments.predictions}: {sum(len(document.entities) for document in found)} mentions")
    return metrics


if __name__ == "__main__":
    main()
