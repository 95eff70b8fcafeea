"""Split documents into token windows that fit into the model, with token ids and labels.

A model cannot learn some mentions, for example mentions that begin inside a word. They are recorded as lost mentions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from tqdm.auto import tqdm

from ..losses_binder import IGNORED, UNDECIDED
from ..processing_binder import BinderWindower, TextWindow
from .data import DataError, Document, EntityType, Mention, with_ancestors


class Loss(str, Enum):
    """Reasons why a model cannot learn or predict a gold mention."""

    WORD_BOUNDARY = "not at a word boundary"
    SPAN_WIDTH = "wider than max_span_width"
    WINDOW = "cut by every window"


@dataclass(frozen=True, slots=True)
class LostMention:
    """A gold mention that a model cannot learn or predict, and the reason."""

    document: Document
    mention: Mention
    reason: Loss


class WindowDataset(Dataset[dict[str, Any]]):
    """The token windows of a corpus. Windows without mentions are included, because they train the thresholds.

    Args:
        documents: the documents of the corpus.
        processor: the `BinderWindower` that splits texts into windows.
        entity_types: the entity types, as `EntityType` objects, as names, or as name -> description. The id of a type
            is its position among these types. If a type has ancestors, its mentions are also mentions of the ancestors.
        max_span_width: maximum number of tokens of a mention. Wider mentions are lost mentions. They are not used as
            negatives either.
        description: text of the progress bar. An empty text means no progress bar.

    Attributes:
        annotated: the documents that were passed.
        documents: the documents with additional mentions for the ancestors of types.
        windows: the windows of all documents, in the order of the documents.
        document_index: for each window, the index of its document.
        labels: for each window, its mentions as (type id, first token, last token). The type id of an undecided span is
            `UNDECIDED`.
        lost: the mentions that a model cannot learn or predict.
        looked_for: for each document, the ids of the types in `Document.types`. None means all types.

    Raises:
        DataError: the label of a mention, or a type in `Document.types`, is not one of the entity types.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        processor: BinderWindower,
        entity_types: Iterable[str] | Iterable[EntityType] | Mapping[str, str],
        max_span_width: int,
        description: str = "Tokenising",
    ) -> None:
        self.types = _as_types(entity_types)
        self.annotated = list(documents)
        self.documents = with_ancestors(self.annotated, self.types)
        self.windows: list[TextWindow] = []
        self.document_index: list[int] = []
        self.labels: list[list[tuple[int, int, int]]] = []
        self.lost: list[LostMention] = []
        self.looked_for: list[list[int] | None] = []
        self.entity_types = [entity_type.name for entity_type in self.types]
        label_ids = {name: index for index, name in enumerate(self.entity_types)}
        # Small corpora take less than a second, so show no progress bar for them.
        progress = tqdm(
            self.documents, desc=description, unit="document", disable=not description or len(self.documents) < 1000
        )
        for index, document in enumerate(progress):
            self._add(index, document, processor, label_ids, max_span_width)
        self.has_own_types = any(types is not None for types in self.looked_for)

    def _add(
        self,
        index: int,
        document: Document,
        windower: BinderWindower,
        label_ids: dict[str, int],
        max_span_width: int,
    ) -> None:
        self.looked_for.append(self._looked_for(document, label_ids))
        encoded = windower.encode(document.text, document.words)
        windows = windower.windows(encoded)
        labels: list[list[tuple[int, int, int]]] = [[] for _ in windows]
        located = encoded.locate([(mention.start, mention.end) for mention in document.entities])
        prefix = len(windower.prefix)

        def add_label(type_id: int, first: int, last: int) -> bool:
            """Add a span to every window that contains it. Return whether there is such a window."""
            added = False
            for window, rows in zip(windows, labels, strict=True):
                if window.begin <= first and last < window.stop:
                    shift = prefix - window.begin
                    rows.append((type_id, first + shift, last + shift))
                    added = True
            return added

        for undecided in filter(None, encoded.locate(document.undecided)):
            add_label(UNDECIDED, *undecided)
        for mention, span in zip(document.entities, located, strict=True):
            if mention.label not in label_ids:
                raise DataError(
                    f"document {document.id!r} has a mention {document.text[mention.start : mention.end]!r} labelled "
                    f"{mention.label!r}, which is not one of the entity types {[*label_ids]}. Describe this "
                    "type in types.json."
                )
            if span is None:
                self.lost.append(LostMention(document, mention, Loss.WORD_BOUNDARY))
                continue
            first, last = span
            added = add_label(label_ids[mention.label], first, last)
            if last - first >= max_span_width:
                self.lost.append(LostMention(document, mention, Loss.SPAN_WIDTH))
            elif not added:
                self.lost.append(LostMention(document, mention, Loss.WINDOW))
        self.windows += windows
        self.labels += labels
        self.document_index += [index] * len(windows)

    def _looked_for(self, document: Document, label_ids: dict[str, int]) -> list[int] | None:
        if document.types is None:
            return None
        unknown = next((name for name in document.types if name not in label_ids), None)
        if unknown is not None:
            raise DataError(
                f"'types' of document {document.id!r} contains {unknown!r}, which is not one of the entity types "
                f"{[*label_ids][:20]}. Describe this type in types.json."
            )
        unnamed = next((mention.label for mention in document.entities if mention.label not in document.types), None)
        if unnamed is not None:
            raise DataError(
                f"document {document.id!r} has a mention labelled {unnamed!r}, which is missing from the 'types' "
                "of this document: add it there, or set 'types' to None."
            )
        return [label_ids[name] for name in document.types]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        window = self.windows[index]
        return {
            "input_ids": window.input_ids,
            "word_start_mask": window.word_start_mask,
            "word_end_mask": window.word_end_mask,
            "labels": self.labels[index],
            "owned": window.owned,
            "window": index,
            "types": self._types_of(index),
        }

    def _types_of(self, index: int) -> list[int] | None:
        """Return the ids of the types that a window is compared with, or None if no document has `Document.types`."""
        if not self.has_own_types:
            return None
        types = self.looked_for[self.document_index[index]]
        return list(range(len(self.types))) if types is None else types

    @property
    def lengths(self) -> list[int]:
        """Number of tokens of each window."""
        return [len(window.input_ids) for window in self.windows]


