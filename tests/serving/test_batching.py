"""Tests of batching: which requests share a pass of the model, and which answer each request gets.

In a pass, the server calls the pipeline once for several requests.
"""

import asyncio
import json
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.serving.batching import BatchQueue, Waiting, take_pass
from modeling_binder.serving.model import Answer, run_pass
from modeling_binder.serving.requests import Limits, RequestError, read_request
from tests.tiny import SENTENCES, TYPES, assert_same_entities, build_pipeline


def request(text, **parameters):
    """Return a parsed request with one text."""
    return read_request(json.dumps({"inputs": text, "parameters": parameters}).encode(), Limits(), 64)


class Future:
    """A replacement for a future: it only knows whether it is done."""

    def __init__(self, done=False):
        self.done = lambda: done


def test_requests_have_the_same_key_only_if_their_parameters_are_equal():
    same = [request("a"), request("b", threshold=None), request(["c"])]
    assert len({found.key for found in same}) == 1
    different = [
        {"threshold": 1}, {"threshold": True}, {"threshold": {"A": 1}}, {"entity_types": ["A", "B"]},
        {"entity_types": ["B", "A"]}, {"entity_types": {"A": "x", "B": "y"}}, {"entity_types": {"A": "y", "B": "x"}},
        {"entity_types": {"A": "x", "B": "y"}, "decoding": "flat"}, {"entity_types": {"B": "y", "A": "x"}},
    ]  # fmt: skip
    assert len({request("a", **parameters).key for parameters in different}) == len(different)
    assert request("a", decoding="flat", stride=3).key == request("a", stride=3, decoding="flat").key


LIMITS = Limits(max_requests=4, max_characters=30)
ITEMS = st.tuples(st.sampled_from("AB"), st.integers(0, 40), st.booleans())


@given(st.lists(ITEMS, max_size=12))
@settings(deadline=None)
def test_each_request_is_in_one_pass_with_requests_of_equal_parameters(items):
    waiting = deque(Waiting(request("x" * size, entity_types=[label]), Future(gone)) for label, size, gone in items)
    expected = [item for item in waiting if not item.answer.done()]
    passes = []
    while waiting:
        first = next((item for item in waiting if not item.answer.done()), None)
        chosen = take_pass(waiting, LIMITS)
        if first is not None:
            assert chosen[0] is first, "the oldest request is first"
        if chosen:
            passes.append(chosen)
    for chosen in passes:
        assert len({item.request.key for item in chosen}) == 1
        assert len(chosen) <= 4
        assert len(chosen) == 1 or sum(item.request.characters for item in chosen) <= 30
    read = [item for chosen in passes for item in chosen]
    assert sorted(map(id, read)) == sorted(map(id, expected))
    for label in "AB":
        own = [item for item in read if f'"{label}"' in item.request.key]
        in_order = [item for item in expected if item in own]
        assert len(own) < 2 or own[0] is in_order[0]


def test_requests_that_arrive_during_a_pass_share_the_next_passes():
    """The first request is processed at once. Requests that arrive during its pass wait, and then share passes."""
    gate, entered, passes = threading.Event(), threading.Event(), []

    def run(requests):
        passes.append([found.texts[0] for found in requests])
        entered.set()
        gate.wait()
        return [Answer(200, found.texts[0]) for found in requests]

    async def scenario():
        queue = BatchQueue(run, Limits(max_queue=4))
        queue.start()
        first = asyncio.ensure_future(queue.submit(request("1")))
        await asyncio.to_thread(entered.wait)
        others = [asyncio.ensure_future(queue.submit(request(text, entity_types=[kind])))
                  for text, kind in (("2", "A"), ("3", "B"), ("4", "A"), ("5", "B"))]  # fmt: skip
        await asyncio.sleep(0)
        assert len(queue) == 4
        with pytest.raises(RequestError, match="the limit of 4 waiting requests is reached") as full:
            await queue.submit(request("6"))
        assert full.value.status == 429
        others[2].cancel()  # its client has closed the connection
        closing = asyncio.ensure_future(queue.close())
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="the server is stopping"):
            await queue.submit(request("7"))
        gate.set()
        await closing
        return [answer.result().content for answer in (first, others[0], others[1], others[3])]

    assert asyncio.run(scenario()) == ["1", "2", "3", "5"]
    assert passes == [["1"], ["2"], ["3", "5"]]


def test_a_request_that_fails_does_not_affect_other_requests_in_its_pass(pipe):
    class Fussy:
        def __call__(self, texts, **parameters):
            if "bad" in texts:
                raise ValueError("bad text")
            if "worse" in texts:
                raise MemoryError
            return pipe(texts, **parameters)

    texts = [SENTENCES[0], "bad", SENTENCES[1], "worse"]
    answers = run_pass(Fussy(), [request(text) for text in texts])
    assert [answer.status for answer in answers] == [200, 422, 200, 500]
    assert answers[1].content == {"error": "bad text"}
    for index in (0, 2):
        assert_same_entities(answers[index].content, pipe(texts[index]))


def test_an_exception_in_a_pass_does_not_end_the_worker():
    def run(requests):
        raise OSError("disk")

    async def scenario():
        queue = BatchQueue(run, Limits())
        queue.start()
        answers = [await queue.submit(request("x")) for _ in range(2)]
        assert queue.is_alive
        await queue.close()
        return [answer.status for answer in answers]

    assert asyncio.run(scenario()) == [500, 500]


@pytest.fixture(scope="module")
def alone():
    """Return a second pipeline with the same weights. The first pipeline is used by the thread of the server."""
    return build_pipeline()


NAMES = ["Gene", "Cell", "Place", "Tool", "Größe"]
DESCRIPTIONS = [*TYPES.values(), "A thing that people use.", "the gene"]
WORDS = ["the", "gene", "cells", "IL-2", "promoter", "🧬", "of", "in", "p5", "\r\n"]
REQUESTS = st.tuples(
    st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(DESCRIPTIONS), min_size=1, max_size=3),
    st.sampled_from(["nested", "flat"]),
)


@given(st.lists(REQUESTS, min_size=1, max_size=16), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_concurrent_clients_get_the_answers_of_the_pipeline(client, alone, requests, order):
    """Types of several clients have the same names and different descriptions. Their answers must not be mixed up."""
    repeated = requests * 2
    order.shuffle(repeated)
    before = client.metrics()

    def ask(given):
        text, types, decoding = given
        return client.find(text, entity_types=types, decoding=decoding)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, repeated))
    after = client.metrics()
    for (text, types, decoding), (status, entities) in zip(repeated, answers, strict=True):
        assert status == 200
        assert {entity["entity_group"] for entity in entities} <= set(types)
        assert_same_entities(entities, alone(text, entity_types=types, decoding=decoding))
    name = "binder_ner_texts_total"
    assert after[name] - before[name] == len(repeated)
