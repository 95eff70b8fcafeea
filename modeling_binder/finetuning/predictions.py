"""Collect the predicted spans of an evaluation batch by batch, and convert them into entities of documents."""

import logging
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from ..breadth_binder import broader_types
from ..decoding_binder import Proposals, flat_spans, probability, propose_spans
from ..thresholds_binder import required_margins, type_temperatures
from ..types_binder import resolve_entity_types
from .windows import WindowDataset

logger = logging.getLogger(__name__)

MAX_SPANS_PER_WINDOW = 5000
MAX_BLOCK_SCORES = 2**23  # limits the memory: maximum number of scores that are compared with thresholds at once


class Decoding:
    """Selects the predicted spans of a data set, in the same way as the pipeline of the model.

    Args:
        config: `BinderConfig` of the model, with the thresholds, the parents of types, `decoding` and `inference`.
        dataset: the windows and their T types. Parents in the data set replace the parents in `config`.
        breadths: the breadths [T] of these types, see `breadth_binder`. None if the model does not use breadths.
        algorithm: algorithm of flat decoding, "exact" or "greedy".
    """

    def __init__(self, config: Any, dataset: WindowDataset, breadths: Tensor | None, algorithm: str) -> None:
        self.algorithm = algorithm if config.decoding == "flat" else None
        self.joint: bool = config.inference == "joint"
        names = dataset.entity_types
        types = resolve_entity_types(
            {item.name: {"description": item.description} for item in dataset.types}, config.entity_types
        )
        self.required = required_margins(config, types)
        self.temperatures = type_temperatures(config, types)
        self._parents = {item.name: item.parent or config.type_parents.get(item.name) for item in dataset.types}
        self._breadths, self._margin, self._tolerance = breadths, config.breadth_margin, config.breadth_tolerance
        self._names = names
        self._broader: dict[tuple[int, ...] | None, Tensor | None] = {}

    def choose(self, spans: Tensor, margins: Tensor, types: list[int] | None) -> Tensor:
        """Select the predicted spans of a document from the spans above the thresholds.

        Args:
            spans: [N, 3], sorted rows of start, end and type id.
            margins: [N], the score of each span minus its dynamic threshold.
            types: the ids of the types in `Document.types`. None means all types.

        Returns:
            The indices of the predicted spans, sorted by position.
        """
        if self.algorithm is None or len(spans) < 2:
            return torch.arange(len(spans))
        starts, ends, type_ids = spans.long().unbind(1)
        required, broader = self.required, self._broader_of(types)
        if types is not None:  # convert type ids into positions in `types`
            chosen = torch.tensor(types)
            order = chosen.argsort()
            type_ids = order[torch.searchsorted(chosen[order], type_ids.contiguous())]
            required = required[chosen]
        return flat_spans(starts, ends, type_ids, margins, required, self.algorithm, broader)

    def _broader_of(self, types: list[int] | None) -> Tensor | None:
        key = None if types is None else tuple(types)
        if key not in self._broader:
            ids = range(len(self._names)) if types is None else types
            names = [self._names[type_id] for type_id in ids]
            parents = {name: self._nearest(name, set(names)) for name in names}
            breadths = None if self._breadths is None else self._breadths[list(ids)]
            self._broader[key] = broader_types(parents, breadths, self._margin, self._tolerance)
        return self._broader[key]

    def _nearest(self, name: str, names: set[str]) -> str | None:
        """Return the nearest ancestor of a type that is one of `names`. Return None if there is no such ancestor."""
        parent, seen = self._parents.get(name), {name}
        while parent is not None and parent not in names and parent not in seen:
            seen.add(parent)
            parent = self._parents.get(parent)
        return parent if parent in names else None


