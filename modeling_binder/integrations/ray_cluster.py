"""Connect to a Ray cluster."""

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
    """Connect to a cluster, or start Ray on this machine, and disconnect at the end.

    If this process is connected to a cluster already, the existing connection is used and kept.

    Args:
        address: `host:6379`, `ray://host:10001`, or "auto" for a cluster on this machine. Defaults to the environment
            variable RAY_ADDRESS. If it is not set, Ray is started on this machine, and stopped at the end.
        log_to_driver: print the output of the actors in this process.

    Raises:
        ConnectionError: there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    given = address or os.environ.get("RAY_ADDRESS")
    try:
        if given:
            # With "auto", Ray uses the last cluster of this machine, even if the cluster has ended. So test it first.
            _probe(get_ray_address_from_environment("auto", None) if given == "auto" else given)
        # A new cluster is used only by this process, so it needs no dashboard.
        dashboard = None if given else False
        # "local" starts a new cluster. With None, Ray would join a cluster that another program has started here.
        ray.init(given or "local", include_dashboard=dashboard, log_to_driver=log_to_driver, logging_level="warning")
    except (OSError, ValueError, RuntimeError) as error:
        reason = one_line(error)
        raise ConnectionError(
            f"cannot connect to a Ray cluster at {given!r}: {reason:.200}. Start one with `ray start --head`, or pass "
            "no address and unset RAY_ADDRESS to start Ray on this machine."
            if given
            else f"cannot start Ray on this machine: {reason:.200}."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _probe(address: str | None) -> None:
    """Raise `OSError` if nothing listens at an address. Ray itself would try to connect for minutes."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        with socket.create_connection((host, int(port)), _PROBE_SECONDS):
            pass
