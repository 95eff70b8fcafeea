"""Make batches of a mix: sample token windows, entity types for each window, and a phrasing for each entity type.

A phrasing is the text that represents an entity type in the model: its name, its description or both. All random
choices depend only on the seed, the epoch and the number of the batch. So a resumed training gets the same batches as
an uninterrupted training, and all processes use the same order.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from .packed import PackedMix

Array = NDArray[Any]


class MixSampler(Sampler[list[int]]):
    """Samples batches of windows with similar lengths. Each batch has at most a given number of tokens.

    An epoch has `PackedMix.epoch_size` windows, divided between the corpora in proportion to their shares. A window is
    sampled again only after all other windows of its corpus. The windows of an epoch are shuffled and split into groups
    of about 64 batches. Each group is sorted by length and split into batches. In the end, all batches are shuffled.

    Args:
        mix: the tokenised mix.
        tokens_per_batch: maximum number of tokens in a batch, padding included.
        seed: seed of the training.
        epoch: function that returns the number of the current epoch.
        rank, processes: index of this process, and number of processes. The batches are divided between the processes.

    Yields:
        For each batch, a list with a random seed, followed by the indices of its windows.
    """

    POOL_BATCHES = 64

    def __init__(
        self,
        mix: PackedMix,
        tokens_per_batch: int,
        seed: int,
        epoch: Callable[[], float],
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.mix, self.budget, self.seed, self.epoch = mix, tokens_per_batch, seed, epoch
        self.rank, self.processes = rank, processes
        quotas = mix.shares * mix.epoch_size
        self.quotas = np.maximum(1, np.round(quotas)).astype(np.int64)
        # Number of batches in an epoch, summed over all processes
        self.batches = max(1, len(self.plan(0)) // processes) * processes

    def __len__(self) -> int:
        return self.batches // self.processes

    def __iter__(self) -> Iterator[list[int]]:
        epoch = int(self.epoch() + 1e-6)
        plan = self.plan(epoch)
        first = int(np.random.default_rng([self.seed, epoch, 1]).integers(2**62))
        for number in range(self.rank, self.batches, self.processes):
            # `Trainer` expects the same number of batches in each epoch, but `plan` returns slightly different numbers.
            # So some batches at the end of a plan may be skipped, or some batches at its start may be repeated.
            yield [first + number, *plan[number % len(plan)].tolist()]

    def plan(self, epoch: int) -> list[Array]:
        """Return the batches of an epoch. Each batch is an array with the indices of its windows."""
        drawn = np.concatenate([self._drawn(part, epoch) for part in range(len(self.quotas))])
        random = np.random.default_rng([self.seed, epoch])
        random.shuffle(drawn)
        lengths = self.mix.windows.lengths
        mean = max(1.0, float(lengths[drawn].mean()))
        pool = max(1, int(self.POOL_BATCHES * self.budget / mean))
        batches: list[Array] = []
        for begin in range(0, len(drawn), pool):
            windows = drawn[begin : begin + pool]
            windows = windows[np.argsort(lengths[windows], kind="stable")[::-1]]
            sizes = lengths[windows]
            at = 0
            while at < len(windows):  # the first window of a batch is the longest; padding fills the rest
                count = max(1, self.budget // int(sizes[at]))
                batches.append(windows[at : at + count])
                at += count
        return [batches[index] for index in random.permutation(len(batches))]

    def _drawn(self, part: int, epoch: int) -> Array:
        """Return the windows of a corpus that belong to an epoch.

        The windows of the corpus are shuffled repeatedly, and the shuffled sequences are concatenated. Each epoch uses
        the next `quota` windows of the long sequence.
        """
        size, quota = self.mix.sizes[part], int(self.quotas[part])
        begin, stop = epoch * quota, (epoch + 1) * quota
        pieces = []
        for turn in range(begin // size, (stop - 1) // size + 1):
            order = np.random.default_rng([self.seed, part, turn, 2]).permutation(size)
            pieces.append(order[max(begin - turn * size, 0) : stop - turn * size])
        return np.concatenate(pieces) + sum(self.mix.sizes[:part])


def as_it_is(batch: Any) -> Any:
    """Return a batch unchanged. `MixBatches` returns complete batches, so the data loader must not collate them."""
    return batch


class _Pairs(NamedTuple):
    """K pairs of a window in a batch and a type that the window is compared with, sorted by window.

    Args:
        row: [K], index of the window in the batch.
        type_id: [K], position of the type among the types of all corpora.
        place: [K], position of the type among the types of its window.
    """

    row: Array
    type_id: Array
    place: Array


class MixBatches(Dataset[Any]):
    """Makes complete batches of a mix from the items of a `MixSampler`.

    Args:
        mix: the tokenised mix.
        pad_token_id: id of the padding token in `input_ids`.
        type_pad_token_id: id of the padding token in `type_input_ids`.
        tokenized: token ids of each phrasing in `mix.table.texts`. `None` means that the type encoder is frozen. Then a
            batch contains `type_phrasings` (indices into `mix.table.texts`) instead of token ids, and the trainer
            encodes each phrasing only once.
    """

    def __init__(
        self, mix: PackedMix, pad_token_id: int, type_pad_token_id: int, tokenized: list[list[int]] | None = None
    ) -> None:
        self.mix, self.tokenized = mix, tokenized
        self.pad_token_id, self.type_pad_token_id = pad_token_id, type_pad_token_id
        if mix.settings.foreign_types:
            _ = mix.related  # cache the value before worker processes start, so that each worker need not compute it

    def __len__(self) -> int:
        return len(self.mix)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index, index])

    def __getitems__(self, keys: list[int]) -> dict[str, Any]:
        """Make a batch of B windows, padded to L tokens.

        Args:
            keys: a random seed for the batch, followed by the indices of its windows.

        Returns:
            - `input_ids`, `attention_mask`, `word_start_mask` and `word_end_mask` [B, L].
            - The phrasings of the types: `type_phrasings`, or `type_input_ids` and `type_attention_mask`.
            - `type_index` [B, T], the T types of each window. It is missing if all windows have the same types.
            - `labels` and `excluded`, rows (window, type, first token, last token). `labels` are the mentions.
              `excluded` are the spans that are neither mentions nor negatives, see `losses_binder`.
            - `counts` [2], the number of mentions, and the number of window-type pairs.
        """
        random, windows = np.random.default_rng(keys[0]), np.array(keys[1:])
        batch = self._tokens(windows)
        pairs = self._types(windows, random)
        types = self._phrasings(pairs, len(windows), random)
        labels, excluded = self._labels(windows, pairs)
        self._thin(batch, windows, np.concatenate([labels, excluded]), random)
        return {
            **{name: torch.from_numpy(array) for name, array in batch.items()},
            **types,
            "labels": torch.from_numpy(labels),
            "excluded": torch.from_numpy(excluded),
            "counts": torch.tensor([len(labels), len(pairs.row)]),
        }

    def _tokens(self, windows: Array) -> dict[str, Array]:
        packed = self.mix.windows
        lengths = packed.lengths[windows]
        within = np.arange(lengths.max())
        real = within < lengths[:, None]
        at = np.where(real, self.mix.token_first[windows][:, None] + within, 0)
        edges = np.where(real, packed.edges[at], 0)
        return {
            "input_ids": np.where(real, packed.input_ids[at], self.pad_token_id).astype(np.int64),
            "attention_mask": real.astype(np.int64),
            "word_start_mask": (edges & 1).astype(bool),
            "word_end_mask": (edges & 2).astype(bool),
        }

    # ---- types ----

    def _types(self, windows: Array, random: np.random.Generator) -> _Pairs:
        """Sample the types that each window is compared with."""
        mix, settings = self.mix, self.mix.settings
        named = mix.windows.type_counts[windows] >= 0
        begin = np.array(mix.table.begin)
        parts = mix.part[windows]
        count = np.where(named, mix.windows.type_counts[windows], np.diff(begin)[parts])
        rows, place = _expand(count)
        own = rows[named[rows]], place[named[rows]]
        types = begin[parts][rows] + place
        if len(mix.named_types):
            types[named[rows]] = mix.named_types[mix.named_first[windows][own[0]] + own[1]]
        key = rows * len(mix.table) + types
        found_rows, found_types = self._found(windows)
        present = np.isin(key, found_rows * len(mix.table) + found_types)
        order = np.lexsort((random.random(len(key)) - present, rows))
        rows, types, present = rows[order], types[order], present[order]
        kept = (_rank(rows) < settings.max_types) | present
        rows, types = rows[kept], types[kept]
        if settings.foreign_types and named.any():
            foreign_rows, foreign_types = self._foreign(rows, types, named, random)
            rows, types = np.concatenate([rows, foreign_rows]), np.concatenate([types, foreign_types])
        order = np.lexsort((types, rows))
        rows, types = rows[order], types[order]
        return _Pairs(rows, types, _rank(rows))

    def _found(self, windows: Array) -> tuple[Array, Array]:
        """Return, for each mention of a batch, the index of its window in the batch and the position of its type."""
        rows, place = _expand(self.mix.windows.row_counts[windows])
        types = self.mix.row_types[self.mix.row_first[windows][rows] + place]
        return rows[types >= 0], types[types >= 0]

    def _foreign(self, rows: Array, types: Array, named: Array, random: np.random.Generator) -> tuple[Array, Array]:
        """Sample additional types, as negatives, for windows whose documents have `Document.types`.

        They are types of other windows in the batch. A sampled type is rejected if it may apply to mentions of a type
        of the window. There are two such cases:

        - The names of the two types share a word.
        - The two types have a mention on the same span anywhere in the mix.
        """
        table, wanted = self.mix.table, self.mix.settings.foreign_types
        own = named[rows]
        rows, types = rows[own], types[own]
        if not len(rows):
            return rows, types
        takers = np.repeat(np.flatnonzero(named), 3 * wanted)  # more types than needed: some are rejected below
        tries = types[random.integers(len(types), size=len(takers))]

        def words(rows: Array, types: Array) -> tuple[Array, Array]:
            item, place = _expand(np.diff(table.word_first)[types])
            return item, rows[item] * table.word_count + table.word_ids[table.word_first[types][item] + place]

        _, known = words(rows, types)
        item, asked = words(takers, tries)
        free = np.ones(len(takers), bool)
        free[item[np.isin(asked, known)]] = False
        free[self._is_related(takers, tries, rows, types)] = False
        key = np.unique((takers * len(table) + tries)[free])
        key = key[~np.isin(key, rows * len(table) + types)]
        random.shuffle(key)
        takers, tries = key // len(table), key % len(table)
        order = np.argsort(takers, kind="stable")
        takers, tries = takers[order], tries[order]
        kept = _rank(takers) < wanted
        return takers[kept], tries[kept]

    def _is_related(self, takers: Array, tries: Array, rows: Array, types: Array) -> Array:
        """Return, for each sampled type, whether it is related to a type of its window.

        Two types are related if they have a mention on the same span anywhere in the mix, see `PackedMix.related`.
        """
        begin, end = (np.searchsorted(rows, takers, side=side) for side in ("left", "right"))
        item, place = _expand(end - begin)
        keys = types[begin[item] + place] * len(self.mix.table) + tries[item]
        related = np.zeros(len(takers), bool)
        related[item[_contains(self.mix.related, keys)]] = True
        return related

    def _phrasings(self, pairs: _Pairs, size: int, random: np.random.Generator) -> dict[str, Tensor]:
        """Sample a phrasing for each window-type pair."""
        table, settings = self.mix.table, self.mix.settings
        rows, types, place = pairs
        descriptions = (table.first[types + 1] - table.first[types] - 1) // 2
        shares = np.array([settings.name, settings.named_description, settings.description])
        form = np.searchsorted(np.cumsum(shares / shares.sum())[:-1], random.random(len(types)), side="right")
        chosen = (random.random(len(types)) * descriptions).astype(np.int64)
        # The name alone cannot distinguish two types of a window with the same name. So add the description.
        name = rows * len(table.texts) + table.phrasings[table.first[types]]
        _, inverse, counts = np.unique(name, return_inverse=True, return_counts=True)
        form = np.where((form == 0) & (counts[inverse] > 1), 1, form)
        offset = np.where((form == 0) | (descriptions == 0), 0, 1 + chosen + (form == 2) * descriptions)
        phrasing = table.phrasings[table.first[types] + offset]
        unique, inverse = np.unique(phrasing, return_inverse=True)
        if not len(unique):  # there is no type in this batch, but the model requires at least one
            unique = np.zeros(1, np.int64)
        index = np.full((size, int(place.max(initial=0)) + 1), -1, np.int64)
        index[rows, place] = inverse
        if (index == index[0]).all() and (index[0] >= 0).all():  # all windows are compared with the same types
            return self._type_inputs(unique[index[0]])
        return {**self._type_inputs(unique), "type_index": torch.from_numpy(index)}

    def _type_inputs(self, phrasings: Array) -> dict[str, Tensor]:
        if self.tokenized is None:
            return {"type_phrasings": torch.from_numpy(phrasings.astype(np.int64))}
        tokens = [self.tokenized[index] for index in phrasings.tolist()]
        length = max(map(len, tokens))
        ids = torch.tensor([[*row, *[self.type_pad_token_id] * (length - len(row))] for row in tokens])
        mask = (torch.arange(length) < torch.tensor([len(row) for row in tokens])[:, None]).long()
        return {"type_input_ids": ids, "type_attention_mask": mask}

    # ---- labels ----

    def _labels(self, windows: Array, pairs: _Pairs) -> tuple[Array, Array]:
        """Return the mentions, and the spans that are neither mentions nor negatives.

        Both are arrays of rows (window, position of the type among the types of the window, first token, last token).
        """
        mix, total = self.mix, len(self.mix.table)
        rows, place = _expand(mix.windows.row_counts[windows])
        at = mix.row_first[windows][rows] + place
        types = mix.row_types[at]
        first, last = mix.windows.rows[at, 1].astype(np.int64), mix.windows.rows[at, 2].astype(np.int64)
        key = pairs.row * total + pairs.type_id
        order = np.argsort(key, kind="stable")
        marked = types >= 0
        position = np.searchsorted(key[order], rows[marked] * total + types[marked])
        places = pairs.place[order][np.minimum(position, len(key) - 1)]
        found = np.stack([rows[marked], places, first[marked], last[marked]], 1).astype(np.int64)
        scored = found[:, 3] - found[:, 2] < mix.origin["max_span_width"]
        # Each type of the window may apply to an undecided span. So exclude the span for all of these types.
        count = np.bincount(pairs.row, minlength=len(windows))
        open_rows, open_first, open_last = rows[~marked], first[~marked], last[~marked]
        item, place = _expand(count[open_rows])
        undecided = np.stack([open_rows[item], place, open_first[item], open_last[item]], 1).astype(np.int64)
        return found[scored], np.concatenate([found[~scored], undecided])

    def _thin(self, batch: dict[str, Array], windows: Array, spans: Array, random: np.random.Generator) -> None:
        """Remove random word starts and word ends outside mentions, so that the loss does not use them as negatives.

        This changes only windows of corpora with a `negative_rate` below 1. The rate is the share of the word starts
        and word ends that remain.
        """
        rates = np.array([part["negative_rate"] for part in self.mix.parts])[self.mix.part[windows]]
        thin = np.flatnonzero(rates < 1)
        if not len(thin):
            return
        inside = np.zeros((len(windows), batch["input_ids"].shape[1] + 1), np.int32)
        np.add.at(inside, (spans[:, 0], spans[:, 2]), 1)
        np.add.at(inside, (spans[:, 0], spans[:, 3] + 1), -1)
        known = np.cumsum(inside, 1)[thin, :-1] > 0
        for name in ("word_start_mask", "word_end_mask"):
            batch[name][thin] &= known | (random.random(known.shape) < rates[thin, None])


def _contains(values: Array, keys: Array) -> Array:
    """Return, for each key, whether it is one of the values. The values must be sorted."""
    if not len(values):
        return np.zeros(len(keys), bool)
    found: Array = values[np.minimum(np.searchsorted(values, keys), len(values) - 1)] == keys
    return found


def _expand(counts: Array) -> tuple[Array, Array]:
    """Number the entries of items, where item i has `counts[i]` entries.

    Returns:
        Two arrays with one value per entry: the index of its item, and its position within the item.
    """
    items = np.repeat(np.arange(len(counts)), counts)
    return items, np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts)


def _rank(rows: Array) -> Array:
    """Return the position of each entry within its row. Entries must be sorted by row."""
    if not len(rows):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 1))
    return np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
