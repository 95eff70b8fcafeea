"""Fixtures for tests of the server: a server with a tiny model in a thread of this process, and its client."""

import contextlib
import json
import re
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import pytest
import uvicorn

from modeling_binder.serving.app import create_app
from modeling_binder.serving.requests import Limits
from modeling_binder.serving.server import bind
from tests.tiny import build_pipeline


@dataclass
class Client:
    """A client that sends requests to a server, and returns the status and the content of the response."""

    url: str
    token: str | None = None

    def send(self, path, data=None, headers=None):
        """Send a GET request, or a POST request with `data`. Values other than bytes are encoded as JSON."""
        body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
        headers = dict(headers or {})
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), error.headers

    def find(self, inputs, **parameters):
        status, content, _ = self.send("/find", {"inputs": inputs, "parameters": parameters})
        return status, json.loads(content)

    def metrics(self):
        """Return the metrics as a dictionary of numbers. The label of the replica is removed from their names."""
        lines = self.send("/metrics")[1].splitlines()
        pairs = (line.rpartition(" ") for line in lines if line[0] != "#")
        return {re.sub(r'{replica="\w+"}|replica="\w+",', "", name): float(value) for name, _, value in pairs}


@contextlib.contextmanager
def serving(pipeline, limits=None, token=None):
    """Serve a pipeline at a free port, and yield a client."""
    app = create_app(pipeline, limits or Limits(), token)
    bound = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    # The socket listens before the server runs. So the first request waits for the server, and does not fail.
    bound.listen()
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        yield Client(f"http://127.0.0.1:{bound.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="package")
def pipe():
    return build_pipeline()


@pytest.fixture(scope="package")
def client(pipe):
    with serving(pipe) as found:
        yield found


@pytest.fixture(scope="package")
def serve():
    """Return `serving`, for tests that need other limits or another pipeline."""
    return serving


@pytest.fixture
def client_of():
    """Return a function that returns a client for a port of this machine."""
    return lambda port, token=None: Client(f"http://127.0.0.1:{port}", token)


@pytest.fixture
def wait_until():
    """Return a function that waits until a condition is true. It has no time limit."""

    def wait(condition):
        while not condition():
            time.sleep(0.01)

    return wait
