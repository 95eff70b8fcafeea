"""Candidate spans of development data, which determine thresholds and temperatures."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainingArguments

from ..decoding_binder import flat_spans
from ..thresholds_binder import required_margins
from ..types_binder import EntityType
from .data import Document
from .evaluation import set_types
from .metrics import SpanMetrics, compute_span_metrics
from .trainer import BinderTrainer

FLOOR = 0.01  # spans with a lower score (without temperature) are ignored; it is also the lowest threshold


class Candidates:
    """The candidate spans of documents: all spans above a low threshold. Decoding selects the predictions from them.

    Args:
        model: a `BinderModel`. The constructor changes its configuration.
        tokenizer: tokenizer of the model.
        documents: documents with gold mentions.
        types: the T types of the documents, see `resolve_entity_types`.
        batch_size: number of windows in a batch.
        use_cpu: whether to run on the CPU even if there is a GPU.

    Attributes:
        required: [T], for each type the margin that a span must exceed, according to the thresholds of the model.
        gold: for each type, its number of gold mentions.
        floor: the margin that corresponds to the score `FLOOR`.
        type_ids, margins, is_gold: [N], for each candidate of all documents, its type, its margin, and whether it is a
            gold mention.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        documents: Sequence[Document],
        types: Sequence[EntityType],
        batch_size: int = 32,
        use_cpu: bool = False,
    ) -> None:
        config = model.config
        self.required = required_margins(config, types)
        self.floor = float(torch.logit(torch.tensor(FLOOR, dtype=torch.float64)))
        # If the model has thresholds below `FLOOR`, keep the spans above them, for the metrics before tuning.
        lowest = min(self.floor, float(self.required.clamp(min=-16).min()))
        set_types(config, {entity_type.label: entity_type.description for entity_type in types})
        config.thresholds = config.temperatures = None
        config.default_threshold, config.default_temperature = float(np.exp(-np.logaddexp(0, -lowest))), 1.0
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                os.path.join(folder, "run"), per_device_eval_batch_size=batch_size, report_to="none", use_cpu=use_cpu
            )
            trainer = BinderTrainer(model, arguments, processing_class=tokenizer)
            self._dataset = trainer.make_windows(documents, "dev")
            predicted = trainer.predict_spans(self._dataset)
        self._decoding = predicted.decoding
        self._documents = self._dataset.annotated if config.decoding == "flat" else self._dataset.documents
        self.labels = self._dataset.entity_types
        ids = {label: type_id for type_id, label in enumerate(self.labels)}
        gold = [{(m.start, m.end, ids[m.label]) for m in document.entities} for document in self._documents]
        self.gold = np.bincount([type_id for found in gold for *_, type_id in found], minlength=len(ids)).tolist()
        found = predicted.by_document()
        self._spans = [spans[:, 1:] for spans, _ in found]
        self._margins = [margins for _, margins in found]
        self._is_gold = [
            np.array([tuple(span) in truth for span in spans.tolist()], dtype=bool)
            for spans, truth in zip(self._spans, gold, strict=True)
        ]
        self.type_ids = np.concatenate([spans[:, 2].numpy() for spans in self._spans])
        self.margins = np.concatenate([margins.double().numpy() for margins in self._margins])
        self.is_gold = np.concatenate(self._is_gold)

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def is_flat(self) -> bool:
        return self._decoding.algorithm is not None

    def documents_of(self, type_ids: Iterable[int]) -> list[int]:
        """Return the indices of the documents that have candidates of these types."""
        wanted = torch.tensor(sorted(type_ids))
        return [index for index, spans in enumerate(self._spans) if bool(torch.isin(spans[:, 2], wanted).any())]

    def decode(self, index: int, required: Tensor) -> Tensor:
        """Return the indices of the candidates of a document that are predicted with given thresholds.

        Args:
            index: index of the document.
            required: [T], for each type the margin that a span must exceed.
        """
        spans, margins = self._spans[index], self._margins[index]
        above = (margins > required.to(margins)[spans[:, 2].long()]).nonzero()[:, 0]
        self._decoding.required = required
        kept: Tensor = above[self._decoding.choose(spans[above], margins[above], self._dataset.looked_for[index])]
        return kept

    def counts(self, index: int, required: Tensor) -> np.ndarray:
        """Return the numbers of correct predictions and of all predictions of each type in a document, [2, T]."""
        kept = self.decode(index, required).numpy()
        type_ids = self._spans[index][:, 2].numpy()[kept]
        right = np.bincount(type_ids, weights=self._is_gold[index][kept], minlength=len(self.labels))
        return np.stack([right.astype(np.int64), np.bincount(type_ids, minlength=len(self.labels))])

    def metrics(self, required: Tensor) -> SpanMetrics:
        """Return the metrics that `evaluate` would compute for all documents with given thresholds."""
        predictions = [
            [(start, end, self.labels[type_id]) for start, end, type_id in spans[self.decode(index, required)].tolist()]
            for index, spans in enumerate(self._spans)
        ]
        return compute_span_metrics([document.entities for document in self._documents], predictions, self.labels)

    def returnable(self) -> np.ndarray:
        """Return which candidates the calibration uses, [N], bool.

        These are the candidates with a score above `FLOOR`. In flat decoding, candidates that overlap a candidate with
        a larger margin are excluded, because flat decoding rarely returns them.
        """
        kept = self.margins > self.floor
        if self.is_flat:
            begin = 0
            for spans, margins in zip(self._spans, self._margins, strict=True):
                starts, ends, type_ids = spans.long().unbind(1)
                required = torch.full((len(self.labels),), self.floor, dtype=torch.float64)
                chosen = flat_spans(starts, ends, type_ids, margins, required, "greedy").numpy()
                free = np.zeros(len(spans), dtype=bool)
                free[chosen] = True
                kept[begin : begin + len(spans)] &= free
                begin += len(spans)
        return kept
