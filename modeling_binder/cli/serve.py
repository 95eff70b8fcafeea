"""Serve a model over HTTP. Requests and responses have the format of Hugging Face Inference Endpoints.

  binder-ner serve user/name
  curl -s localhost:8000/find -d '{"inputs": "The IL-2 gene.", "parameters": {"entity_types": ["gene"]}}'
  BINDER_NER_TOKEN=$(openssl rand -hex 32) binder-ner serve user/name --host 0.0.0.0
  binder-ner serve user/name --ray --replicas 2
  binder-ner serve user/name --ray 10.0.0.1:6379 --autoscaling '{"min_replicas": 1, "max_replicas": 8}'

POST /find accepts {"inputs": text or list of texts, "parameters": {...}}. The parameters are the arguments of a call of
the pipeline. GET /health, /metrics (for Prometheus) and /docs (description of the API) have no parameters. The server
batches requests that arrive at the same time. After SIGTERM or Ctrl-C, it answers the requests that it has received,
and ends.

The bearer token is read from the environment variable BINDER_NER_TOKEN or from a file. Without a token, everybody who
can connect to the address may send requests.
"""

import argparse
import ipaddress
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from . import CommandError
from .options import add_loading_arguments, add_type_arguments, call_options, given, load_pipeline, loading_options

if TYPE_CHECKING:
    from ..serving.requests import Limits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder, or id on the Hub")
    add("--host", default="127.0.0.1", help="address of the server; 0.0.0.0 for all networks (default: 127.0.0.1)")
    add("--port", type=int, default=8000, help="port of the server; 0 for a free port (default: 8000)")
    add("--token-file", metavar="FILE", help="file with the bearer token (default: the variable BINDER_NER_TOKEN)")

    add_type_arguments(parser.add_argument_group("entities", "Defaults for requests that lack these parameters."))
    model = parser.add_argument_group("model")
    add_loading_arguments(model)
    model.add_argument("--threads", metavar="N", type=int, help="threads of the model on a CPU (default: all cores)")

    limits = parser.add_argument_group("limits")
    add = limits.add_argument
    add("--max-characters", metavar="N", type=int, help="characters in a request (default: 100000)")
    add("--max-texts", metavar="N", type=int, help="texts in a request (default: 1000)")
    add("--max-types", metavar="N", type=int, help="entity types in a request (default: 1000)")
    add("--max-queue", metavar="N", type=int, help="requests that may wait; more get status 429 (default: 256)")
    add("--max-requests", metavar="N", type=int, help="requests in one call of the pipeline (default: 64)")

    ray = parser.add_argument_group("Ray", "The limits above hold for each replica separately.")
    add = ray.add_argument
    add("--ray", metavar="ADDRESS", nargs="?", const="", help="run on a Ray cluster (default: on this machine)")
    add("--replicas", metavar="N", type=int, default=1, help="processes with the model (default: 1)")
    add("--cpus", metavar="N", type=float, default=1, help="cores of a replica (default: 1)")
    add("--gpus", metavar="N", type=float, help="GPUs of a replica (default: 1 if the cluster has GPUs)")
    add("--autoscaling", metavar="JSON", help="fields of Ray Serve's AutoscalingConfig, instead of --replicas")


def run(arguments: argparse.Namespace) -> int:
    """Serve a model until the process is stopped."""
    try:
        from ..serving.tokens import read_token

        if arguments.ray is not None:
            import ray  # noqa: F401
    except ImportError as error:
        extra = "serve" if arguments.ray is None else "ray"
        raise CommandError(f'{error}. The server needs further packages: pip install "binder-ner[{extra}]".') from None
    token = read_token(arguments.token_file)
    serve = _serve_here if arguments.ray is None else _serve_on_ray
    serve(arguments, _limits(arguments), token)
    return 0


def _limits(arguments: argparse.Namespace) -> "Limits":
    from ..serving.requests import Limits

    names = ("max_characters", "max_texts", "max_types", "max_queue", "max_requests")
    return Limits(**given(arguments, names))


def _serve_here(arguments: argparse.Namespace, limits: "Limits", token: bytes | None) -> None:
    import torch

    from ..serving.app import create_app
    from ..serving.model import warm_up
    from ..serving.server import bind, serve

    defaults = call_options(arguments)
    with bind(arguments.host, arguments.port) as bound:
        if arguments.threads is not None:
            torch.set_num_threads(arguments.threads)
        pipeline = load_pipeline(arguments)
        warm_up(pipeline, defaults)
        app = create_app(pipeline, limits, token, defaults)
        bound.listen()  # clients that connect from now on wait until the server starts
        _announce(arguments, bound.getsockname()[1], token is None)
        serve(app, bound)


def _serve_on_ray(arguments: argparse.Namespace, limits: "Limits", token: bytes | None) -> None:
    import ray

    from ..integrations.ray_cluster import connected
    from ..serving.model import ModelOptions
    from ..serving.ray_serve import ClusterError, RayOptions, deploy, serve_until_stopped
    from ..serving.server import bind

    if arguments.threads is not None:
        raise CommandError("--threads cannot be combined with --ray: a replica has as many threads as --cpus.")
    model = ModelOptions(arguments.model, loading_options(arguments), call_options(arguments))
    port = arguments.port
    # If no cluster is given, `connected` starts Ray on this machine.
    if not (arguments.ray or "RAY_ADDRESS" in os.environ or ray.is_initialized()):
        with bind(arguments.host, port) as bound:  # raises if the port is in use, and finds a free port for port 0
            port = bound.getsockname()[1]
    elif port == 0:
        raise CommandError("--port 0 does not work on a Ray cluster: choose a port that is free on its nodes.")
    options = RayOptions(
        host=arguments.host,
        port=port,
        replicas=arguments.replicas,
        cpus=arguments.cpus,
        gpus=arguments.gpus,
        autoscaling=_autoscaling(arguments.autoscaling),
    )
    try:
        with connected(arguments.ray or None, log_to_driver=False):
            deploy(model, limits, token, options)
            _announce(arguments, port, token is None)
            serve_until_stopped(options.name)
    except ClusterError as error:
        raise CommandError(str(error)) from None


def _autoscaling(value: str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        found = json.loads(value)
    except json.JSONDecodeError as error:
        raise CommandError(f"--autoscaling must be JSON: {error}.") from None
    if not isinstance(found, dict):
        raise CommandError(f"--autoscaling must be an object such as '{{\"max_replicas\": 4}}', got {value:.80}.")
    return found


def _announce(arguments: argparse.Namespace, port: int, is_open: bool) -> None:
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"{arguments.model} answers at http://{host}:{port}/find, see http://{host}:{port}/docs", flush=True)
    if is_open and not _is_local(arguments.host):
        print(
            f"binder-ner serve: warning: everybody who can connect to {arguments.host} may send requests. Set "
            "BINDER_NER_TOKEN to require a token.",
            file=sys.stderr,
        )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
