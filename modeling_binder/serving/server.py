"""The server on one machine: the app under uvicorn."""

import copy
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import LOGGING_CONFIG

# Load balancers use idle connections again for 60 seconds. If the server closes one earlier, the next request is lost.
KEEP_ALIVE_SECONDS = 75


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address and does not listen yet. Port 0 stands for a free port.

    Raises:
        OSError: the address cannot be used; the message names it.
    """
    found = None
    try:
        if not 0 <= port < 2**16:  # the system would cut off the upper bits
            raise OSError("a port is a number from 0 to 65535")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        if found is not None:
            found.close()
        raise OSError(f"cannot serve at {host}, port {port}: {error}. Name another address: --host, --port.") from None
    return found


def serve(app: FastAPI, bound: socket.socket) -> None:
    """Serve an app until SIGTERM or SIGINT arrives, and then answer the requests that have been read.

    Args:
        app: see `create_app`.
        bound: see `bind`.
    """
    config = uvicorn.Config(app, log_config=log_config(), access_log=False, timeout_keep_alive=KEEP_ALIVE_SECONDS)
    uvicorn.Server(config).run([bound])


def log_config() -> dict[str, Any]:
    """Return uvicorn's configuration of logs with the app's own lines.

    uvicorn's access log is off: it writes whole addresses, in which a client might put a text.
    """
    config = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"]["modeling_binder.serving"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config
