"""Metrics of the server in the text format of Prometheus. They never contain texts or names of entity types."""

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from .requests import FindRequest

PASS_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one app, in a separate Prometheus registry.

    Args:
        waiting: a function that returns the number of requests that wait for a pass.
        replica: name of the process. If it is not None, every metric has it as the label "replica".
    """

    def __init__(self, waiting: Callable[[], int], replica: str | None = None) -> None:
        self._registry = CollectorRegistry()
        self._labels = {} if replica is None else {"replica": replica}
        self._requests = self._make(Counter, "requests", "Requests of /find, by HTTP status.", ["status"])
        self._seconds = self._labelled(Histogram, "request_seconds", "Seconds from request to answer.", buckets=SECONDS)
        self._texts = self._labelled(Counter, "texts", "Texts in which entities were searched.")
        self._characters = self._labelled(Counter, "characters", "Characters of texts and entity types.")
        self._passes = self._labelled(Histogram, "pass_requests", "Requests in one pass.", buckets=PASS_SIZES)
        self._labelled(Gauge, "waiting_requests", "Requests that wait for a pass of the model.").set_function(waiting)
        self._running = self._labelled(Gauge, "open_requests", "Requests that are not answered yet.")
        if replica is None:  # Ray has metrics of its processes already
            ProcessCollector(registry=self._registry)

    def _make(self, kind: type, name: str, text: str, labels: Sequence[str] = (), **options: Any) -> Any:
        return kind(f"binder_ner_{name}", text, [*labels, *self._labels], registry=self._registry, **options)

    def _labelled(self, kind: type, name: str, text: str, **options: Any) -> Any:
        metric = self._make(kind, name, text, **options)
        return metric.labels(**self._labels) if self._labels else metric

    def count_open(self, change: int) -> None:
        """Add `change` to the number of open requests: 1 when a request arrives, and -1 when it ends."""
        self._running.inc(change)

    def count_request(self, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        self._requests.labels(status=str(status), **self._labels).inc()
        self._seconds.observe(seconds)

    def count_pass(self, requests: Sequence[FindRequest]) -> None:
        """Count a pass of the model."""
        self._passes.observe(len(requests))
        self._texts.inc(sum(len(request.texts) for request in requests))
        self._characters.inc(sum(request.characters for request in requests))

    def page(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)
