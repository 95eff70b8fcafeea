"""What every contender can do. Runs in the peers' environments too: the standard library alone is imported here."""

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIXED_TYPES = 5  # of those whose types are fixed when they are trained; what tables show
PASSES = "forward and backward"  # part of the floor's training step: the text encoder's own


@dataclass(frozen=True)
class Settings:
    """What all contenders of a run share.

    Attributes:
        encoder: the encoder that floor and peers are built on: an id or a folder.
        model: our checkpoint.
        batch_size: texts or windows that are read at once.
        train_batch_size: texts in a training step.
        max_length, stride: tokens in a window, and tokens that windows share: those of our checkpoint.
        threads: threads that computing may use.
        scratch: an empty folder for what is written on the way.
        held_out: documents that nothing is timed on, for the export that measures what it loses; None: there are none.
    """

    encoder: str
    model: str
    batch_size: int
    train_batch_size: int
    max_length: int
    stride: int
    threads: int
    scratch: str
    held_out: str | None = None


@dataclass
class Job:
    """Texts and types made ready: `run` takes nothing else."""

    texts: Sequence[str]
    types: dict[str, str]
    level: float = 0.0  # see Contender.untrained
    made: Any = None


class Contender(ABC):
    """One way to find entities; lives in a process of its own.

    Args:
        settings: of the run.
        options: what tells contenders of one class apart.
    """

    libraries: tuple[str, ...] = ("torch", "transformers")  # whose versions the results tell
    untrained = False  # its head is random: a level, in logits, is sought at which it finds as many as the gold data

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.options = options

    @abstractmethod
    def import_libraries(self) -> None:
        """Import all that is needed: the first part of a cold start."""

    def build(self, folder: Path) -> str | None:  # noqa: B027 (most have nothing to build)
        """Make the model that is to be measured; it is loaded in other processes. What to note of it, if anything."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Load the model that `build` left: the second part of a cold start."""

    def prepare(self, job: Job) -> None:  # noqa: B027
        """What its users do once and not for each call (vectors of labels): not timed."""

    @abstractmethod
    def run(self, job: Job) -> int:
        """The timed part: texts in, entities out; returns how many."""

    def level(self, job: Job, wanted: int, seconds: float) -> float:
        """Where an untrained head finds about `wanted` entities; sought for at most about `seconds`.

        Scores of an untrained head are near no threshold in particular, and decoding has to pay for what is found.
        """

        def count(level: float) -> int:
            job.level = level
            return self.run(job)

        return calibrate(count, wanted, seconds)

    def characters_read(self, text: str, types: dict[str, str]) -> int:
        """How much of a text it reads before it cuts the rest off in silence."""
        return len(text)

    def training_steps(self, documents: Sequence[dict[str, Any]], types: dict[str, str], steps: int) -> dict[str, Any]:
        """Train on documents (of the data contract) and return seconds of each step, by what was timed.

        Raises:
            NotImplementedError: there is nothing to train, and why.
        """
        raise NotImplementedError("it is not trained: training does not differ from its fp32 form.")


def calibrate(count: Callable[[float], int], wanted: int, seconds: float) -> float:
    """The level, in logits, at which about as many entities are found as wanted, by halving.

    Args:
        count: entities found at a level; falls with it.
        wanted: entities that there are.
        seconds: after this long the best level so far is taken.
    """
    low, high = -20.0, 20.0
    began, best = time.monotonic(), (math.inf, high)
    while high - low > 1e-3 and time.monotonic() - began < seconds:
        level = (low + high) / 2
        found = count(level)
        best = min(best, (abs(found - wanted), level))
        if abs(found - wanted) <= 0.1 * wanted:
            break
        low, high = (level, high) if found > wanted else (low, level)
    return best[1]


def sigmoid(level: float) -> float:
    return 1 / (1 + math.exp(-level))


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def words_and_mentions(document: dict[str, Any]) -> tuple[list[str], list[tuple[int, int, str]]]:
    """A document as words, and its mentions as first word, last word, label; mentions inside words are left out."""
    spans = [match.span() for match in re.finditer(r"\w+|[^\w\s]", document["text"])]
    starts = {start: index for index, (start, _) in enumerate(spans)}
    ends = {end: index for index, (_, end) in enumerate(spans)}
    mentions = [
        (starts[entity["start"]], ends[entity["end"]], entity["label"])
        for entity in document["entities"]
        if entity["start"] in starts and entity["end"] in ends
    ]
    return [document["text"][start:end] for start, end in spans], mentions


def step_timer() -> Any:
    """A callback of transformers' Trainer whose `seconds` hold how long each optimizer step took, data not counted."""
    from transformers import TrainerCallback

    class StepTimer(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.began)

    return StepTimer()


def trainer_arguments(settings: Settings, steps: int) -> dict[str, Any]:
    """Arguments of transformers' TrainingArguments: on this processor, nothing saved or reported."""
    return {
        "output_dir": settings.scratch,
        "max_steps": steps,
        "per_device_train_batch_size": settings.train_batch_size,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": steps,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
    }
