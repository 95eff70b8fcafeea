"""Run the process of a contender: read commands as JSON lines, run them, and write each answer as a JSON line.

    python -m training.benchmarks.worker NAME SETTINGS

`training.benchmarks.speed` starts this process. NAME is a contender, for example another package for named-entity
recognition. The process runs in the environment of this package. So it imports only the standard library and the
libraries of the contender.
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

# Calibration finds the minimum score with which an untrained head finds as many entities as are annotated, see
# `Contender`.
MIN_CALIBRATION_SECONDS = 30.0  # lower bound of the time limit for calibration
MAX_CALIBRATION_PAIRS = 400  # upper bound of (number of sentences) x (number of types) in calibration


class Worker:
    """Runs commands for a contender. A command contains the name of a method of this class, and its arguments."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.settings = settings
        self.contender = make(name, settings)
        self.jobs: dict[str, Job] = {}

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run a command and return its answer. If the command fails, return {"error": reason}."""
        try:
            answer: dict[str, Any] = getattr(self, command.pop("do"))(**command)
        except Exception as error:
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"[-600:]}
        return answer

    def imports(self) -> dict[str, Any]:
        """Import the libraries of the contender. Return the duration and the versions of the libraries."""
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
        """Build the model of the contender in a folder. Return a note for the results."""
        return {"note": self.contender.build(Path(folder))}

    def load(self, folder: str) -> dict[str, Any]:
        """Load the model. Return the duration, and the memory of the process afterwards."""
        began = time.perf_counter()
        self.contender.load(Path(folder))
        seconds = time.perf_counter() - began
        release_memory()
        return {"seconds": seconds, "memory": resident()}

    def first(self, text: str, types: dict[str, str]) -> dict[str, Any]:
        """Return the time until the first result, including all computations that run only once."""
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
        """Prepare a job that takes at most about `seconds`. A slow contender gets fewer texts.

        Args:
            cell: name of the job.
            texts: the texts.
            gold: number of annotated entities in each text.
            types: name -> description.
            sample: text -> number of annotated entities, to calibrate an untrained head.
            seconds: approximate maximum time of the job.

        Returns:
            Four counts for the job: texts, characters, characters that the contender processes (it may truncate long
            texts), and annotated entities.
        """
        level = self._level(sample, types, max(MIN_CALIBRATION_SECONDS, 3 * seconds))
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
        # Before calibration, an untrained head finds nearly all spans for all types. This is slow. So use fewer
        # sentences if there are more types.
        few = dict(itertools.islice(sample.items(), max(1, MAX_CALIBRATION_PAIRS // len(types))))
        job = Job(list(few), types)
        self.contender.prepare(job)
        return self.contender.level(job, max(1, sum(few.values())), seconds)

    def _affordable(self, texts: list[str], types: dict[str, str], level: float, seconds: float) -> int:
        """Return the number of texts that the contender can process in the given time. Try increasing numbers."""
        count = 1
        while True:
            job = Job([texts[index] for index in spread(texts, count)], types, level)
            self.contender.prepare(job)
            taken = min(self._seconds(job) for _ in range(2))  # the first measurement may include a warm-up
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
        """Run a prepared job once. Return the duration and the number of entities."""
        job = self.jobs[cell]
        self.contender.prepare(job)
        began = time.perf_counter()
        entities = self.contender.run(job)
        return {"seconds": time.perf_counter() - began, "entities": entities}

    def run_each(self, cell: str) -> dict[str, Any]:
        """Run a prepared job with one text at a time. Return the duration of each text."""
        found = self.jobs[cell]
        jobs = [Job([text], found.types, found.level) for text in found.texts]
        for job in jobs:
            self.contender.prepare(job)
        return {"seconds": [self._seconds(job) for job in jobs]}

    def encode_types(self, types: dict[str, str]) -> dict[str, Any]:
        """Encode new types. Return the duration."""
        began = time.perf_counter()
        self.contender.encode_types(types)
        return {"seconds": time.perf_counter() - began}

    def measure_memory(self, cell: str) -> dict[str, Any]:
        """Run a prepared job once. Return the peak memory of the process."""
        job = self.jobs[cell]
        self.contender.prepare(job)
        release_memory()
        reset_peak()
        self.contender.run(job)
        return {"peak": peak()}

    def train(self, documents: list[dict[str, Any]], types: dict[str, str], steps: int) -> dict[str, Any]:
        """Return the peak memory and the times of training steps, see `Contender.training_steps`.

        The first step is not counted, because it also allocates memory.
        """
        release_memory()
        reset_peak()
        timed = self.contender.training_steps(documents, types, steps + 1)
        return {**{name: seconds[1:] for name, seconds in timed.items()}, "peak": peak()}


def spread(texts: list[str], count: int) -> list[int]:
    """Return the ascending indices of `count` texts with the same distribution of lengths as all texts."""
    if count >= len(texts):
        return list(range(len(texts)))
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    return sorted(by_length[int((rank + 0.5) * len(texts) / count)] for rank in range(count))


def release_memory() -> None:
    """Release unused memory of the allocator to the operating system (only with glibc)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def reset_peak() -> None:
    """Reset the peak memory of the process (only on Linux)."""
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
    """Return the peak resident memory in bytes, or None if it is unknown.

    On Linux, this is the peak since `reset_peak`. On other systems, it is the peak since the start of the process.
    """
    found = _status("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident() -> int | None:
    """Return the resident memory in bytes, or None if it is unknown."""
    return _status("VmRSS") or peak()


def main() -> None:
    name, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    # Libraries may print to the standard output, which would corrupt the answers. So write answers to a copy of the
    # standard output, and redirect the standard output to the standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(name, settings)
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
