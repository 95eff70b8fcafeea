"""The tokenised windows of a mix in flat arrays.

Arrays need less memory than lists of Python objects. Worker processes of a data loader can share them, and they
compress into small files.
"""

import json
import lzma
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..processing_binder import BinderWindower
from .augment import augmented
from .data import DataError, Document, EntityType, write_json
from .mix import Mix, MixPart, MixSettings, check_shares, rate_problems
from .type_table import TypeTable
from .windows import WindowDataset

Array = NDArray[Any]
DOCUMENTS_PER_JOB = 2000
FILE_VERSION = 1


@dataclass(frozen=True)
class PackedWindows:
    """The N token windows of a corpus, with K tokens and R labels in total.

    A window whose document has `Document.types` has a list of types. These lists contain S types in total.

    Args:
        lengths: [N], number of tokens of each window.
        input_ids: [K], token ids of all windows, concatenated.
        edges: [K], position of each token in its word: 1 for the first token, 2 for the last token, 3 for the only
            token, 0 for other tokens.
        row_counts: [N], number of labels of each window.
        rows: [R, 3], the labels of all windows: type id, first token and last token. The type id is the position of
            the type in its corpus, or -1 for an undecided span.
        type_counts: [N], number of types in `Document.types`. The number is -1 if the document has no `types`. Its
            windows are then compared with all types of the corpus.
        types: [S], ids of the types in the `Document.types` of all windows, concatenated.
    """

    lengths: Array
    input_ids: Array
    edges: Array
    row_counts: Array
    rows: Array
    type_counts: Array
    types: Array

    @classmethod
    def of(cls, dataset: WindowDataset, vocabulary: int) -> "PackedWindows":
        """Pack the windows of a data set."""
        token = np.uint16 if vocabulary <= 2**16 else np.int32
        windows, labels = dataset.windows, dataset.labels
        edges = [np.array([a >= 0 for a in w.starts]) + 2 * np.array([b >= 0 for b in w.ends]) for w in windows]
        named = [dataset.looked_for[document] for document in dataset.document_index]
        flat = [row for rows in labels for row in rows]
        return cls(
            lengths=np.array([len(window.input_ids) for window in windows], np.int32),
            input_ids=_concatenated([np.array(window.input_ids, token) for window in windows], token),
            edges=_concatenated(edges, np.uint8),
            row_counts=np.array([len(rows) for rows in labels], np.int32),
            rows=np.array(flat, np.int32).reshape(len(flat), 3),
            type_counts=np.array([-1 if types is None else len(types) for types in named], np.int32),
            types=_concatenated([np.array(types or (), np.int32) for types in named], np.int32),
        )

    @classmethod
    def joined(cls, parts: Sequence["PackedWindows"]) -> "PackedWindows":
        """Concatenate the windows of several corpora."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__annotations__})

    def __len__(self) -> int:
        return len(self.lengths)


def _concatenated(arrays: list[Array], dtype: Any) -> Array:
    return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(0, dtype)


def _pack(
    documents: Sequence[Document],
    windower: BinderWindower,
    types: Sequence[EntityType],
    max_span_width: int,
    augment: Mapping[str, float],
) -> tuple[PackedWindows, dict[str, int]]:
    documents = [augmented(document, augment, "augment") for document in documents] if augment else documents
    dataset = WindowDataset(documents, windower, types, max_span_width, "")
    lost: dict[str, int] = {}
    for item in dataset.lost:
        lost[item.reason.value] = lost.get(item.reason.value, 0) + 1
    return PackedWindows.of(dataset, len(windower.tokenizer)), lost


class PackedMix:
    """A tokenised mix, ready for training.

    Args:
        windows: the windows of each corpus.
        parts: facts about each corpus: the fields of `MixPart` except `documents` and `types`, and the numbers of its
            documents, mentions and lost mentions.
        types: the entity types of each corpus.
        settings: how batches are sampled.
        origin: the settings that determine the windows: properties of the tokenizer, limits on lengths (see
            `fingerprint`), and `augment`.
    """

    def __init__(
        self,
        windows: Sequence[PackedWindows],
        parts: Sequence[dict[str, Any]],
        types: Sequence[Sequence[EntityType]],
        settings: MixSettings,
        origin: dict[str, Any],
    ) -> None:
        self.parts, self.part_types = [dict(part) for part in parts], [tuple(group) for group in types]
        self.settings, self.origin = settings, origin
        self.sizes = [len(pack) for pack in windows]
        self.windows = PackedWindows.joined(windows)
        self.table = TypeTable((group, part["named"]) for group, part in zip(self.part_types, self.parts, strict=True))
        self.part = np.repeat(np.arange(len(parts)), self.sizes)
        # A type id in `windows` is a position among the types of the corpus. Convert it into a position in `table`.
        begin = np.array(self.table.begin[:-1])
        row_begin = np.repeat(begin[self.part], self.windows.row_counts)
        self.row_types = np.where(self.windows.rows[:, 0] < 0, -1, self.windows.rows[:, 0] + row_begin)
        named = np.maximum(self.windows.type_counts, 0)
        self.named_types = self.windows.types + np.repeat(begin[self.part], named)
        self.token_first = _offsets(self.windows.lengths)
        self.row_first = _offsets(self.windows.row_counts)
        self.named_first = _offsets(named)

    @classmethod
    def prepare(
        cls, mix: Mix, processor: BinderWindower, max_span_width: int, processes: int = 1, progress: bool = True
    ) -> "PackedMix":
        """Tokenise the documents of a mix.

        Args:
            mix: the corpora.
            processor: the `BinderWindower` that cuts texts into windows.
            max_span_width: `config.max_span_width` of the model, in tokens. Wider mentions cannot be trained and count
                as lost.
            processes: number of processes that tokenise in parallel.
            progress: whether to show a progress bar.
        """
        jobs = [
            (index, part.documents[begin : begin + DOCUMENTS_PER_JOB], part.types)
            for index, part in enumerate(mix.parts)
            for begin in range(0, len(part.documents), DOCUMENTS_PER_JOB)
        ]
        packs: list[list[PackedWindows]] = [[] for _ in mix.parts]
        lost: list[dict[str, int]] = [{} for _ in mix.parts]
        total = sum(len(part.documents) for part in mix.parts)
        with tqdm(total=total, desc="Tokenising the mix", unit="document", disable=not progress) as bar:
            for (index, documents, _), (pack, missing) in zip(
                jobs, _each(jobs, processor, max_span_width, mix.settings.augment, processes), strict=True
            ):
                packs[index].append(pack)
                for reason, count in missing.items():
                    lost[index][reason] = lost[index].get(reason, 0) + count
                bar.update(len(documents))
        return cls(
            [PackedWindows.joined(pack) for pack in packs],
            [_facts(part, missing) for part, missing in zip(mix.parts, lost, strict=True)],
            [part.types for part in mix.parts],
            mix.settings,
            {**fingerprint(processor, max_span_width), "augment": mix.settings.augment},
        )

    def __len__(self) -> int:
        return len(self.windows)

    @cached_property
    def related(self) -> Array:
        """Pairs of types that have a mention on the same span anywhere in the mix.

        One type of a pair ("person") may apply to mentions of the other type ("politician"). So "person" must not be a
        negative in a text that is annotated only for "politician". Each pair (a, b) is stored as the integer a * T + b.
        The letters a and b are positions in `table`, and T is the number of its types. The integers are sorted.
        """
        window = np.repeat(np.arange(len(self.windows)), self.windows.row_counts)
        first, last = (self.windows.rows[:, column].astype(np.int64) for column in (1, 2))
        order = np.lexsort((last, first, window))
        order = order[self.row_types[order] >= 0]
        span = np.stack([window[order], first[order], last[order]])
        types = self.row_types[order].astype(np.int64)
        pairs = []
        for step in range(1, len(types)):  # compare each label with the label `step` rows after it
            same = (span[:, step:] == span[:, :-step]).all(0)
            if not same.any():
                break
            one, two = types[:-step][same], types[step:][same]
            pairs += [one * len(self.table) + two, two * len(self.table) + one]
        return np.unique(np.concatenate(pairs)) if pairs else np.zeros(0, np.int64)

    @cached_property
    def shares(self) -> Array:
        """Share of each corpus in the windows of an epoch; the shares sum to 1."""
        fixed = np.array([part["share"] or 0.0 for part in self.parts])
        free = [
            0.0 if part["share"] else part["weight"] * np.sqrt(size)
            for part, size in zip(self.parts, self.sizes, strict=True)
        ]
        weights = np.array(free)
        return fixed + (1 - fixed.sum()) * weights / weights.sum() if weights.any() else fixed / fixed.sum()

    @property
    def epoch_size(self) -> float:
        """Number of windows in an epoch, see `MixSettings.epoch_of`."""
        if self.settings.epoch_of is None:
            return len(self)
        index = [part["name"] for part in self.parts].index(self.settings.epoch_of)
        return self.sizes[index] / float(self.shares[index])

    def configure(self, settings: MixSettings, parts: Mapping[str, Mapping[str, Any]]) -> None:
        """Change how batches are sampled from a prepared mix.

        Args:
            settings: the new settings. `augment` must not change, because the texts are already tokenised.
            parts: name of a corpus -> new `weight`, `share` or `negative_rate`; other keys are ignored.

        Raises:
            DataError: `augment` differs from that of the prepared mix, or a value is out of range.
        """
        prepared = self.origin.get("augment", settings.augment)
        if settings.augment != prepared:
            raise DataError(f"the mix was prepared with augment {prepared}, not {settings.augment}: prepare it again.")
        self.settings = settings
        for part in self.parts:
            changes = parts.get(part["name"], {})
            part |= {key: changes[key] for key in ("weight", "share", "negative_rate") if key in changes}
        problems = [problem for part in self.parts for problem in rate_problems(**_rates(part))]
        if problems:
            raise DataError.of(problems)
        check_shares([part["share"] for part in self.parts])
        self.__dict__.pop("shares", None)

    def report(self) -> list[dict[str, Any]]:
        """Return the fields and counts of each corpus, and its share of the sampled windows ("drawn").

        The data report and the model card show these values.
        """
        return [
            {
                **{key: value for key, value in part.items() if value not in (None, {}, False)},
                "windows": size,
                "types": len(types),
                "drawn": float(share),
            }
            for part, size, types, share in zip(self.parts, self.sizes, self.part_types, self.shares, strict=True)
        ]

    def save(self, folder: str | Path) -> None:
        """Save the mix in a folder: mix.json, and compressed arrays in windows.npz.xz."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Deleted first and written last, so that an interrupted call never leaves it beside the windows of another mix.
        (folder / "mix.json").unlink(missing_ok=True)
        buffer = BytesIO()
        np.savez(buffer, allow_pickle=False, **{name: _small(array) for name, array in vars(self.windows).items()})
        (folder / "windows.npz.xz").write_bytes(lzma.compress(buffer.getvalue(), preset=4))
        types = [[[t.name, list(t.phrasings), t.parent] for t in group] for group in self.part_types]
        write_json(
            folder / "mix.json",
            {
                "version": FILE_VERSION,
                "settings": asdict(self.settings),
                "origin": self.origin,
                "parts": [{**part, "windows": size} for part, size in zip(self.parts, self.sizes, strict=True)],
                "types": types,
            },
        )

    @classmethod
    def load(cls, folder: str | Path) -> "PackedMix":
        """Load a mix that `save` has written.

        Raises:
            DataError: the folder contains no complete prepared mix, or another version of the package prepared it.
        """
        folder = Path(folder)
        try:
            data = json.loads((folder / "mix.json").read_text(encoding="utf-8"))
            arrays = np.load(BytesIO(lzma.decompress((folder / "windows.npz.xz").read_bytes())), allow_pickle=False)
        except (FileNotFoundError, ValueError, lzma.LZMAError) as error:
            raise DataError(f"{folder}: there is no complete prepared mix ({error}); prepare it again.") from None
        if data.get("version") != FILE_VERSION:
            raise DataError(f"{folder}: another version of the package prepared this mix; prepare it again.")
        windows = PackedWindows(**{name: arrays[name] for name in PackedWindows.__annotations__})
        types = [[EntityType(name, tuple(texts), parent) for name, texts, parent in group] for group in data["types"]]
        sizes = [part.pop("windows") for part in data["parts"]]
        settings = MixSettings(**data["settings"])
        return cls(_split(windows, sizes), data["parts"], types, settings, data["origin"])

    def check(self, processor: BinderWindower, max_span_width: int) -> None:
        """Raise DataError if the mix was prepared with another tokenizer or other limits on lengths."""
        wanted = fingerprint(processor, max_span_width)
        for key, value in wanted.items():
            if self.origin.get(key) != value:
                raise DataError(
                    f"the prepared mix was made with {key} {self.origin.get(key)!r}, but this model has {value!r}; "
                    "prepare the mix again for this model."
                )


