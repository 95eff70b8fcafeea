"""The server on a Ray cluster: the same app as a deployment of Ray Serve; each replica has a GPU or some cores."""

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

DRAIN_SECONDS = 600.0  # time in which a replica must answer the requests it has accepted before Ray ends it


@dataclass(frozen=True)
class RayOptions:
    """Where the app runs, and with how many replicas.

    Args:
        name: name of the application in the cluster.
        host, port: address of the proxies. If Ray Serve runs in the cluster already, it keeps the address that it has.
        replicas: number of replicas, unless `autoscaling` is given.
        cpus, gpus: CPU cores and GPUs of a replica. Default to one core, and to one GPU if the cluster has any.
        autoscaling: fields of `ray.serve.config.AutoscalingConfig`.

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
        # The handlers of Ray Serve's logger write to the log file of the replica, so the app uses them too.
        logs, own = logging.getLogger("ray.serve"), logging.getLogger("modeling_binder.serving")
        own.handlers, own.propagate = logs.handlers, False
        own.setLevel(logging.INFO)
        self._pipeline, self._defaults = load_model(options), options.defaults
        self._limits, self._token = limits, token

    def __serve_build_asgi_app__(self) -> Any:
        # Ray calls this in the replica, because the locks in an app cannot be sent there.
        from ray import serve

        replica = serve.get_replica_context().replica_id.unique_id
        return create_app(self._pipeline, self._limits, self._token, self._defaults, replica)


class ClusterError(RuntimeError):
    """The cluster cannot run the app."""


def deploy(model: ModelOptions, limits: Limits, token: bytes | None, options: RayOptions) -> None:
    """Deploy the app in the cluster, and return once all replicas answer.

    Raises:
        ClusterError: Ray Serve or a replica could not be started; the message has the reason.
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
        # If its queue is full, the app answers a request with an error text. So Ray must pass such requests on to it.
        max_ongoing_requests=2 * limits.max_queue + limits.max_requests,
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        max_constructor_retry_count=1,
        # The app logs a line about each request. Ray's line would have the URL, in which a client might put a text.
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
    """Return the last line of the traceback that a replica has left."""
    application = serve.status().applications.get(name)
    messages = [deployment.message for deployment in application.deployments.values()] if application else []
    lines = "\n".join(messages).splitlines()
    reasons = [line.strip() for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return reasons[-1] if reasons else None


def serve_until_stopped(name: str) -> None:
    """Wait for SIGTERM or SIGINT, then remove the app, as soon as its requests have been answered."""
    from ray import serve

    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stopped.wait()
        serve.delete(name)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
