"""Batching across requests: which ones share a pass, and that everybody gets the answer to his own request."""

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
    return read_request(json.dumps({"inputs": text, "parameters": parameters}).encode(), Limits(), 64)


class Future:
    def __init__(self, done=False):
        self.done = lambda: done


def test_the_key_tells_parameters_apart():
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
def test_passes_hold_equal_parameters_and_leave_nobody_behind(items):
    waiting = deque(Waiting(request("x" * size, entity_types=[label]), Future(gone)) for label, size, gone in items)
    expected = [item for item in waiting if not item.answer.done()]
    passes = []
    while waiting:
        first = next((item for item in waiting if not item.answer.done()), None)
        chosen = take_pass(waiting, LIMITS)
        if first is not None:
            assert chosen[0] is first, "the one that has waited longest"
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


def test_requests_join_while_a_pass_runs():
    """Nobody waits for others: the first request runs alone, and those that arrive meanwhile share passes."""
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
        others[2].cancel()  # its client is gone
        closing = asyncio.ensure_future(queue.close())
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="the server is stopping"):
            await queue.submit(request("7"))
        gate.set()
        await closing
        return [answer.result().content for answer in (first, others[0], others[1], others[3])]

    assert asyncio.run(scenario()) == ["1", "2", "3", "5"]
    assert passes == [["1"], ["2"], ["3", "5"]]


def test_a_failing_request_does_not_harm_those_beside_it(pipe):
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
    """A second pipeline with the same weights, since the server runs its pipeline in another thread."""
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
    """Users whose types have the same names but other descriptions: everybody gets what the pipeline finds for him."""
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