def _each(
    jobs: list[Any], windower: BinderWindower, max_span_width: int, augment: dict[str, float], processes: int
) -> Iterable[Any]:
    work = partial(_pack, windower=windower, max_span_width=max_span_width, augment=augment)
    if processes <= 1:
        yield from (work(documents, types=types) for _, documents, types in jobs)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        waiting = [pool.submit(work, documents, types=types) for _, documents, types in jobs]
        for job in waiting:
            yield job.result()


def _facts(part: MixPart, lost: dict[str, int]) -> dict[str, Any]:
    fields = ("name", "weight", "share", "named", "negative_rate", "license", "source")
    mentions = sum(len(document.entities) for document in part.documents)
    return {
        **{name: getattr(part, name) for name in fields},
        "documents": len(part.documents),
        "mentions": mentions,
        "lost": lost,
    }


def fingerprint(processor: BinderWindower, max_span_width: int) -> dict[str, Any]:
    """Return the properties of a model that determine its windows.

    They are the size of the vocabulary, the token ids of a test sentence, and the limits on lengths.
    """
    tokenizer = processor.tokenizer
    probe = tokenizer("Ærøskøbing's IL-2 (naïve) 東京\n42 Tokenization", add_special_tokens=True)["input_ids"]
    return {
        "tokenizer": [len(tokenizer), *probe],
        "max_length": processor.max_length,
        "stride": processor.stride,
        "max_span_width": max_span_width,
    }


