"""The connection to a Ray cluster."""

import contextlib
import os
import socket
from collections.abc import Iterator

import ray
from ray._private.services import get_ray_address_from_environment

from ..loading import one_line

_PROBE_SECONDS = 5.0


@contextlib.contextmanager
def connected(address: str | None = None, log_to_driver: bool = True) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine, and disconnect at the end. A connection that exists is kept.

    Args:
        address: `host:6379`, `ray://host:10001`, or "auto" for a cluster on this machine. None is the cluster that the
            environment variable RAY_ADDRESS names, or else a new one on this machine, which ends with the connection.
        log_to_driver: whether the output of the actors is printed here.

    Raises:
        ConnectionError: there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    given = address or os.environ.get("RAY_ADDRESS")
    try:
        if given:
            # Ray remembers the last cluster of a machine, also if it has ended.
            _probe(get_ray_address_from_environment("auto", None) if given == "auto" else given)
        # A cluster of this process alone needs no dashboard.
        dashboard = None if given else False
        # Without an address, Ray would join a cluster of this machine that another program has started.
        ray.init(given or "local", include_dashboard=dashboard, log_to_driver=log_to_driver, logging_level="warning")
    except (OSError, ValueError, RuntimeError) as error:
        reason = one_line(error)
        raise ConnectionError(
            f"cannot connect to a Ray cluster at {given!r}: {reason:.200}. Start one with `ray start --head`, or leave "
            "the address out to start Ray on this machine."
            if given
            else f"cannot start Ray on this machine: {reason:.200}."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _probe(address: str | None) -> None:
    """Raise OSError if nothing listens at an address: Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        with socket.create_connection((host, int(port)), _PROBE_SECONDS):
            pass
