"""The HTTP app: routes, authorization and errors. uvicorn runs it on one machine, and Ray Serve on a cluster."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from .batching import BatchQueue
from .metrics import Metrics
from .model import Answer, internal_error, run_pass
from .openapi import FIND
from .requests import Limits, RequestError, read_request
from .tokens import is_authorized

logger = logging.getLogger(__name__)
# In the log and the metrics, the status 499 means that the client closed its connection before the answer.
CLIENT_GONE = Answer(499, {"error": "the client closed the connection."})


def create_app(
    pipeline: Any,
    limits: Limits,
    token: bytes | None = None,
    defaults: Mapping[str, Any] | None = None,
    replica: str | None = None,
) -> FastAPI:
    """Return the app that serves a pipeline.

    Args:
        pipeline: a `BinderNerPipeline`. The app calls it from a single thread.
        limits: limits of a request and of the queue.
        token: digest of the bearer token, see `tokens.read_token`. None means that requests need no token.
        defaults: arguments for calls of the pipeline. A request may replace them.
        replica: name of this process for the metrics, if several processes serve the model.
    """
    service = Service(pipeline, limits, defaults or {}, replica)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.queue.start()
        yield
        await service.queue.close()

    def authorize(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    ) -> None:
        if not is_authorized(given.credentials if given else None, token):
            raise HTTPException(
                401, "this server needs the header 'Authorization: Bearer TOKEN'.", {"WWW-Authenticate": "Bearer"}
            )

    app = FastAPI(title="binder-ner", description="Finds named entities of any types.", lifespan=lifespan)
    protected = [Depends(authorize)]
    app.post("/find", dependencies=protected, **FIND)(service.find)
    # Clients of Inference Endpoints call the root.
    app.post("/", dependencies=protected, include_in_schema=False)(service.find)

    @app.get("/health", summary="Return whether the server answers requests")
    async def health() -> JSONResponse:
        alive = service.queue.is_alive
        return JSONResponse({"status": "ok" if alive else "stopping"}, 200 if alive else 503)

    @app.get("/metrics", dependencies=protected, summary="Return the metrics for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(StarletteHTTPException)
    async def refuse(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    return app


class Service:
    """Answers requests of /find.

    Args:
        pipeline, limits, defaults, replica: see `create_app`.
    """

    def __init__(self, pipeline: Any, limits: Limits, defaults: Mapping[str, Any], replica: str | None) -> None:
        self._limits, self._defaults = limits, defaults
        self._max_length = pipeline.model.config.max_length
        self.queue = BatchQueue(lambda requests: run_pass(pipeline, requests), limits, self._count_pass)
        self.metrics = Metrics(self.queue.__len__, replica)

    def _count_pass(self, requests: Any) -> None:
        self.metrics.count_pass(requests)

    async def find(self, request: Request) -> Response:
        """Answer a request, and log its status, time and size. The log contains no text and no address."""
        began = time.perf_counter()
        self.metrics.count_open(1)
        sizes = ""
        try:
            body = await self._read_body(request)
            found = read_request(body, self._limits, self._max_length, self._defaults)
            sizes = f", {len(found.texts)} texts, {found.characters} characters"
            answer = await _unless_disconnected(request, self.queue.submit(found))
        except RequestError as error:
            answer = Answer(error.status, {"error": error.sentence})
        except ClientDisconnect:
            answer = CLIENT_GONE
        except Exception as error:
            answer = internal_error(error)
        finally:
            self.metrics.count_open(-1)
        seconds = time.perf_counter() - began
        self.metrics.count_request(answer.status, seconds)
        logger.info("find: %d, %.3f s%s", answer.status, seconds, sizes)
        return JSONResponse(answer.content, answer.status, {"Retry-After": "1"} if answer.status == 429 else None)

    async def _read_body(self, request: Request) -> bytes:
        """Return the body. Raise `RequestError` as soon as the received bytes are too many."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._limits.max_bytes:
                raise RequestError(
                    413,
                    f"the body has more than {self._limits.max_bytes:,} bytes, and this server accepts at most "
                    f"{self._limits.max_characters:,} characters: split the request.",
                )
        return bytes(body)


async def _unless_disconnected(request: Request, answering: Any) -> Answer:
    """Return the answer. If the client closes the connection first, remove the request from the queue."""

    async def disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answer, gone = asyncio.ensure_future(answering), asyncio.ensure_future(disconnect())
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else CLIENT_GONE
    finally:
        answer.cancel()
        gone.cancel()