def _rates(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: part[key] for key in ("name", "weight", "share", "negative_rate")}


def _offsets(counts: Array) -> Array:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _small(array: Array) -> Array:
    """Convert an array to int16 or uint16 if these types can hold its values."""
    for dtype in (np.int16, np.uint16):
        limits = np.iinfo(dtype)
        if array.dtype != np.uint8 and array.size and limits.min <= array.min() and array.max() <= limits.max:
            return array.astype(dtype)
    return array


def _split(windows: PackedWindows, sizes: Sequence[int]) -> list[PackedWindows]:
    ends = np.cumsum(sizes)
    tokens, rows = _offsets(windows.lengths), _offsets(windows.row_counts)
    types = _offsets(np.maximum(windows.type_counts, 0))
    packs = []
    for end, size in zip(ends, sizes, strict=True):
        a, b = end - size, end
        packs.append(
            PackedWindows(
                windows.lengths[a:b].astype(np.int32),
                windows.input_ids[tokens[a] : tokens[b]],
                windows.edges[tokens[a] : tokens[b]],
                windows.row_counts[a:b].astype(np.int32),
                windows.rows[rows[a] : rows[b]].astype(np.int32),
                windows.type_counts[a:b].astype(np.int32),
                windows.types[types[a] : types[b]].astype(np.int32),
            )
        )
    return packs
