"""Self-training: add the mentions that a model finds to the labels that it was trained on.

    python -m training.finetune --corpus my_corpus --output_dir checkpoints/first
    python -m training.self_training checkpoints/first my_corpus/train.jsonl my_second_corpus/train.jsonl

Labels of a dictionary, and hasty annotations, miss many mentions. A model that is trained on these labels finds some of
the missing mentions, because it knows similar ones. Train a new model on the output of this command.

The mentions of the input are kept. A predicted mention with a score of at least `--certain` is added. If its score is
lower, but at least `--doubtful`, its span becomes `undecided`, and training ignores it. Predictions that overlap a
mention of the input are ignored (with nested decoding, only predictions of the same span and type).
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modeling_binder import BinderModel
from modeling_binder.finetuning import DataError, Document, Mention, evaluate, read_documents, write_jsonl
from modeling_binder.finetuning.data import as_documents
from modeling_binder.finetuning.files import check_not_input
from modeling_binder.loading import check_model

CERTAIN, DOUBTFUL = 0.5, 0.2


def with_found(
    document: Document, entities: Iterable[Mapping[str, Any]], certain: float = CERTAIN, nested: bool = False
) -> Document:
    """Add predicted entities to a document.

    Args:
        document: a document. Its mentions are kept.
        entities: the entities that a model predicts, as `{"start", "end", "label", "score"}`.
        certain: lowest score of a prediction that becomes a mention. The spans of other predictions become undecided.
        nested: whether a prediction may overlap a mention of the document. Such a prediction is ignored otherwise.

    Returns:
        The new document. The spans of its mentions are not undecided.
    """
    mentions, undecided = set(document.entities), set(document.undecided)
    for entity in entities:
        mention = Mention(entity["start"], entity["end"], entity["label"])
        known = document.entities
        if mention in known or (not nested and any(_overlap(mention, other) for other in known)):
            continue
        if entity["score"] >= certain:
            mentions.add(mention)
        else:
            undecided.add((mention.start, mention.end))
    undecided -= {(mention.start, mention.end) for mention in mentions}
    return replace(document, entities=tuple(sorted(mentions)), undecided=tuple(sorted(undecided)))


def _overlap(one: Mention, other: Mention) -> bool:
    return one.start < other.end and other.start < one.end


def relabel(
    checkpoint: str | Path, documents: Iterable[Any], certain: float = CERTAIN, doubtful: float = DOUBTFUL
) -> list[Document]:
    """Predict the mentions of documents with a checkpoint, and add them to the mentions of the documents.

    Args:
        checkpoint: folder or id on the Hub of a checkpoint that was trained on these documents.
        documents: `Document` objects, or dictionaries with the same fields.
        certain, doubtful: see `with_found`. Predictions with a score below `doubtful` are ignored.

    Raises:
        DataError: a document is malformed, or the checkpoint does not have one of its labels.
        ValueError: not 0 < doubtful <= certain < 1.
    """
    if not 0 < doubtful <= certain < 1:
        raise ValueError(f"expected 0 < doubtful <= certain < 1, got doubtful {doubtful:g} and certain {certain:g}.")
    documents = as_documents(documents)
    _, found = evaluate(checkpoint, documents, threshold=doubtful)
    # An adapter may have another decoding than its base model. So the configuration of the base model is not enough.
    nested = BinderModel.from_pretrained(checkpoint).config.decoding == "nested"
    return [
        with_found(document, entities, certain, nested) for document, entities in zip(documents, found, strict=True)
    ]


def main(argv: list[str] | None = None) -> list[Document]:
    parser = argparse.ArgumentParser(
        prog="python -m training.self_training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="checkpoint that was trained on the documents: folder or id on the Hub")
    parser.add_argument("documents", type=Path, help="training documents: JSONL or another format")
    parser.add_argument("output", type=Path, help="JSONL to write")
    parser.add_argument(
        "--certain", type=float, default=CERTAIN, help=f"lowest score of an added mention (default {CERTAIN})"
    )
    parser.add_argument(
        "--doubtful", type=float, default=DOUBTFUL, help=f"lowest score of an undecided span (default {DOUBTFUL})"
    )
    arguments = parser.parse_args(argv)
    try:
        check_not_input(arguments.output, [arguments.documents])
        check_model(arguments.checkpoint)
        before = read_documents(arguments.documents)
        after = relabel(arguments.checkpoint, before, arguments.certain, arguments.doubtful)
        write_jsonl(arguments.output, after)
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    added = [sum(len(getattr(each, name)) for each in after) - sum(len(getattr(each, name)) for each in before)
             for name in ("entities", "undecided")]  # fmt: skip
    print(f"{len(after):,} documents: {added[0]:+,} mentions, {added[1]:+,} undecided spans")
    return after


if __name__ == "__main__":
    main()
