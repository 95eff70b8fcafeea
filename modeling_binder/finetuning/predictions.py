"""From spans that beat their thresholds to the entities of each document."""

from typing import Any

import torch
from torch import Tensor

from ..decoding_binder import flat_spans, probability
from .windows import WindowDataset


def entities_of(
    found: dict[tuple[int, int, int, int], float], dataset: WindowDataset, required: Tensor, algorithm: str | None
) -> list[list[dict[str, Any]]]:
    """Entity dictionaries of each document, in order of position."""
    names = dataset.entity_types
    per_document: list[list[tuple[int, int, int, float]]] = [[] for _ in dataset.documents]
    for (document, start, end, kind), margin in sorted(found.items()):
        per_document[document].append((start, end, kind, margin))
    predictions = []
    for spans in per_document:
        if algorithm and len(spans) > 1:
            starts, ends, kinds, margins = (torch.tensor(column) for column in zip(*spans, strict=True))
            kept = flat_spans(starts, ends, kinds, margins, required, algorithm).tolist()
            spans = [spans[index] for index in kept]
        scores = probability(torch.tensor([span[3] for span in spans])).tolist()
        predictions.append(
            [
                {"start": start, "end": end, "label": names[kind], "score": score}
                for (start, end, kind, _), score in zip(spans, scores, strict=True)
            ]
        )
    return predictions
