"""Serve the app on a Ray cluster, as a deployment of Ray Serve. Each replica has a GPU or some CPU cores."""

import logging
import re
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..loading import one_line
from .app import create_app
from .model import ModelOptions, load_model
from .requests import Limits

DRAIN_SECONDS = 600.0  # when a replica stops, it has this time to answer the requests that it has accepted


@dataclass(frozen=True)
class RayOptions:
    """The address, the number of replicas and their resources.

    Args:
        name: name of the application in the cluster.
        host, port: address of the HTTP proxies of Ray Serve. They have no effect if Ray Serve already runs in the
            cluster.
        replicas: number of replicas. It has no effect with `autoscaling`.
        cpus: CPU cores of a replica.
        gpus: GPUs of a replica. None means one GPU if the cluster has GPUs, otherwise none.
        autoscaling: fields of `ray.serve.config.AutoscalingConfig`. None means a fixed number of replicas.

    Raises:
        ValueError: an option is out of range, or Ray does not know a field of `autoscaling`.
    """

    name: str = "binder-ner"
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    cpus: float = 1
    gpus: float | None = None
    autoscaling: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        from ray.serve.config import AutoscalingConfig

        for name, value in (("replicas", self.replicas), ("cpus", self.cpus)):
            if value <= 0:
                raise ValueError(f"{name} must be more than 0, got {value}.")
        known = AutoscalingConfig.model_fields
        unknown = [name for name in self.autoscaling or () if name not in known]
        if unknown:
            raise ValueError(f"autoscaling has no field {unknown[0]!r}; the fields are {', '.join(known)}.")
        try:
            AutoscalingConfig(**(self.autoscaling or {}))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ValueError(f"autoscaling: {problems}.") from None


class BinderReplica:
    """A replica: a process with the model and the app.

    Args:
        options: how to load the model.
        limits, token: see `create_app`.
    """

    def __init__(self, options: ModelOptions, limits: Limits, token: bytes | None) -> None:
        # Use the handlers of Ray Serve, so that the app writes to the log file of the replica.
        logs, own = logging.getLogger("ray.serve"), logging.getLogger("modeling_binder.serving")
        own.handlers, own.propagate = logs.handlers, False
        own.setLevel(logging.INFO)
        self._pipeline, self._defaults = load_model(options), options.defaults
        self._limits, self._token = limits, token

    def __serve_build_asgi_app__(self) -> Any:
        # Ray calls this method in the replica. An app that is created elsewhere cannot be sent to the replica, because
        # its locks cannot be pickled.
        from ray import serve

        replica = serve.get_replica_context().replica_id.unique_id
        return create_app(self._pipeline, self._limits, self._token, self._defaults, replica)


class ClusterError(RuntimeError):
    """The cluster cannot run the app."""


def deploy(model: ModelOptions, limits: Limits, token: bytes | None, options: RayOptions) -> None:
    """Deploy the app in the cluster, and return once all replicas answer.

    Raises:
        ClusterError: Ray Serve or a replica cannot start. The message contains the reason.
    """
    import ray
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    gpus = options.gpus if options.gpus is not None else min(1, ray.cluster_resources().get("GPU", 0))
    scaling = {"autoscaling_config": dict(options.autoscaling)} if options.autoscaling else {
        "num_replicas": options.replicas}  # fmt: skip
    deployment = serve.deployment(
        serve.ingress()(BinderReplica),
        name=options.name,
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": gpus},
        # More than the queue of the app holds. Then the app itself rejects requests, with a readable error.
        max_ongoing_requests=2 * limits.max_queue + limits.max_requests,
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        max_constructor_retry_count=1,
        # Ray's log would contain URLs, and a URL may contain a text. The app has its own log.
        logging_config=LoggingConfig(enable_access_log=False),
        **scaling,
    )
    try:
        serve.start(http_options=HTTPOptions(host=options.host, port=options.port), proxy_location="EveryNode")
        serve.run(deployment.bind(model, limits, token), name=options.name, route_prefix="/")
    except RayError as error:
        raise ClusterError(f"Ray Serve cannot start: {one_line(error)}") from None
    except RuntimeError as error:
        reason = _reason(serve, options.name) or one_line(error)
        serve.delete(options.name)
        raise ClusterError(f"a replica cannot start: {reason}") from None


def _reason(serve: Any, name: str) -> str | None:
    """Return the error of a replica that could not start: the last line of its traceback."""
    application = serve.status().applications.get(name)
    messages = [deployment.message for deployment in application.deployments.values()] if application else []
    lines = "\n".join(messages).splitlines()
    reasons = [line.strip() for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return reasons[-1] if reasons else None


def serve_until_stopped(name: str) -> None:
    """Wait for SIGTERM or SIGINT. Then remove the app after it has answered its requests."""
    from ray import serve

    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stopped.wait()
        serve.delete(name)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
