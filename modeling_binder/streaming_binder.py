"""Process many texts in batches of windows with similar lengths, and return the results in the order of the texts."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .processing_binder import TextWindow

CPU_BATCH_SIZE = 16  # default number of windows in a batch on a CPU
DEVICE_BATCH_SIZE = 64  # default number of windows in a batch on any other device
READ_AHEAD_BATCHES = 16  # number of batches whose windows are collected and sorted by length before the model runs
# Limits of a batch on a CPU. If a batch needs more padding, two batches are faster. If a batch has more tokens, its
# activations do not fit into the caches of the CPU.
MAX_PADDING_TOKENS = 64
MAX_BATCH_TOKENS = 2**11

Entity = dict[str, Any]
SpanColumns = tuple[Tensor, ...]  # starts, ends, type ids and margins of the spans found in a window
_END_OF_TEXTS = object()


def cut_into_batches(
    lengths: Sequence[int],
    size: int,
    max_padding: float = MAX_PADDING_TOKENS,
    max_tokens: float = MAX_BATCH_TOKENS,
) -> Iterator[slice]:
    """Divide windows that are sorted by length into batches. Yield a slice for each batch.

    Args:
        lengths: number of tokens of each window, in descending order.
        size: maximum number of windows in a batch.
        max_padding: maximum number of padding tokens in a batch.
        max_tokens: maximum number of tokens in a batch, padding included. A window with more tokens is a batch of one
            window.
    """
    begin, padding = 0, 0
    for index, length in enumerate(lengths):
        rows = index - begin
        padding += lengths[begin] - length
        if rows == size or padding > max_padding or (rows and (rows + 1) * lengths[begin] > max_tokens):
            yield slice(begin, index)
            begin, padding = index, 0
    if lengths:
        yield slice(begin, len(lengths))


def collate_windows(windows: Sequence[TextWindow], pad_token_id: int) -> dict[str, Tensor]:
    """Convert B windows to tensors, padded to the L tokens of the longest window.

    Returns:
        A dictionary with these tensors:

        - `input_ids` and `attention_mask`, [B, L].
        - `word_starts`, [B, L]: 1 + the character offset of a word at its first token, and 0 at other tokens.
        - `word_ends`, [B, L]: the end offset of a word at its last token, and 0 at other tokens.
        - `owned`, [B, 2], see `TextWindow`.
    """
    length = max(len(window.input_ids) for window in windows)

    def pad(rows: Iterable[list[int]], value: int) -> Tensor:
        return torch.tensor([row + [value] * (length - len(row)) for row in rows])

    sizes = torch.tensor([[len(window.input_ids)] for window in windows])
    return {
        "input_ids": pad((window.input_ids for window in windows), pad_token_id),
        "attention_mask": (torch.arange(length) < sizes).long(),
        # The model uses the offsets as masks too. So 0 must mean that no word starts or ends at a token.
        "word_starts": pad((window.starts for window in windows), -1) + 1,
        "word_ends": pad((window.ends for window in windows), -1).clamp_min_(0),
        "owned": torch.tensor([window.owned for window in windows]),
    }


@dataclass
class _PendingText:
    """A text whose result has not been returned yet.

    Args:
        text: the text.
        position: number of texts before this text.
        spans: index of a window -> the spans that were found in this window. Windows without spans are left out.
        num_windows: number of windows into which the text has been split so far.
        num_done: number of windows that the model has processed.
        complete: true when the whole text has been split into windows.
    """

    text: str
    position: int
    spans: dict[int, SpanColumns] = field(default_factory=dict)
    num_windows: int = 0
    num_done: int = 0
    complete: bool = False


@dataclass(slots=True)
class _PendingWindow:
    """A window that the model has not processed yet. `index` is the number of the window in its text."""

    text: _PendingText
    index: int
    window: TextWindow


@dataclass(frozen=True)
class TextReader:
    """Processes texts in batches of windows with similar lengths.

    In batches of consecutive sentences, about half of the tokens would be padding. So windows are first collected in a
    list, the pool. When the pool has the windows of `READ_AHEAD_BATCHES` batches, it is sorted by length and processed.

    Args:
        split: a function that converts an input to a text and one or more windows.
        find: a function that returns the spans of each window in a batch.
        collect: a function that returns the result of a text from the spans of its windows. It does not receive windows
            without spans.
        batch_size: maximum number of windows in a batch. With 1, there is no pool, and each window is processed
            as soon as it is read.
        max_padding, max_tokens: see `cut_into_batches`.
    """

    split: Callable[[Any], tuple[str, Iterable[TextWindow]]]
    find: Callable[[list[TextWindow]], Sequence[SpanColumns]]
    collect: Callable[[str, list[SpanColumns]], list[Entity]]
    batch_size: int
    max_padding: float = math.inf
    max_tokens: float = math.inf

    def read(self, texts: Iterable[Any]) -> Iterator[list[Entity]]:
        """Yield the result of each text, in order.

        If a text fails, the results of all earlier texts are yielded first, and then the error is raised. If a batch of
        windows fails, the first text with a window in the batch is the text that fails. No window is processed twice.
        """
        queue: deque[_PendingText] = deque()  # the texts without a result, in order
        pool: list[_PendingWindow] = []
        pool_size = READ_AHEAD_BATCHES * self.batch_size if self.batch_size > 1 else 1
        failure: Exception | None = None
        iterator, position = iter(texts), 0
        while failure is None:
            try:
                item = next(iterator, _END_OF_TEXTS)
                if item is _END_OF_TEXTS:
                    break
                text, windows = self.split(item)
                current = _PendingText(text, position)
                queue.append(current)
                position += 1
                for window in windows:
                    pool.append(_PendingWindow(current, current.num_windows, window))
                    current.num_windows += 1
                    if len(pool) >= pool_size:
                        self._run(pool)
                current.complete = True
            except Exception as error:
                failure = error
            yield from self._results(queue)
        try:
            self._run(pool)
        except Exception as error:
            failure = error  # an error of an earlier text has precedence over an error of the loop above
        yield from self._results(queue)
        if failure is not None:
            raise failure

    def _run(self, pool: list[_PendingWindow]) -> None:
        """Process the windows of the pool, and empty the pool.

        If a batch fails, all windows of earlier texts are still processed, and then the error is raised.
        """
        windows = sorted(pool, key=lambda pending: -len(pending.window.input_ids))
        pool.clear()
        lengths = [len(pending.window.input_ids) for pending in windows]
        failure: Exception | None = None
        first_failed: float = math.inf
        for part in cut_into_batches(lengths, self.batch_size, self.max_padding, self.max_tokens):
            batch = [pending for pending in windows[part] if pending.text.position < first_failed]
            if not batch:
                continue
            try:
                found = self.find([pending.window for pending in batch])
            except Exception as error:
                failure = failure or error
                first_failed = min(pending.text.position for pending in batch)
                continue
            for pending, columns in zip(batch, found, strict=True):
                pending.text.num_done += 1
                if len(columns[0]):
                    pending.text.spans[pending.index] = columns
        if failure is not None:
            raise failure

    def _results(self, queue: deque[_PendingText]) -> Iterator[list[Entity]]:
        """Remove texts from the start of the queue and yield their results, until a text is not complete."""
        while queue and queue[0].complete and queue[0].num_done == queue[0].num_windows:
            text = queue.popleft()
            yield self.collect(text.text, [text.spans[index] for index in sorted(text.spans)])


class EntityStream:
    """The results of texts, which are computed while you iterate over them.

    Each `for` loop reads the texts from the start again. If the texts come from an iterator, such as a generator, they
    can be read only once. `len()` works if the texts have a length.

    If a loop ends with an error or with Ctrl-C, texts that were read ahead have no results (see `READ_AHEAD_BATCHES`).
    If these texts come from an iterator, a new loop or `next()` raises `RuntimeError`. Then pass the remaining texts in
    a new call. With a batch size of 1, no texts are read ahead.

    Args:
        texts: any iterable of texts.
        read: a function that yields the result of each text.

    Raises:
        ValueError: `texts` is not an iterable of texts.
    """

    def __init__(self, texts: Any, read: Callable[[Iterable[Any]], Iterator[list[Entity]]]) -> None:
        if not _is_iterable_of_texts(texts):
            raise ValueError(
                f"expected a text (str) or an iterable of texts, got {type(texts).__name__}: {texts!r:.80}. For a "
                "dataset or a table, pass its text column, as in pipe(dataset['text'])."
            )
        self._texts, self._read = texts, read
        self._is_iterator = isinstance(texts, Iterator)
        self._results: Iterator[list[Entity]] | None = None  # the results that next() returns, one after the other
        self._failure: str | None = None  # the error that ended these results

    def __iter__(self) -> Iterator[list[Entity]]:
        # An iterator cannot be read again, and texts of it may have been read ahead. So continue with its results.
        return self._running() if self._is_iterator else self._read(_iterate(self._texts))

    def __next__(self) -> list[Entity]:
        return next(self._running())

    def __len__(self) -> int:
        try:
            return len(self._texts)
        except TypeError:
            raise TypeError(
                f"the number of results is unknown, because the texts are a {type(self._texts).__name__}, which has no "
                "len(). Use list(pipe(texts)) to read all results."
            ) from None

    def _running(self) -> Iterator[list[Entity]]:
        if self._failure is not None:
            raise RuntimeError(
                f"this stream ended with {self._failure} and cannot continue. Texts that were read ahead have no "
                "results: pass the texts without a result in a new call."
            )
        if self._results is None:
            self._results = self._until_failure()
        return self._results

    def _until_failure(self) -> Iterator[list[Entity]]:
        try:
            yield from self._read(_iterate(self._texts))
        except (Exception, KeyboardInterrupt) as error:
            self._failure = f"{type(error).__name__} ({error})" if str(error) else type(error).__name__
            raise


def as_words(words: Any) -> list[str]:
    """Return the words of a text as a list, from any iterable of words that has an order.

    Raises:
        ValueError: `words` has no order (a set or a mapping) or is a text, or an item is not a str.
    """
    has_order = isinstance(words, KeysView) or not isinstance(words, (str, bytes, Mapping, Set))
    # Make a list, because an iterator can be read only once. The item None causes the error below.
    read: list[Any] = list(words) if has_order and hasattr(words, "__iter__") else [None]
    if not all(isinstance(word, str) for word in read):
        raise ValueError(f"with is_split_into_words=True each input must be a list of words, got {words!r:.80}.")
    return read


def _is_iterable_of_texts(texts: Any) -> bool:
    if isinstance(texts, (str, bytes, bytearray, Mapping, type)) or getattr(texts, "ndim", 1) != 1:
        return False  # for example, the items of a mapping or a table are keys or names of columns, not texts
    return hasattr(texts, "__iter__") or (hasattr(texts, "__getitem__") and hasattr(texts, "__len__"))


def _iterate(texts: Any) -> Iterable[Any]:
    if hasattr(texts, "to_pylist"):  # an array of pyarrow, whose items are pyarrow scalars and not str
        return texts.to_pylist()
    # A map-style torch dataset has no __iter__ and may not raise IndexError at its end, so iter() cannot be used.
    return texts if hasattr(texts, "__iter__") else (texts[index] for index in range(len(texts)))
