"""Evaluate a checkpoint on documents with gold mentions."""

import copy
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoModel, TrainingArguments

from ..configuration_binder import BinderConfig
from ..loading import load_tokenizer
from ..modeling_binder import BinderModel
from ..processing_binder import BinderWindower
from ..thresholds_binder import type_temperatures, type_thresholds
from ..types_binder import resolve_entity_types
from .data import Document, Mention, as_documents, check_labels
from .metrics import SpanMetrics
from .trainer import BinderTrainer


def evaluate(
    checkpoint: str | os.PathLike[str],
    documents: Iterable[Any],
    *,
    entity_types: Mapping[str, str] | None = None,
    decoding: str | None = None,
    inference: str | None = None,
    max_length: int | None = None,
    stride: int | None = None,
    batch_size: int = 32,
    flat_algorithm: str = "exact",
    threshold: float | None = None,
) -> tuple[SpanMetrics, list[list[dict[str, Any]]]]:
    """Predict the mentions of documents with a checkpoint, and compare the predictions with the gold mentions.

    Args:
        checkpoint: folder of the checkpoint or of an adapter, or its id on the Hub.
        documents: `Document` objects with gold mentions, or dictionaries with the same fields (see
            `Document.from_dict`).
        entity_types: name -> description of the types to predict. Defaults to the types of the checkpoint.
        decoding: "nested" or "flat". Defaults to the setting of the checkpoint.
        inference: "span" or "joint". Defaults to the setting of the checkpoint.
        max_length: maximum number of tokens in a window. Defaults to the setting of the checkpoint.
        stride: number of tokens that neighbouring windows share. Defaults to the setting of the checkpoint. If
            `max_length` is given, this default is scaled as in `BinderWindower.for_model`.
        batch_size: number of windows in a batch.
        flat_algorithm: "exact" or "greedy", for flat decoding.
        threshold: lowest score of a predicted entity, between 0 and 1. Defaults to the thresholds of the checkpoint.

    Returns:
        The metrics, and the predicted entities of each document. The entities of a document are a list of `{"start",
        "end", "label", "score"}`, sorted by position.

    Raises:
        DataError: a document is malformed, or a gold label is not one of the types.
        ValueError: an argument is out of range, or the checkpoint is an adapter and peft or its base is missing.
    """
    documents = as_documents(documents)
    tokenizer = load_tokenizer(checkpoint)
    model: BinderModel = AutoModel.from_pretrained(checkpoint)
    config = model.config
    if entity_types is not None:
        set_types(config, entity_types)
    if max_length is not None or stride is not None:
        windower = BinderWindower.for_model(model, tokenizer, max_length, stride)
        max_length, stride = windower.max_length, windower.stride
    set_fields(config, decoding=decoding, inference=inference, max_length=max_length, stride=stride)
    if threshold is not None:
        config.thresholds = None
        set_fields(config, default_threshold=threshold)
    config.validate_entity_types()
    place = "the types to evaluate (--types FILE, or entity_types=...; default: the types of the model)"
    check_labels(documents, config.type_descriptions, "the documents", place)
    with tempfile.TemporaryDirectory() as folder:
        trainer = BinderTrainer(
            model,
            TrainingArguments(output_dir=folder, per_device_eval_batch_size=batch_size, report_to="none"),
            processing_class=tokenizer,
            flat_algorithm=flat_algorithm,
        )
        predictions = trainer.predict(documents).predictions
    if trainer.last_metrics is None:
        raise RuntimeError("the trainer returned no metrics")
    return trainer.last_metrics, predictions


def set_types(config: BinderConfig, entity_types: Mapping[str, str]) -> None:
    """Replace the entity types of a configuration. Types that it already has keep their thresholds and temperatures.

    Names of types are compared as in the pipeline: case, white space and Unicode forms are ignored.
    """
    former = copy.copy(config)
    config.entity_types = [{"name": name, "description": text} for name, text in entity_types.items()]
    types = resolve_entity_types(entity_types, former.entity_types)
    thresholds, temperatures = type_thresholds(former, types), type_temperatures(former, types)
    config.thresholds = dict(zip(entity_types, thresholds, strict=True))
    if temperatures is not None:
        config.temperatures = dict(zip(entity_types, temperatures.tolist(), strict=True))


def set_fields(config: BinderConfig, **values: Any) -> None:
    """Set fields of the configuration. Fields with the value None are not changed.

    Raises:
        ValueError: a value is not allowed.
    """
    for name, value in values.items():
        if value is not None:
            try:
                setattr(config, name, value)
            except StrictDataclassFieldValidationError as error:
                raise ValueError(f"{name}={value!r} is not allowed: {error.__cause__}.") from None
    config.validate_ranges()


def with_predictions(
    documents: Sequence[Document], predictions: Sequence[Sequence[Mapping[str, Any]]]
) -> list[Document]:
    """Replace the gold mentions of documents by predicted mentions, and remove the undecided spans.

    Args:
        documents: the documents that were passed to `evaluate`.
        predictions: the predicted entities of each document, the second result of `evaluate`.
    """
    return [
        replace(
            document,
            entities=tuple(Mention(entity["start"], entity["end"], entity["label"]) for entity in entities),
            undecided=(),
        )
        for document, entities in zip(documents, predictions, strict=True)
    ]
