"""Batching across requests: one call of the pipeline (a "pass") answers several requests with the same parameters.

While a pass runs, more requests arrive. The next pass answers the request that has waited longest, together with all
waiting requests that have the same parameters. So a server without load answers at once, and passes grow with the load.
Requests with different entity types are never in the same pass.

The app uses this queue under Ray Serve too, instead of `@serve.batch`. `@serve.batch` closes a batch after a fixed
time, even if the model is still busy. If requests arrive more slowly, each of its batches contains only one request.
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

    A pass consists of the first request, and of other requests with the same parameters. It has at most
    `limits.max_requests` requests. It has at most `limits.max_characters` characters, unless its first request alone
    has more. Requests whose clients have disconnected are removed too. The other requests stay in their order.
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
    """A queue of requests. A separate thread runs the model on these requests, one pass after another.

    Args:
        run: a function that answers the requests of a pass. It returns one answer for each request.
        limits: limits of the queue and of a pass.
        on_pass: a function that is called with the requests of a pass, after each pass.
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
        """Whether the queue accepts and answers requests."""
        return self._worker is not None and not self._worker.done() and not self._closing

    def start(self) -> None:
        """Start to answer requests, in the running event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Answer all waiting requests, then stop. New requests raise `RequestError`."""
        self._closing = True
        self._arrived.set()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def submit(self, request: FindRequest) -> Answer:
        """Wait for the pass that includes a request, and return the answer.

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
                if not item.answer.done():  # it is cancelled, and so done, if the client has disconnected
                    item.answer.set_result(answer)
            self._on_pass(requests)
