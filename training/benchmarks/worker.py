"""The process of one contender: commands as JSON lines in, an answer a line out.

    python -m training.benchmarks.worker NAME SETTINGS

Started by `training.benchmarks.speed`, in the contender's own environment: imports nothing but the standard library
and what the contender itself imports.
"""

import ctypes
import itertools
import json
import os
import platform
import sys
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .contenders import make
from .contenders.base import Job, Settings

CALIBRATION = 30.0  # seconds that finding a level may take at least
MOST_PAIRS = 400  # sentences times types that a level is sought on


class Worker:
    """Carries out the commands of the harness for one contender; a method a command."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.settings = settings
        self.contender = make(name, settings)
        self.jobs: dict[str, Job] = {}

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what a command says; {"error": the reason} where that fails: the harness goes on with the others."""
        try:
            answer: dict[str, Any] = getattr(self, command.pop("do"))(**command)
        except Exception as error:
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"[-600:]}
        return answer

    def imports(self) -> dict[str, Any]:
        began = time.perf_counter()
        self.contender.import_libraries()
        seconds = time.perf_counter() - began
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(self.settings.threads)
        return {"seconds": seconds, "versions": self._versions()}

    def _versions(self) -> dict[str, str]:
        found = {"python": platform.python_version()}
        for library in self.contender.libraries:
            try:
                found[library] = version(library)
            except PackageNotFoundError:
                continue
        return found

    def build(self, folder: str) -> dict[str, Any]:
        return {"note": self.contender.build(Path(folder))}

    def load(self, folder: str) -> dict[str, Any]:
        began = time.perf_counter()
        self.contender.load(Path(folder))
        seconds = time.perf_counter() - began
        give_back_memory()
        return {"seconds": seconds, "memory": resident()}

    def first(self, text: str, types: dict[str, str]) -> dict[str, Any]:
        """The first result of a process: everything counts, also what is made once."""
        began = time.perf_counter()
        job = Job([text], types)
        self.contender.prepare(job)
        self.contender.run(job)
        return {"seconds": time.perf_counter() - began}

    def prepare(
        self,
        cell: str,
        texts: list[str],
        gold: list[int],
        types: dict[str, str],
        sample: dict[str, int],
        seconds: float,
    ) -> dict[str, Any]:
        """Make a job ready that takes no longer than `seconds`: of a slow contender, on fewer of the texts.

        Args:
            gold: how many entities each text has.
            sample: texts, and how many entities each has, on which an untrained head is calibrated.
        """
        level = self._level(sample, types, max(CALIBRATION, 3 * seconds))
        count = self._affordable(texts, types, level, seconds)
        chosen = spread(texts, count)
        job = self.jobs[cell] = Job([texts[index] for index in chosen], types, level)
        self.contender.prepare(job)
        return {
            "texts": len(chosen),
            "characters": sum(map(len, job.texts)),
            "characters_read": sum(self.contender.characters_read(text, types) for text in job.texts),
            "gold": sum(gold[index] for index in chosen),
        }

    def _level(self, sample: dict[str, int], types: dict[str, str], seconds: float) -> float:
        if not self.contender.untrained:
            return 0.0
        # A random head has to find everything first: with many types, of few sentences.
        few = dict(itertools.islice(sample.items(), max(1, MOST_PAIRS // len(types))))
        job = Job(list(few), types)
        self.contender.prepare(job)
        return self.contender.level(job, max(1, sum(few.values())), seconds)

    def _affordable(self, texts: list[str], types: dict[str, str], level: float, seconds: float) -> int:
        """How many of the texts can be read in that time: ever more are tried, until the answer is no guess."""
        count = 1
        while True:
            job = Job([texts[index] for index in spread(texts, count)], types, level)
            self.contender.prepare(job)
            taken = min(self._seconds(job) for _ in range(2))  # the first may warm up, either may be disturbed
            possible = int(count * seconds / taken)
            if possible >= len(texts):
                return len(texts)
            if taken > seconds / 4:
                return max(1, possible)
            count = min(4 * count, len(texts))

    def _seconds(self, job: Job) -> float:
        began = time.perf_counter()
        self.contender.run(job)
        return time.perf_counter() - began

    def run(self, cell: str) -> dict[str, Any]:
        """One round: seconds and entities."""
        began = time.perf_counter()
        entities = self.contender.run(self.jobs[cell])
        return {"seconds": time.perf_counter() - began, "entities": entities}

    def weigh(self, cell: str) -> dict[str, Any]:
        """A round that is not timed: the largest memory of the process while it runs."""
        give_back_memory()
        forget_peak()
        self.contender.run(self.jobs[cell])
        return {"peak": peak()}

    def train(self, documents: list[dict[str, Any]], types: dict[str, str], steps: int) -> dict[str, Any]:
        """Seconds of training steps; the first, which allocates, is left out."""
        give_back_memory()
        forget_peak()
        timed = self.contender.training_steps(documents, types, steps + 1)
        return {**{name: seconds[1:] for name, seconds in timed.items()}, "peak": peak()}


def spread(texts: list[str], count: int) -> list[int]:
    """Indices of `count` of the texts that are as long and as short as all of them, in the texts' own order."""
    if count >= len(texts):
        return list(range(len(texts)))
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    return sorted(by_length[int((rank + 0.5) * len(texts) / count)] for rank in range(count))


def give_back_memory() -> None:
    """Return to the system what the allocator keeps of earlier rounds, where it can (glibc)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def forget_peak() -> None:
    """Let the largest memory count from here on, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def _status(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def peak() -> int | None:
    """Largest resident memory since `forget_peak`, or else of the process, in bytes; None where nobody tells."""
    found = _status("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident() -> int | None:
    """Resident memory, in bytes."""
    return _status("VmRSS") or peak()


def main() -> None:
    name, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    # Answers have a channel of their own; what libraries print goes where errors go.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(name, settings)
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