class PredictedSpans:
    """Collects the spans that a model predicts for a data set.

    An untrained model predicts half of all spans for every type. So there is a limit to save memory: only the
    `MAX_SPANS_PER_WINDOW` spans with the largest margins are kept for each window. A warning reports windows with more
    spans.

    Args:
        dataset: the windows.
        decoding: selects the predicted spans of a document.
    """

    def __init__(self, dataset: WindowDataset, decoding: Decoding) -> None:
        self.dataset, self.decoding = dataset, decoding
        self._spans: list[Tensor] = []  # [N, 4]: document, start, end (characters), type
        self._margins: list[Tensor] = []  # [N]
        self._capped = 0

    def add(self, rows: list[int], output: Any, batch: dict[str, Tensor], owned: Tensor) -> None:
        """Add the predictions for a batch of B windows with L tokens.

        Args:
            rows: [B], indices of the windows in the data set.
            output: the `BinderOutput` of the model for the batch.
            batch: `word_start_mask` and `word_end_mask` [B, L]. If documents have `Document.types`, also `type_index`
                [B, T], see `WindowCollator`.
            owned: [B, 2], see `decoding_binder.candidate_spans`.
        """
        scores, joint = output.span_scores, self.decoding.joint
        required = self.decoding.required.to(scores.device)
        if "type_index" in batch:
            # The types differ between windows. So first use the lowest threshold of all types. The loop below compares
            # each span with the threshold of its type.
            required = required.min().expand(scores.shape[1])
        step = max(1, MAX_BLOCK_SCORES // max(1, scores[0].numel()))
        for begin in range(0, len(rows), step):
            part = slice(begin, begin + step)
            found = propose_spans(
                scores[part],
                batch["word_start_mask"][part],
                batch["word_end_mask"][part],
                required,
                start_scores=output.start_scores[part] if joint else None,
                end_scores=output.end_scores[part] if joint else None,
                owned=owned[part],
            )
            if "type_index" in batch:  # convert positions in `type_index` into type ids; the padding is -1
                types = batch["type_index"][part][found.window, found.type_id]
                kept = (types >= 0) & (found.margin > self.decoding.required.to(found.margin)[types.clamp_min(0)])
                found = Proposals(*(column[kept] for column in found._replace(type_id=types)))
            self._keep(rows[part], found)

    def _keep(self, rows: list[int], found: Proposals) -> None:
        counts = torch.bincount(found.window, minlength=len(rows)).tolist()
        if max(counts) > MAX_SPANS_PER_WINDOW:
            self._capped += sum(count > MAX_SPANS_PER_WINDOW for count in counts)
            order = found.margin.argsort(descending=True, stable=True)
            order = order[found.window[order].argsort(stable=True)]
            first = torch.tensor(counts, device=order.device).cumsum(0) - torch.tensor(counts, device=order.device)
            window = found.window[order]
            rank = torch.arange(len(order), device=order.device) - first[window]
            order = order[rank < MAX_SPANS_PER_WINDOW]
            found = Proposals(*(column[order] for column in found))
        found = Proposals(*(column.cpu() for column in found))
        windows = [self.dataset.windows[row] for row in rows]
        length = max(len(window.input_ids) for window in windows)
        starts, ends = (
            torch.tensor([[*offsets, *[-1] * (length - len(offsets))] for offsets in columns])
            for columns in ([window.starts for window in windows], [window.ends for window in windows])
        )
        documents = torch.tensor([self.dataset.document_index[row] for row in rows])[found.window]
        edges = (starts[found.window, found.first], ends[found.window, found.last])
        self._spans.append(torch.stack([documents, *edges, found.type_id], 1).int())
        self._margins.append(found.margin.float())

    def entities(self, processes: int = 1) -> list[list[dict[str, Any]]]:
        """Return the predicted entities of each document, sorted by position, as `{"start", "end", "label", "score"}`.

        Args:
            processes: number of processes that evaluate together. The spans of all processes are combined.
        """
        return [
            self._entities(found, margin, types)
            for (found, margin), types in zip(self.by_document(processes), self.dataset.looked_for, strict=True)
        ]

    def by_document(self, processes: int = 1) -> list[tuple[Tensor, Tensor]]:
        """Return, for each document, the spans above the thresholds. Flat decoding is not applied.

        Args:
            processes: see `entities`.

        Returns:
            For each document, sorted rows (document, start, end, type id) [N, 4], and margins [N].
        """
        spans = torch.cat([torch.zeros(0, 4, dtype=torch.int32), *self._spans])
        margins, capped = torch.cat([torch.zeros(0), *self._margins]), self._capped
        if processes > 1:
            parts = gather_object([(spans, margins, capped)])
            spans, margins = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
            capped = sum(part[2] for part in parts)
        if capped:
            logger.warning(
                "%d windows have more than %d predictions; the predictions with the smallest margins were removed. A "
                "trained model predicts far fewer spans.",
                capped,
                MAX_SPANS_PER_WINDOW,
            )
        # Two processes may have evaluated the same window, so remove duplicates. `unique` also sorts the spans.
        spans, inverse = torch.unique(spans, dim=0, return_inverse=True)
        margins = torch.zeros(len(spans)).scatter_(0, inverse, margins)
        counts = torch.bincount(spans[:, 0].long(), minlength=len(self.dataset.documents)).tolist()
        return list(zip(spans.split(counts), margins.split(counts), strict=True))

    def _entities(self, spans: Tensor, margins: Tensor, types: list[int] | None) -> list[dict[str, Any]]:
        kept = self.decoding.choose(spans[:, 1:], margins, types)
        spans, margins = spans[kept], margins[kept]
        names, temperatures = self.dataset.entity_types, self.decoding.temperatures
        scores = probability(margins, None if temperatures is None else temperatures[spans[:, 3].long()])
        return [
            {"start": start, "end": end, "label": names[type_id], "score": score}
            for (_, start, end, type_id), score in zip(spans.tolist(), scores.tolist(), strict=True)
        ]
