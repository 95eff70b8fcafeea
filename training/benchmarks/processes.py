"""The harness's side of a contender's process: commands out, answers in, a limit on the time that an answer takes."""

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


class Failed(RuntimeError):
    """A contender could not do what was asked of it; the message is the reason that the results give."""


class Process:
    """A contender in a process and an environment of its own.

    Args:
        name: one of `CONTENDERS`.
        settings: of the run.
        folder: where `build` puts the contender's model.
        log: file for what the process prints.
        seconds: the longest that an answer may take.

    Raises:
        Failed: its environment could not be installed.
    """

    def __init__(self, name: str, settings: Settings, folder: Path, log: Path, seconds: float) -> None:
        self.name, self.folder, self.log, self.limit = name, folder, log, seconds
        peer = CONTENDERS[name].environment
        try:
            python = python_of(peer) if peer else sys.executable
        except RuntimeError as error:
            raise Failed(str(error)) from None
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

        Raises:
            Failed: the contender reported an error, died, or took too long; in the last two cases it is gone.
        """
        if self._process.poll() is not None:
            raise Failed(f"{self.name} ended with exit status {self._process.returncode}: {self._last_words()}")
        commands, answers = self._pipes()
        try:
            commands.write(json.dumps({"do": do, **arguments}) + "\n")
            commands.flush()
        except BrokenPipeError:
            raise self._gone() from None
        with selectors.DefaultSelector() as ready:
            ready.register(answers, selectors.EVENT_READ)
            if not ready.select(self.limit):
                self._process.kill()
                self._process.wait()
                raise Failed(f"no answer to {do!r} within {self.limit:.0f} seconds")
        line = answers.readline()
        if not line:
            raise self._gone()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def _gone(self) -> Failed:
        status = self._process.wait()
        return Failed(f"{self.name} ended with exit status {status}: {self._last_words()}")

    def _last_words(self) -> str:
        return " ".join(self.log.read_text(encoding="utf-8", errors="replace").split())[-300:]

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        return self._process.stdin, self._process.stdout

    def since_start(self) -> float:
        """Seconds since the process was started."""
        return time.perf_counter() - self.started

    def close(self) -> None:
        """End the process: it ends by itself when nobody asks any more."""
        for pipe in self._pipes():
            pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment(threads: int) -> dict[str, str]:
    """What the processes see: so many threads, no GPU, no network; the allocator's settings are the caller's."""
    count = str(threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(names, count),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "PYTHONWARNINGS": "ignore",
    }
