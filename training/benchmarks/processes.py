"""Start the process of a contender, send commands to it, and wait for its answers, with a time limit."""

import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from training.pages import ROOT

from .contenders import CONTENDERS
from .contenders.base import Settings
from .environments import python_of


class ContenderError(RuntimeError):
    """A contender failed. The results contain the message as the reason."""


class Process:
    """A contender in a separate process and environment.

    Args:
        name: one of `CONTENDERS`.
        settings: settings of the benchmark.
        folder: folder for the model of the contender. The command "build" makes it.
        log: file for the output of the process.
        seconds: time limit for each answer.

    Raises:
        ContenderError: the environment could not be installed.
    """

    def __init__(self, name: str, settings: Settings, folder: Path, log: Path, seconds: float) -> None:
        self.name, self.folder, self.log, self.limit = name, folder, log, seconds
        peer = CONTENDERS[name].environment
        try:
            python = python_of(peer) if peer else sys.executable
        except RuntimeError as error:
            raise ContenderError(str(error)) from None
        log.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        self.started = time.perf_counter()
        with log.open("a", encoding="utf-8") as printed:
            self._process = subprocess.Popen(
                [python, "-m", "training.benchmarks.worker", name, json.dumps(asdict(settings))],
                cwd=ROOT,
                env=environment(settings.threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                text=True,
                encoding="utf-8",
            )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Args:
            do: name of a method of `training.benchmarks.worker.Worker`.
            arguments: arguments of the method.

        Raises:
            ContenderError: the contender reported an error, its process ended, or it was killed after the time limit.
        """
        if self._process.poll() is not None:
            raise ContenderError(f"{self.name} ended with exit status {self._process.returncode}: {self._end_of_log()}")
        commands, answers = self._pipes()
        try:
            commands.write(json.dumps({"do": do, **arguments}) + "\n")
            commands.flush()
        except BrokenPipeError:
            raise self._died() from None
        with selectors.DefaultSelector() as ready:
            ready.register(answers, selectors.EVENT_READ)
            if not ready.select(self.limit):
                self._process.kill()
                self._process.wait()
                raise ContenderError(f"no answer to {do!r} within {self.limit:.0f} seconds")
        line = answers.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def _died(self) -> ContenderError:
        status = self._process.wait()
        return ContenderError(f"{self.name} ended with exit status {status}: {self._end_of_log()}")

    def _end_of_log(self) -> str:
        return " ".join(self.log.read_text(encoding="utf-8", errors="replace").split())[-300:]

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        return self._process.stdin, self._process.stdout

    def since_start(self) -> float:
        """Return the seconds since the process was started."""
        return time.perf_counter() - self.started

    def close(self) -> None:
        """End the process by closing its input. If it does not end within ten seconds, kill it."""
        for pipe in self._pipes():
            pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment(threads: int) -> dict[str, str]:
    """Return the environment variables of a contender: a number of threads, and no GPU and network access.

    The policy for waiting threads is the default, because one contender runs at a time. With OMP_WAIT_POLICY=PASSIVE,
    threads sleep between operations, which slows single sentences down.
    """
    count = str(threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    return {
        **inherited,
        **dict.fromkeys(names, count),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "PYTHONWARNINGS": "ignore",
    }
