"""The servers that `training.benchmarks.serving` measures, and the clients that send requests to them."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.pages import ROOT

from .contenders.base import Settings
from .environments import python_of
from .processes import environment

START_SECONDS = 600.0  # maximum time until a server answers its first request
Request = tuple[str, dict[str, str]]  # a text and entity types


@dataclass(frozen=True)
class Server:
    """A server to measure.

    Attributes:
        title: name in tables.
        note: explanation below the table.
        command: function that returns the command that starts the server at a port.
        path: route of the requests.
        body: function that returns the content of a request.
    """

    title: str
    note: str
    command: Callable[[Settings, Path, int], list[str]]
    path: str
    body: Callable[[Request], Any]


def _environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables of all measured processes.

    With OMP_WAIT_POLICY=PASSIVE, waiting threads sleep in all processes, so that the comparison is fair. By default,
    waiting threads spin in a process with one thread pool. A server has two thread pools, so its threads do not spin.
    On a busy machine, spinning makes a process several times slower.
    """
    variables = {**environment(settings.threads), "OMP_WAIT_POLICY": "PASSIVE", "RAY_USAGE_STATS_ENABLED": "0"}
    variables.pop("BINDER_NER_TOKEN", None)
    return variables


def _binder(settings: Settings, folder: Path, port: int) -> list[str]:
    arguments = [settings.model, "--port", str(port), "--threads", str(settings.threads)]
    return [sys.executable, "-m", "modeling_binder", "serve", *arguments]


def _binder_on_ray(settings: Settings, folder: Path, port: int) -> list[str]:
    arguments = [settings.model, "--port", str(port), "--ray", "--cpus", str(settings.threads)]
    return [sys.executable, "-m", "modeling_binder", "serve", *arguments]


def _gliner(settings: Settings, folder: Path, port: int) -> list[str]:
    """Build the model in the first call, as in the speed benchmark, and return the command."""
    python = python_of("gliner_serve")
    if not (folder / "model").exists():
        commands = [{"do": "imports"}, {"do": "build", "folder": str(folder)}]
        done = subprocess.run(
            [python, "-m", "training.benchmarks.worker", "gliner-bi", json.dumps(asdict(settings))],
            input="".join(json.dumps(command) + "\n" for command in commands),
            cwd=ROOT,
            env=_environment(settings),
            capture_output=True,
            text=True,
            check=False,
        )
        if not (folder / "model").exists():
            raise RuntimeError(
                f"the model of GLiNER was not built: {' '.join((done.stdout + done.stderr).split())[-300:]}"
            )
    options = {
        "model": folder / "model", "port": port, "device": "cpu", "dtype": "float32", "num-gpus-per-replica": 0,
        "num-cpus-per-replica": settings.threads, "tokenizer-threads": settings.threads, "default-threshold": 0.99,
        "ray-address": "local",
    }  # fmt: skip
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [python, "-m", "gliner.serve", *arguments, "--no-compile"]


def _inputs(request: Request) -> dict[str, Any]:
    return {"inputs": request[0], "parameters": {"entity_types": request[1]}}


SERVERS = {
    "binder": Server("binder-ner serve", "", _binder, "/find", _inputs),
    "binder-ray": Server("binder-ner serve --ray", "one replica with all threads", _binder_on_ray, "/find", _inputs),
    "gliner": Server(
        "gliner.serve",
        "GLiNER with two encoders, which have the size of the encoders of binder-ner; its head is untrained and finds "
        "nothing at the threshold of 0.99; one replica with all threads, without compilation, default values of other "
        "settings",
        _gliner,
        "/gliner",
        lambda request: {"text": request[0], "labels": list(request[1])},
    ),
}


class ServerError(RuntimeError):
    """A server could not be started, or did not answer."""


@contextlib.contextmanager
def running(name: str, settings: Settings, folder: Path) -> Iterator[int]:
    """Start a server, wait until it answers, yield its port, and finally end all its processes.

    Raises:
        ServerError: the server ended or did not answer. The message contains the end of its log.
    """
    server = SERVERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / "server.log"
    try:
        command = server.command(settings, folder, port)
    except RuntimeError as error:
        raise ServerError(str(error)) from None
    with log.open("w", encoding="utf-8") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=printed, env=_environment(settings))
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, ServerError):
                Client(name, port).send(("A first text.", {"thing": "A thing."}))
                break
            if process.poll() is not None or time.monotonic() > deadline:
                end = " ".join(log.read_text(encoding="utf-8", errors="replace").split())[-300:]
                raise ServerError(f"{server.title} does not answer: {end}")
            time.sleep(0.5)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class OneByOne:
    """The pipeline without a server, in a separate process with the environment variables of the servers."""

    def __init__(self, settings: Settings) -> None:
        command = [sys.executable, "-m", "training.benchmarks.one_by_one", settings.model, str(settings.threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(settings), text=True
        )

    def run(self, requests: Sequence[Request], seconds: float) -> list[float]:
        """Process texts one by one for some seconds, after a warm-up. Return the time of each text.

        Raises:
            RuntimeError: the process ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"requests": requests, "seconds": seconds}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the pipeline ended with exit status {self._process.wait()}")
        found: list[float] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()


class Client:
    """A client that sends all its requests to a server over a single connection."""

    def __init__(self, name: str, port: int) -> None:
        self._server = SERVERS[name]
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def send(self, request: Request) -> None:
        """Send a request and wait for the answer.

        Raises:
            ServerError: the answer is an error.
        """
        body = json.dumps(self._server.body(request))
        self._connection.request("POST", self._server.path, body, {"Content-Type": "application/json"})
        with self._connection.getresponse() as answer:
            content = answer.read()
        if answer.status != 200:
            raise ServerError(f"{self._server.title} answers {answer.status}: {content[:200].decode(errors='replace')}")


def keep_busy(senders: Sequence[Callable[[Request], Any]], requests: Sequence[Request], seconds: float) -> list[float]:
    """Let each sender send one request after the other for some seconds. Return the seconds until each answer.

    Args:
        senders: a function for each client. It sends a request and waits for the answer. Each sender runs in a separate
            thread, but a single sender runs in the thread of the caller.
        requests: of n senders, sender k sends the requests k, k + n, k + 2n, and so on. After the end of the list, it
            continues at the beginning.
        seconds: duration. After this time, no further requests are sent. The function still waits for the last answers.
    """
    times: list[float] = []
    failures: list[Exception] = []
    deadline = time.perf_counter() + seconds

    def work(index: int) -> None:
        try:
            while (began := time.perf_counter()) < deadline and not failures:
                senders[index % len(senders)](requests[index % len(requests)])
                times.append(time.perf_counter() - began)
                index += len(senders)
        except Exception as error:
            failures.append(error)

    if len(senders) == 1:
        work(0)
    else:
        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(senders))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return times


def load() -> list[float] | None:
    """Return the load of the machine, for the results."""
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None
