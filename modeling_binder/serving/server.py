"""Run the app with uvicorn, on one machine."""

import copy
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import LOGGING_CONFIG

# Load balancers reuse an idle connection for up to 60 seconds. The server must keep the connection longer. Otherwise a
# request could arrive on a connection that the server has just closed.
KEEP_ALIVE_SECONDS = 75


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address and does not listen yet. Port 0 means any free port.

    Raises:
        OSError: the address cannot be used.
    """
    found = None
    try:
        if not 0 <= port < 2**16:  # some systems would silently use another port
            raise OSError("a port is a number from 0 to 65535")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        if found is not None:
            found.close()
        raise OSError(f"cannot serve at {host}, port {port}: {error}. Choose another --host or --port.") from None
    return found


def serve(app: FastAPI, bound: socket.socket) -> None:
    """Serve an app until SIGTERM or SIGINT arrives. Then answer the requests that have been received, and stop.

    Args:
        app: see `create_app`.
        bound: a socket from `bind`.
    """
    config = uvicorn.Config(app, log_config=log_config(), access_log=False, timeout_keep_alive=KEEP_ALIVE_SECONDS)
    uvicorn.Server(config).run([bound])


def log_config() -> dict[str, Any]:
    """Return uvicorn's logging configuration, extended by the logger of the app.

    uvicorn's access log is off, because it contains URLs, and a URL may contain a text.
    """
    config = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"]["modeling_binder.serving"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config
