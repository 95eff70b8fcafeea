"""Tests of streams of texts: batches, kinds of iterables, reading ahead, errors and memory."""

import math
import tracemalloc
from collections import Counter, OrderedDict, deque

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, IterableDataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.pipelines.pt_utils import KeyDataset

from modeling_binder.processing_binder import TextWindow
from modeling_binder.streaming_binder import READ_AHEAD_BATCHES, EntityStream, TextReader, cut_into_batches
from tests.tiny import assert_same_entities, build_pipeline, keys

PIPE = build_pipeline()
TEXTS = ["IL-2 gene promoter", "", "cells of the gene", "   ", "x", "The IL-2-mediated effect, in 2 cells."]


@pytest.fixture(scope="module")
def pipe():
    return PIPE


# ---- batches ----


def test_batches_respect_the_limits_of_size_padding_and_tokens():
    assert list(cut_into_batches([], 4)) == []
    assert list(cut_into_batches([9, 9, 9, 9, 9], 2, 0)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(cut_into_batches([9, 8, 7, 2, 2], 8, 3)) == [slice(0, 3), slice(3, 5)]
    assert list(cut_into_batches([9, 5, 5, 5], 8, 0, 11)) == [slice(0, 1), slice(1, 3), slice(3, 4)]
    assert list(cut_into_batches([9, 9], 8, 0, 1)) == [slice(0, 1), slice(1, 2)]


@given(st.lists(st.integers(2, 50)), st.integers(1, 9), st.integers(0, 99), st.integers(50, 300))
def test_batches_are_as_large_as_the_limits_allow(lengths, size, max_padding, max_tokens):
    lengths.sort(reverse=True)
    batches = list(cut_into_batches(lengths, size, max_padding, max_tokens))
    assert [length for part in batches for length in lengths[part]] == lengths

    def fits(part):
        batch = lengths[part]
        padded = len(batch) * batch[0]
        return len(batch) <= size and padded <= max_tokens and padded - sum(batch) <= max_padding

    assert all(map(fits, batches))
    assert not any(fits(slice(part.start, part.stop + 1)) for part in batches[:-1])


def test_results_have_the_order_of_the_texts(pipe):
    texts = ["the IL-2 gene promoter of cells. " * (index * 7 % 12) for index in range(40)]
    single = [pipe(text) for text in texts]
    for batch_size, ahead in ((2, 2), (3, 1), (16, 16)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("modeling_binder.streaming_binder.READ_AHEAD_BATCHES", ahead)
            found = pipe(texts, batch_size=batch_size)
        for one, two in zip(found, single, strict=True):
            assert_same_entities(one, two)


ANY_TEXTS = st.lists(st.text(alphabet=st.sampled_from("abIL2-. \ngenecells東é"), max_size=300), min_size=1, max_size=7)


@given(ANY_TEXTS, st.integers(2, 5), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_batch_size_and_the_order_of_the_texts_do_not_matter(texts, batch_size, random):
    """The scores of two runs may differ by rounding. So a span close to the threshold may be in only one result."""
    lowest = 0.2

    def scores(results):
        return [dict(zip(keys(entities), (e["score"] for e in entities), strict=True)) for entities in results]

    single = scores(PIPE(text, threshold=lowest, batch_size=1) for text in texts)
    order = random.sample(range(len(texts)), len(texts))
    shuffled = scores(PIPE([texts[index] for index in order], threshold=lowest, batch_size=batch_size))
    for index, together in zip(order, shuffled, strict=True):
        alone = single[index]
        for span in alone.keys() | together.keys():
            assert alone.get(span, lowest) == pytest.approx(together.get(span, lowest), abs=1e-4)


# ---- iterables of texts ----


class MapStyleDataset:
    """A map-style torch dataset: it has a length and items, but no __iter__, and raises no IndexError at its end."""

    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, index):
        return TEXTS[index % len(TEXTS)]


REPEATABLE = {
    "map-style dataset": MapStyleDataset(),
    "KeyDataset": KeyDataset(Dataset.from_dict({"text": TEXTS}), "text"),
    "column of a dataset": Dataset.from_dict({"text": TEXTS})["text"],
    "pandas Series": pd.Series(TEXTS, index=range(5, 11)),
    "numpy array": np.array(TEXTS),
    "deque": deque(TEXTS),
    "values of a dictionary": dict(enumerate(TEXTS)).values(),
    "array of pyarrow": pa.chunked_array([TEXTS]),
}


@pytest.mark.parametrize("texts", REPEATABLE.values(), ids=REPEATABLE)
def test_a_stream_of_repeatable_texts_has_a_length_and_can_be_read_again(pipe, texts):
    expected = pipe(TEXTS)
    stream = pipe(texts, batch_size=2)
    assert isinstance(stream, EntityStream) and len(stream) == len(TEXTS)
    for _ in range(2):
        for one, two in zip(stream, expected, strict=True):
            assert_same_entities(one, two)
    assert_same_entities(next(stream), expected[0])
    assert_same_entities(next(stream), expected[1])


def test_a_stream_of_an_iterable_without_a_length_can_be_read_again(pipe):
    rows = IterableDataset.from_generator(lambda: ({"text": text} for text in TEXTS))
    stream = pipe(KeyIterable(rows))
    for _ in range(2):
        assert [keys(entities) for entities in stream] == [keys(entities) for entities in pipe(TEXTS)]
    with pytest.raises(TypeError, match=r"because the texts are a KeyIterable, which has no len\(\)"):
        len(stream)


class KeyIterable:
    """An iterable over one column of a dataset. It has no length."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return (row["text"] for row in self.rows)


ITERATORS = {
    "generator": lambda: (text for text in TEXTS),
    "iterator": lambda: iter(TEXTS),
    "map": lambda: map(str, TEXTS),
    "zip": lambda: (text for text, _ in zip(TEXTS, TEXTS, strict=True)),
}


@pytest.mark.parametrize("texts", ITERATORS.values(), ids=ITERATORS)
def test_an_iterator_is_read_once_and_no_result_is_lost(pipe, texts):
    stream = pipe(texts(), batch_size=2)
    with pytest.raises(TypeError, match=r"the number of results is unknown.* Use list\(pipe\(texts\)\)"):
        len(stream)
    first = next(stream)
    rest = list(stream)  # includes the results of texts that were read ahead
    for one, two in zip([first, *rest], pipe(TEXTS), strict=True):
        assert_same_entities(one, two)
    assert list(stream) == []


NOT_TEXTS = {
    "number": 3,
    "bytes": b"IL-2 gene",
    "dictionary": {"text": "IL-2 gene"},
    "ordered dictionary": OrderedDict(text=["IL-2 gene"]),
    "table": pd.DataFrame({"text": TEXTS}),
    "two-dimensional array": np.array([TEXTS]),
    "scalar array": np.array("IL-2 gene"),
    "nothing": None,
    "class": list,
}


@pytest.mark.parametrize("bad", NOT_TEXTS.values(), ids=NOT_TEXTS)
def test_inputs_that_are_not_iterables_of_texts_are_rejected(pipe, bad):
    with pytest.raises(ValueError, match=r"expected a text \(str\) or an iterable of texts, got"):
        pipe(bad)


@pytest.mark.parametrize("bad", [[["a", "b"]], [{"text": "a"}], ["a", None], Dataset.from_dict({"text": TEXTS})])
def test_items_that_are_not_texts_are_rejected(pipe, bad):
    with pytest.raises(ValueError, match=r"expected a text \(str\), got"):
        list(pipe(bad))


def test_a_stream_reads_ahead_only_a_fixed_number_of_batches(pipe):
    read = []

    def texts():
        for index in range(1000):
            read.append(index)
            yield "the gene"

    next(pipe(texts(), batch_size=2))
    assert len(read) == 2 * READ_AHEAD_BATCHES
    read.clear()
    next(pipe(texts(), batch_size=1))
    assert len(read) == 1


# ---- errors ----


def reader(find, batch_size=2, windows_per_text=lambda text: 1):
    """Build a reader whose texts are numbers. Each window of the text n has n tokens.

    `find` stands in for the model: it returns the number of tokens of each window. The result of a text is the sum of
    these numbers over its windows.
    """

    def split(text):
        if text < 0:
            raise ValueError("a bad text")
        window = TextWindow([text] * text, [], [], (0, 0), 0, text)
        return str(text), [window] * windows_per_text(text)

    return TextReader(split, find, lambda text, spans: [sum(int(columns[0]) for columns in spans)], batch_size)


def results_until_error(results):
    """Return the results of an iterator and its error message, or `None` if the iterator raises no error."""
    found = []
    try:
        for result in results:
            found.append(result[0])
    except Exception as error:
        return found, str(error)
    return found, None


@pytest.mark.parametrize("bad", [0, 1, 4, 9])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
@pytest.mark.parametrize("windows", [1, 3])
def test_the_results_of_earlier_texts_are_yielded_if_the_model_fails(bad, batch_size, windows):
    texts = [7, 3, 12, 5, 9, 2, 11, 4, 8, 6]
    runs = Counter()

    def find(batch):
        sizes = [len(window.input_ids) for window in batch]
        runs.update(sizes)
        if texts[bad] in sizes:
            raise RuntimeError(f"out of memory with {sizes}")
        return [(torch.tensor([size]),) for size in sizes]

    found, error = results_until_error(reader(find, batch_size, lambda text: windows).read(iter(texts)))
    assert error.startswith("out of memory")
    assert found == [windows * text for text in texts[: len(found)]]
    # The failed batch may contain windows of several texts. Only the results of earlier texts are yielded.
    shared = [texts.index(int(size)) for size in error.split("[")[1].rstrip("]").split(", ")]
    assert len(found) == min(shared)
    assert max(runs.values()) <= windows, "each window is processed once"


def test_only_earlier_texts_are_processed_after_a_failure():
    batches = []

    def find(batch):
        sizes = [len(window.input_ids) for window in batch]
        batches.append(sizes)
        if 5 in sizes:
            raise RuntimeError("out of memory")
        return [(torch.tensor([size]),) for size in sizes]

    found, error = results_until_error(reader(find, batch_size=1 + 1).read([3, 2, 5, 4, 1, 1, 1, 1]))
    assert error == "out of memory" and found == [3, 2]
    assert batches == [[5, 4], [3, 2]]


def test_a_model_that_always_fails_is_called_once_per_window():
    runs = Counter()

    def find(batch):
        runs.update(len(window.input_ids) for window in batch)
        raise RuntimeError(f"error number {len(runs)}")

    found, error = results_until_error(reader(find).read(range(1, 9)))
    assert found == [] and error == "error number 2", "the first error is raised"
    assert max(runs.values()) == 1


def test_the_results_of_earlier_texts_are_yielded_before_the_error_of_an_invalid_text():
    def find(batch):
        if any(len(window.input_ids) == 2 for window in batch):
            raise RuntimeError("out of memory")
        return [(torch.tensor([len(window.input_ids)]),) for window in batch]

    good = reader(lambda batch: [(torch.tensor([len(window.input_ids)]),) for window in batch])
    assert results_until_error(good.read([4, 3, 2, -1, 1])) == ([4, 3, 2], "a bad text")
    assert results_until_error(reader(find, 1).read([4, 3, 2, -1, 1])) == ([4, 3], "out of memory")
    assert results_until_error(reader(find, 2).read([4, 3, 2, -1, 1])) == ([4, 3], "out of memory")


def test_the_pipeline_yields_earlier_results_if_the_model_fails(monkeypatch):
    pipe = build_pipeline()
    expected = pipe(TEXTS)
    forward, sizes = pipe.model.encode_text, []

    def failing(input_ids, attention_mask):
        sizes.append(input_ids.shape[1])
        if len(sizes) == 2:
            raise RuntimeError("out of memory")
        return forward(input_ids, attention_mask)

    monkeypatch.setattr(pipe.model, "encode_text", failing)
    found = []
    with pytest.raises(RuntimeError, match="out of memory"):
        for entities in pipe(iter(TEXTS), batch_size=1):
            found.append(entities)
    assert len(found) == 1 and len(sizes) == 2
    assert_same_entities(found[0], expected[0])
    sizes.clear()
    with pytest.raises(RuntimeError, match="out of memory"):
        pipe(TEXTS, batch_size=1)


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt(), ValueError("bad line")], ids=str)
def test_the_error_says_that_a_failed_stream_cannot_continue(pipe, error):
    def texts():
        yield from TEXTS[:2]
        raise error

    stream = pipe(texts())
    with pytest.raises(type(error)):
        list(stream)
    for read in (list, next, iter):
        with pytest.raises(RuntimeError, match=f"ended with {type(error).__name__}.* pass the texts without a result"):
            read(stream)


def test_a_stream_of_repeatable_texts_can_be_read_again_after_a_failure(pipe):
    texts = dict.fromkeys([*TEXTS[:2], 7])
    stream = pipe(texts.keys())
    for _ in range(2):
        with pytest.raises(ValueError, match="expected a text"):
            list(stream)
    del texts[7]
    assert len(list(stream)) == 2


def test_no_earlier_result_is_lost_if_an_iterator_fails(pipe):
    def texts():
        yield from TEXTS[:3]
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        for entities in pipe(texts()):
            found.append(entities)
    for one, text in zip(found, TEXTS[:3], strict=True):
        assert_same_entities(one, pipe(text))


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_rejected(pipe, batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {batch_size}"):
        pipe(TEXTS, batch_size=batch_size)
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {batch_size}"):
        build_pipeline({"batch_size": batch_size})(TEXTS)


def test_padding_is_not_limited_by_default():
    sizes = []

    def find(batch):
        sizes.append(len(batch))
        return [(torch.zeros(0),) for _ in batch]

    assert math.isinf(reader(find).max_padding) and math.isinf(reader(find).max_tokens)
    list(reader(find, batch_size=3).read([900, 1, 1, 900, 1, 1]))
    assert sizes == [3, 3]


# ---- memory ----


@pytest.mark.slow
def test_fifty_thousand_texts_stream_in_constant_memory(pipe):
    process, held = psutil.Process(), []
    for index, entities in enumerate(pipe(("the gene" for _ in range(50_000)), batch_size=64)):
        assert entities[0]["word"]
        if index % 10_000 == 9_999:
            held.append(process.memory_info().rss)
    assert len(held) == 5 and max(held) - held[0] < 20e6


@pytest.mark.slow
def test_a_long_text_is_read_in_bounded_memory(pipe):
    """The memory holds the text of two million characters and the spans found, but never all tokens."""

    def peak(length):
        text = "of the in and " * (length // 14)
        tracemalloc.start()
        try:
            assert pipe(text, threshold=1) == []
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(2_000_000) - peak(400_000) < 10e6
