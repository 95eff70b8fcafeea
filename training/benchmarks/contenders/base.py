"""The base class of contenders. The environments of the peers import it too, so it uses only the standard library."""

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIXED_TYPES = 5  # number of types of contenders whose types are fixed in training; the tables show this number
PASSES = "forward and backward"  # the part of the floor's training step that the text encoder takes


@dataclass(frozen=True)
class Settings:
    """Settings that all contenders of a run share.

    Attributes:
        encoder: id or folder of the encoder of the floor and the peers.
        model: checkpoint of binder-ner.
        batch_size: texts or windows in a batch.
        train_batch_size: texts in a training step.
        max_length, stride: tokens in a window and tokens that windows share, as in the checkpoint.
        threads: number of threads.
        scratch: folder for temporary files.
        held_out: documents to measure the loss of an int8 export on; None to skip that. They are not used for timing.
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
    """Prepared texts and types: the input of `run`."""

    texts: Sequence[str]
    types: dict[str, str]
    level: float = 0.0  # see `Contender.untrained`
    made: Any = None


class Contender(ABC):
    """A way to find entities, in its own process.

    Args:
        settings: settings of the run.
        options: options of this contender; several contenders can share a class.

    Attributes:
        libraries: packages whose versions are recorded.
        untrained: the head has random weights. So that decoding takes as long as with a trained head, a level (in
            logits) is calibrated at which it finds as many entities as are annotated.
    """

    libraries: tuple[str, ...] = ("torch", "transformers")
    untrained = False

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.options = options

    @abstractmethod
    def import_libraries(self) -> None:
        """Import all libraries: the first part of a cold start."""

    def build(self, folder: Path) -> str | None:  # noqa: B027 (most have nothing to build)
        """Build the model in a folder, from which other processes load it; return a note for the results, or None."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Load the model that `build` wrote: the second part of a cold start."""

    def prepare(self, job: Job) -> None:  # noqa: B027
        """Do the work that users do only once, such as computing label embeddings; it is not timed."""

    @abstractmethod
    def run(self, job: Job) -> int:
        """Find the entities of a job and return their number; this is timed."""

    def level(self, job: Job, wanted: int, seconds: float) -> float:
        """Return the level at which an untrained head finds about `wanted` entities.

        Args:
            job: texts and types.
            wanted: number of entities to find.
            seconds: time limit, approximately.
        """

        def count(level: float) -> int:
            job.level = level
            return self.run(job)

        return calibrate(count, wanted, seconds)

    def characters_read(self, text: str, types: dict[str, str]) -> int:
        """Return the number of characters that are read before the rest of a text is truncated without a warning."""
        return len(text)

    def training_steps(self, documents: Sequence[dict[str, Any]], types: dict[str, str], steps: int) -> dict[str, Any]:
        """Train on documents, as dictionaries, and return the seconds of each step, by the part that was timed.

        Raises:
            NotImplementedError: the training of this contender is not measured.
        """
        raise NotImplementedError("training is measured in fp32 only.")


def calibrate(count: Callable[[float], int], wanted: int, seconds: float) -> float:
    """Find by bisection the level, in logits, at which about `wanted` entities are found.

    Args:
        count: function that returns the number of entities at a level; a higher level finds fewer.
        wanted: number of entities to find.
        seconds: time limit, after which the best level so far is returned.
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
    """Return the words of a document and its mentions as (first word, last word, label), without those inside words."""
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
    """Return a callback for the Trainer of transformers that records the time of each step, without data loading."""
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
    """Return arguments for `TrainingArguments`: train on the CPU, save and report nothing."""
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
