"""Tune the thresholds of a checkpoint on development data, and calibrate its scores."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import AutoModel

from ..decoding_binder import required_margin
from ..loading import load_tokenizer, loading_error
from ..thresholds_binder import type_temperatures
from ..types_binder import EntityType, resolve_entity_types
from .calibration import CalibrationReport, Temperatures
from .calibration import calibrate as fit_temperatures
from .candidates import Candidates
from .counts import aligned_table
from .data import Document, as_documents, check_labels
from .evaluation import set_fields
from .metrics import SpanMetrics
from .threshold_search import Curve, Objective, refine, search, trial_cuts

MIN_MENTIONS = 20  # types with fewer mentions have the shared threshold, because a separate threshold would fit noise
_SHARED = -1  # key of the shared threshold; the keys of types are their ids
_SHOWN_TYPES = 5  # maximum number of unknown labels in an error message


@dataclass(frozen=True)
class TunedThresholds:
    """The result of `tune_thresholds`. `tuned_checkpoint.save_tuned` writes it into a checkpoint.

    Args:
        thresholds, default_threshold, temperatures, default_temperature: new values of the fields of `BinderConfig`. If
            the scores were not calibrated, or calibration did not help, the temperatures of the checkpoint are
            unchanged.
        before, after: metrics on the development data with the old and with the new thresholds.
        objective: the goal of the search.
        decoding: "nested" or "flat".
        documents: number of documents of the development data.
        mentions: label -> number of mentions in the development data.
        own: label -> separate threshold, for types of the development data.
        min_mentions: types with fewer mentions have the shared threshold, `default_threshold`.
        calibration: how well the scores agree with the shares of correct spans. None if the scores were not calibrated.
        redescribed: labels of types that have another description in the model. They have the shared threshold.
        unknown: labels of the types that the model does not have. They have the shared threshold.
    """

    thresholds: dict[str, float]
    default_threshold: float
    temperatures: dict[str, float]
    default_temperature: float
    before: SpanMetrics
    after: SpanMetrics
    objective: Objective
    decoding: str
    documents: int
    mentions: dict[str, int]
    own: dict[str, float] = field(default_factory=dict)
    min_mentions: int = MIN_MENTIONS
    calibration: CalibrationReport | None = None
    redescribed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def few(self) -> list[str]:
        """The types of the model with fewer than `min_mentions` mentions. They have the shared threshold."""
        return [label for label in self.mentions if label not in {*self.own, *self.redescribed, *self.unknown}]

    def fields(self) -> dict[str, Any]:
        """Return the new values of the fields of `BinderConfig`."""
        return {
            "thresholds": self.thresholds or None,
            "default_threshold": self.default_threshold,
            "temperatures": self.temperatures or None,
            "default_temperature": self.default_temperature,
        }

    @property
    def unreached(self) -> list[str]:
        """The types that do not reach the target precision or recall on the development data."""
        target, metric = self.objective.target, self.objective.metric
        if target is None:
            return []
        return [
            label
            for label, count in self.mentions.items()
            if count and getattr(self.after.per_type[label], metric) < target
        ]

    def facts(self) -> dict[str, Any]:
        """Return the facts about the thresholds for the model card, as a dictionary for JSON."""
        report = self.calibration
        return {
            "metric": self.objective.metric,
            "target": self.objective.target,
            "decoding": self.decoding,
            "documents": self.documents,
            "min_mentions": self.min_mentions,
            "before": self.before.to_dict()["micro"],
            "after": self.after.to_dict()["micro"],
            "unreached": self.unreached,
            "few": self.few,
            "redescribed": list(self.redescribed),
            "unknown": list(self.unknown),
            "calibration": {
                "spans": report.spans,
                "error_before": report.error_before,
                "error_after": report.error_after,
            }
            if report and report.helped
            else None,
        }

    def table(self) -> str:
        """Return a table for the terminal: the threshold of each type, and the metrics before and after in percent.

        A shared threshold is shown in brackets.
        """
        rows = [["", "mentions", "threshold", "P before", "after", "R before", "after", "F1 before", "after"]]
        scores = [(label, self.before.per_type[label], self.after.per_type[label]) for label in self.mentions]
        for label, *pair in [*scores, ("all types", self.before.micro, self.after.micro)]:
            if not pair[1].gold and not pair[1].predicted:
                continue
            shown = f"{self.own[label]:g}" if label in self.own else f"({self.default_threshold:g})"
            ratios = [f"{100 * getattr(score, name):.2f}" for name in ("precision", "recall", "f1") for score in pair]
            rows.append([label, f"{pair[1].gold:,}", "" if label == "all types" else shown, *ratios])
        return aligned_table(rows)


def tune_thresholds(
    checkpoint: str | os.PathLike[str],
    documents: Iterable[Any],
    *,
    metric: str = "f1",
    precision: float | None = None,
    recall: float | None = None,
    calibrate: bool = False,
    entity_types: Mapping[str, str] | None = None,
    decoding: str | None = None,
    min_mentions: int = MIN_MENTIONS,
    batch_size: int = 32,
    device: str | None = None,
) -> TunedThresholds:
    """Find the best thresholds of a checkpoint on development data. The checkpoint is not changed.

    `config.default_threshold` is the shared threshold. It also applies to types that a call of the pipeline passes.
    Each type of the checkpoint with enough mentions gets a separate threshold in `config.thresholds`.

    In nested decoding, the result is the exact optimum. In flat decoding, types compete for spans. The search then
    starts from the result for nested decoding, or from one threshold for all types if this is better. It improves the
    thresholds one after the other, and measures each change with the decoder.

    Args:
        checkpoint: folder, or id on the Hub.
        documents: development data, as `Document` objects or dictionaries (see `Document.from_dict`). Do not tune on
            test data, because the test scores would then be too high.
        metric: "f1" (micro F1) or "macro-f1" (the F1 of each type).
        precision: minimum precision, instead of a metric. Each type gets the lowest threshold with at least this
            precision. A type that cannot reach it gets the threshold with its highest precision, see
            `TunedThresholds.unreached`.
        recall: minimum recall, instead of a metric. Each type gets the highest threshold with at least this recall.
        calibrate: whether to fit temperatures first, so that scores are probabilities. The data are the spans with a
            score above 0.01, because the many spans with lower scores are almost all wrong. In flat decoding, spans
            that overlap a span with a larger margin are excluded too, because flat decoding rarely returns them. A type
            gets a separate temperature if its spans include at least `min_mentions` gold mentions and at least
            `min_mentions` other spans. All other types share a temperature. Temperatures are used only if they lower
            the expected calibration error, see `CalibrationReport.helped`.
        entity_types: name -> description of the types in `documents`. Defaults to the types of the checkpoint. Types
            that the checkpoint does not have influence only the shared threshold and the shared temperature.
        decoding: the decoding for which the thresholds are tuned, "nested" or "flat". Defaults to the setting of the
            checkpoint.
        min_mentions: types with fewer mentions have the shared threshold.
        batch_size: number of windows in a batch.
        device: "cpu", or None. None means the first GPU if there is a GPU, otherwise the CPU.

    Raises:
        DataError: a document is malformed.
        ValueError: the checkpoint cannot be loaded; there are no mentions; a label is not an entity type; or an
            argument is out of range.
    """
    objective = _objective(metric, precision, recall)
    for name, number in (("min_mentions", min_mentions), ("batch_size", batch_size)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}.")
    if device not in (None, "cpu"):
        raise ValueError(f"device must be 'cpu' or None (the first GPU if there is one), got {device!r}.")
    documents = as_documents(documents)
    if not any(document.entities for document in documents):
        raise ValueError(f"thresholds cannot be tuned: none of the {len(documents)} documents has a mention.")
    try:
        model, tokenizer = AutoModel.from_pretrained(checkpoint), load_tokenizer(checkpoint)
    except Exception as error:  # `from_pretrained` raises errors of many classes
        raise loading_error(checkpoint, error) from error
    set_fields(model.config, decoding=decoding)
    own_types = model.config.entity_types
    if entity_types is None and not own_types:
        raise ValueError("the model has no entity types: pass the entity types (entity_types=..., --types FILE).")
    if entity_types is not None and model.config.frozen_types:
        raise ValueError("the entity types of this checkpoint are frozen: leave out entity_types (--types).")
    types = resolve_entity_types(_used(entity_types, documents), own_types)
    _check_labels(documents, [entity_type.label for entity_type in types])
    former = {name: dict(getattr(model.config, name) or {}) for name in ("thresholds", "temperatures")}
    default = model.config.default_temperature
    temperatures = type_temperatures(model.config, types)
    values = np.ones(len(types)) if temperatures is None else temperatures.numpy()
    candidates = Candidates(model, tokenizer, documents, types, batch_size, device == "cpu")

    calibration = None
    if calibrate:
        labels = {key: entity_type.own_label for key, entity_type in enumerate(types) if entity_type.own_label}
        own = {key: former["temperatures"][label] for key, label in labels.items() if label in former["temperatures"]}
        kept = candidates.returnable()
        spans = (candidates.margins[kept], candidates.is_gold[kept], candidates.type_ids[kept])
        fitted, calibration = fit_temperatures(*spans, Temperatures(default, own), labels, min_mentions)
        default, values = fitted.default, fitted.of(np.arange(len(types)))
        former["temperatures"] = _replaced(former["temperatures"], types, fitted.own)
    shared, thresholds = _tune(candidates, types, values, objective, min_mentions)
    return TunedThresholds(
        thresholds=_replaced(former["thresholds"], types, thresholds),
        default_threshold=shared,
        temperatures=former["temperatures"],
        default_temperature=default,
        before=candidates.metrics(candidates.required),
        after=candidates.metrics(_required(shared, thresholds, values)),
        objective=objective,
        decoding=model.config.decoding,
        documents=len(documents),
        mentions=dict(zip(candidates.labels, candidates.gold, strict=True)),
        own={types[key].label: value for key, value in thresholds.items()},
        min_mentions=min_mentions,
        calibration=calibration,
        **_not_own(types, own_types),
    )


def _not_own(types: Sequence[EntityType], own_types: Any) -> dict[str, tuple[str, ...]]:
    """Return the types that differ from the types of the model: "redescribed" (other description) and "unknown"."""
    others = [entity_type.label for entity_type in types if entity_type.own_label is None]
    redescribed = [label for label in others if resolve_entity_types([label], own_types)[0].own_label is not None]
    return {
        "redescribed": tuple(redescribed),
        "unknown": tuple(label for label in others if label not in redescribed),
    }


def _objective(metric: str, precision: float | None, recall: float | None) -> Objective:
    if precision is not None and recall is not None:
        raise ValueError("pass precision or recall, not both.")
    if precision is not None:
        return Objective("precision", precision)
    return Objective(metric) if recall is None else Objective("recall", recall)


def _used(entity_types: Mapping[str, str] | None, documents: Sequence[Document]) -> Mapping[str, str] | None:
    """Return the types that at least one document lists in `Document.types`; all types if a document has no list."""
    named = {name for document in documents for name in document.types or ()}
    if entity_types is None or any(document.types is None for document in documents):
        return entity_types
    return {name: text for name, text in entity_types.items() if name in named}


def _check_labels(documents: Sequence[Document], labels: Sequence[str]) -> None:
    found = dict.fromkeys(mention.label for document in documents for mention in document.entities)
    unknown = [label for label in found if label not in labels]
    if unknown:
        more = f" and {len(unknown) - _SHOWN_TYPES} more" if len(unknown) > _SHOWN_TYPES else ""
        raise ValueError(
            f"the documents have labels that are not entity types: {', '.join(unknown[:_SHOWN_TYPES])}{more}. "
            f"The entity types are {', '.join(labels[:20])}. Rename the labels, or pass the names and descriptions of "
            "the types (entity_types=..., --types FILE)."
        )
    check_labels(documents, labels, "the documents")


def _tune(
    candidates: Candidates, types: Sequence[EntityType], temperatures: np.ndarray, objective: Objective, minimum: int
) -> tuple[float, dict[int, float]]:
    """Return the shared threshold, and the separate thresholds: type id -> threshold."""
    gold, log_odds = candidates.gold, candidates.margins / temperatures[candidates.type_ids]
    floors = candidates.floor / temperatures

    def curve(keys: Sequence[int]) -> Curve:
        chosen = np.isin(candidates.type_ids, keys) & (candidates.margins > candidates.floor)
        floor = max((float(floors[key]) for key in keys), default=0.0)
        return Curve.of(log_odds[chosen], candidates.is_gold[chosen], sum(gold[key] for key in keys), floor)

    everything = range(len(types))
    own = [key for key in everything if types[key].own_label is not None and gold[key] >= minimum]
    curves = {key: curve([key]) for key in everything}
    pooled = curve(list(everything))
    shared, thresholds = search(curves, pooled, objective, own)
    if not candidates.is_flat:
        return shared, thresholds
    others = [key for key in everything if key not in own]
    groups = {**{key: [key] for key in own}, **({_SHARED: others} if others else {})}
    measured = _Measured(candidates, temperatures, objective, groups)
    found = {**thresholds, _SHARED: shared}
    if objective.target is None:
        # The optimum of nested decoding may be far from the optimum of flat decoding. So also try equal thresholds for
        # all types as a start.
        same = [0.5, *(pooled.threshold(cut, 0.5) for cut in trial_cuts(pooled, pooled.cut(0.5)))]
        starts = [found, *(dict.fromkeys(found, value) for value in same)]
        found = max(starts, key=lambda start: measured(start, _SHARED))
    with tqdm(desc="Measuring thresholds", unit=" thresholds", disable=len(groups) < 2) as progress:
        found = refine(found, {key: curve(keys) for key, keys in groups.items()}, measured, lambda: progress.update())
    shared = found.pop(_SHARED)
    return shared, found


class _Measured:
    """Measures thresholds with the decoder. Only documents with candidates of the changed types are decoded again.

    Args:
        candidates: the candidates.
        temperatures: [T], the temperature of each type.
        objective: the goal, which determines the measured values.
        groups: key of a threshold -> ids of the types that it applies to.
    """

    def __init__(
        self, candidates: Candidates, temperatures: np.ndarray, objective: Objective, groups: Mapping[int, list[int]]
    ) -> None:
        self._candidates, self._temperatures, self._objective = candidates, temperatures, objective
        self._groups = groups
        self._documents = {key: candidates.documents_of(keys) for key, keys in groups.items()}
        self._rows: list[np.ndarray] = []  # for each document, its counts [2, T] with the last thresholds
        self._last: dict[int, float] = {}

    def __call__(self, thresholds: Mapping[int, float], key: int) -> tuple[float, ...]:
        """Return a tuple that is larger for better thresholds, see `threshold_search.refine`.

        Args:
            thresholds: key -> threshold.
            key: key of the threshold that was changed.
        """
        required = _required(thresholds[_SHARED], thresholds, self._temperatures)
        changed = [name for name in self._groups if self._last.get(name) != thresholds[name]]
        if not self._rows:
            self._rows = [self._candidates.counts(index, required) for index in range(len(self._candidates))]
        else:
            for index in sorted({index for name in changed for index in self._documents[name]}):
                self._rows[index] = self._candidates.counts(index, required)
        self._last = dict(thresholds)
        correct, predicted = np.sum(self._rows, axis=0)
        gold = np.array(self._candidates.gold)
        metric, target = self._objective.metric, self._objective.target
        if target is None:
            if metric == "f1":
                return (2 * correct.sum() / max(predicted.sum() + gold.sum(), 1),)
            occurring = (gold + predicted) > 0
            return (float(np.mean((2 * correct / np.maximum(predicted + gold, 1))[occurring])),)
        types = self._groups.get(key, list(range(len(gold))))
        right, found, wanted = (int(column[types].sum()) for column in (correct, predicted, gold))
        share = right / max(found if metric == "precision" else wanted, 1)
        if share < target:
            return 0.0, share
        return 1.0, float(right if metric == "precision" else -found)


def _required(shared: float, thresholds: Mapping[int, float], temperatures: np.ndarray) -> Tensor:
    """Return, for each type, the margin that a span must exceed with the given thresholds, [T]."""
    values = [thresholds.get(key, shared) for key in range(len(temperatures))]
    return required_margin(values, len(values)) * torch.from_numpy(temperatures)


def _replaced(
    former: Mapping[str, float], types: Sequence[EntityType], values: Mapping[int, float]
) -> dict[str, float]:
    """Return the values for all types of the model. Types in `types` get new values; the others keep theirs."""
    tuned = {entity_type.own_label for entity_type in types}
    kept = {label: value for label, value in former.items() if label not in tuned}
    return {**kept, **{str(types[key].own_label): value for key, value in values.items()}}