def _as_types(entity_types: Iterable[str] | Iterable[EntityType] | Mapping[str, str]) -> list[EntityType]:
    if isinstance(entity_types, Mapping):
        return [EntityType(name, (text,)) for name, text in entity_types.items()]
    return [item if isinstance(item, EntityType) else EntityType(item, (item,)) for item in entity_types]


@dataclass
class WindowCollator:
    """Pads the windows of a batch to the longest window, and adds the tokenised entity types.

    Args:
        pad_token_id: id of the padding token in `input_ids`.
        type_inputs: the tokenised entity types, from `BinderWindower.encode_types`.
    """

    pad_token_id: int
    type_inputs: dict[str, Tensor]

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return B windows as tensors.

        Returns:
            - `input_ids`, `attention_mask`, `word_start_mask` and `word_end_mask` [B, L], with L tokens in the longest
              window.
            - `labels` [B, M, 3], where M is the maximum number of mentions in a window. A label is (type, first token,
              last token).
            - `owned` [B, 2], see `decoding_binder.candidate_spans`.
            - `window` [B], the indices of the windows in the data set.
            - The tokenised types.
            - `type_index` [B, T], only if documents have `Document.types`: the ids of the types that each window is
              compared with, padded with -1. A type in `labels` is then a position in the row of `type_index` of the
              same window.
        """
        length = max(len(item["input_ids"]) for item in items)
        mentions = max(1, *(len(item["labels"]) for item in items))

        def pad(name: str, value: int) -> Tensor:
            return torch.tensor([[*item[name], *[value] * (length - len(item[name]))] for item in items])

        input_ids = pad("input_ids", self.pad_token_id)
        sizes = torch.tensor([len(item["input_ids"]) for item in items])
        type_index, rows = self._types(items)
        labels = [[*found, *[(IGNORED,) * 3] * (mentions - len(found))] for found in rows]
        return {
            "input_ids": input_ids,
            "attention_mask": (torch.arange(length) < sizes[:, None]).long(),
            "word_start_mask": pad("word_start_mask", 0),
            "word_end_mask": pad("word_end_mask", 0),
            "labels": torch.tensor(labels),
            "owned": torch.tensor([item["owned"] for item in items]),
            "window": torch.tensor([item["window"] for item in items]),
            **type_index,
            **self.type_inputs,
        }

    def _types(self, items: Sequence[dict[str, Any]]) -> tuple[dict[str, Tensor], list[list[tuple[int, int, int]]]]:
        """Return the labels of each window and, if windows have different types, `type_index`; see `__call__`."""
        if all(item["types"] is None for item in items):
            return {}, [item["labels"] for item in items]
        chosen = [item["types"] for item in items]
        most = max(1, *(len(types) for types in chosen))
        index = torch.tensor([[*types, *[-1] * (most - len(types))] for types in chosen])
        rows = []
        for item, types in zip(items, chosen, strict=True):
            position = {UNDECIDED: UNDECIDED} | {type_id: place for place, type_id in enumerate(types)}
            rows.append([(position[type_id], first, last) for type_id, first, last in item["labels"]])
        return {"type_index": index}, rows


class LengthGroupedSampler(Sampler[int]):
    """Shuffles windows so that the windows of a batch have similar lengths.

    The windows are shuffled and split into groups of 50 batches. Each group is sorted by length and split into batches.
    In the end, all batches are shuffled. The order depends only on the seed and the epoch. So a resumed training gets
    the same batches as an uninterrupted training, and all processes use the same order.

    Args:
        lengths: number of tokens of each window.
        batch_size: number of windows that all processes together use in an optimizer step.
        seed: seed of the training.
        epoch: function that returns the number of the current epoch.
    """

    POOL_BATCHES = 50

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, epoch: Any) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + int(self.epoch()))
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        pool = self.POOL_BATCHES * self.batch_size
        ordered = []
        for begin in range(0, len(order), pool):
            ordered += sorted(order[begin : begin + pool], key=lambda index: -self.lengths[index])
        batches = [ordered[begin : begin + self.batch_size] for begin in range(0, len(ordered), self.batch_size)]
        # A batch that is not full must remain the last batch. Otherwise, it would shift the limits of later batches.
        tail = batches.pop() if batches and len(batches[-1]) < self.batch_size else []
        for position in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[position]
        yield from tail


class FixedOrder(Sampler[int]):
    """Yields the given indices in the given order."""

    def __init__(self, order: list[int]) -> None:
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Any:
        return iter(self.order)
