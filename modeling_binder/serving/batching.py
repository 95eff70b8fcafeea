"""Batching across requests: requests with the same parameters share a pass of the model.

While a pass runs, further requests arrive. The next pass takes the request that has waited longest and all waiting ones
with the same parameters. So a server without load answers at once, passes grow with the load, and requests with
different entity types never meet in one pass. The app uses this queue also under Ray Serve, because `@serve.batch` of
Ray Serve waits a fixed time for more requests and then closes the batch, even if the model is still busy. If the gap
between requests is longer than this time, each batch contains one request, although several requests could share the
next pass.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .model import Answer, internal_error
from .requests import FindRequest, Limits, RequestError


@dataclass(frozen=True, eq=False)
class Waiting:
    """A request that waits for a pass, and the future of its answer."""

    request: FindRequest
    answer: "asyncio.Future[Answer]"


def take_pass(waiting: deque[Waiting], limits: Limits) -> list[Waiting]:
    """Remove the requests of the next pass from the queue and return them.

    These are the first request, and further ones with the same parameters. A pass has at most `limits.max_requests`
    requests, and at most `limits.max_characters` characters unless its first request has more. Requests whose clients
    are gone are removed too. The other requests stay in their order.
    """
    chosen: list[Waiting] = []
    kept: list[Waiting] = []
    characters = 0
    for item in waiting:
        request = item.request
        fits = not chosen or (
            request.key == chosen[0].request.key
            and len(chosen) < limits.max_requests
            and characters + request.characters <= limits.max_characters
        )
        if item.answer.done():
            continue
        if fits:
            chosen.append(item)
            characters += request.characters
        else:
            kept.append(item)
    waiting.clear()
    waiting.extend(kept)
    return chosen


class BatchQueue:
    """Requests that wait for the model, which reads them pass by pass in a thread of its own.

    Args:
        run: answers the requests of a pass, one answer each.
        limits: how many requests may wait, and how large a pass may be.
        on_pass: called after each pass, with the requests of the pass.
    """

    def __init__(
        self,
        run: Callable[[Sequence[FindRequest]], list[Answer]],
        limits: Limits,
        on_pass: Callable[[Sequence[FindRequest]], None] = lambda requests: None,
    ) -> None:
        self._run, self._limits, self._on_pass = run, limits, on_pass
        self._waiting: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="binder-ner-model")
        self._worker: asyncio.Task[None] | None = None
        self._closing = False

    def __len__(self) -> int:
        """Return the number of requests that wait for a pass."""
        return len(self._waiting)

    @property
    def is_alive(self) -> bool:
        """Whether requests are being answered."""
        return self._worker is not None and not self._worker.done() and not self._closing

    def start(self) -> None:
        """Start to answer requests, in the running event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Answer all waiting requests, then stop. Further requests are refused."""
        self._closing = True
        self._arrived.set()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def submit(self, request: FindRequest) -> Answer:
        """Return the answer to a request, as soon as a pass has read it.

        Raises:
            RequestError: with status 429 if the queue is full, and 503 if the server is stopping.
        """
        if self._closing:
            raise RequestError(503, "the server is stopping: send the request again.")
        if len(self._waiting) >= self._limits.max_queue:
            most = self._limits.max_queue
            raise RequestError(429, f"the limit of {most} waiting requests is reached: try again later.")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(request, answer))
        self._arrived.set()
        return await answer

    async def _work(self) -> None:
        while self._waiting or not self._closing:
            chosen = take_pass(self._waiting, self._limits)
            if not chosen:
                self._arrived.clear()
                if not self._closing:
                    await self._arrived.wait()
                continue
            requests = [item.request for item in chosen]
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, requests)
            except Exception as error:
                answers = [internal_error(error)] * len(requests)
            for item, answer in zip(chosen, answers, strict=True):
                if not item.answer.done():  # false if the client of the request is gone
                    item.answer.set_result(answer)
            self._on_pass(requests)
