"""The base class of the contenders in the speed benchmark, and functions that several contenders use.

Other packages run in separate environments and import this module too. So it imports only the standard library.
"""

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Some contenders have fixed types, which are chosen in training. They have this number of types. The main tables show
# all contenders with this number of types.
FIXED_TYPES = 5
# A training step of the contender `Floor` runs two encoders. This is the key for the time of the forward and backward
# pass of its text encoder.
PASSES = "forward and backward"


@dataclass(frozen=True)
class Settings:
    """Settings that all contenders of a benchmark share.

    Attributes:
        encoder: id or folder of the encoder that all contenders except binder-ner use.
        model: checkpoint of binder-ner.
        batch_size: texts or windows in a batch.
        train_batch_size: texts in a training step.
        max_length: maximum number of tokens in a window, as in the checkpoint.
        stride: number of tokens that neighbouring windows share, as in the checkpoint.
        threads: number of threads.
        scratch: folder for temporary files.
        held_out: file of documents for measuring how much F1 an int8 export loses. None means that this is not
            measured. These documents are not used to measure speed.
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
    """Texts and types to process: the input of `Contender.run`.

    Attributes:
        texts: the texts.
        types: name -> description.
        level: minimum score of an entity as a logit, see `Contender.untrained`.
        made: result of `Contender.prepare`, such as label embeddings.
    """

    texts: Sequence[str]
    types: dict[str, str]
    level: float = 0.0
    made: Any = None


class Contender(ABC):
    """A package or variant whose speed is measured, in a separate process.

    Args:
        settings: settings of the benchmark.
        options: options of this contender. Several contenders can share a class, with different options.

    Attributes:
        libraries: packages whose versions are recorded.
        untrained: whether the head has random weights. A random head finds far too many or too few entities. This
            changes the time of decoding. So the level (the minimum score of an entity, as a logit) is calibrated. With
            the calibrated level, the head finds as many entities as are annotated.
    """

    libraries: tuple[str, ...] = ("torch", "transformers")
    untrained = False

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.options = options

    @abstractmethod
    def import_libraries(self) -> None:
        """Import all libraries. This is the first step of a cold start."""

    def build(self, folder: Path) -> str | None:  # noqa: B027 (optional: most contenders have nothing to build)
        """Build the model in a folder, from which other processes load it. Return a note for the results, or None."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Load the model that `build` wrote. This is the second step of a cold start."""

    def prepare(self, job: Job) -> None:  # noqa: B027
        """Do work that users do only once, such as computing label embeddings. Its time is not measured.

        This is called again before each run of a job, because another job may have been prepared in the meantime.
        """

    @abstractmethod
    def run(self, job: Job) -> int:
        """Find the entities of a job and return their number. Its time is measured."""

    def encode_types(self, types: dict[str, str]) -> None:
        """Encode types that were not encoded before. Its time is measured.

        Args:
            types: name -> description.

        Raises:
            NotImplementedError: this contender does not encode types in a separate step.
        """
        raise NotImplementedError("this contender does not encode types in a separate step.")

    def level(self, job: Job, wanted: int, seconds: float) -> float:
        """Return the level at which an untrained head finds about `wanted` entities.

        Args:
            job: texts and types. The method changes the level of the job.
            wanted: number of entities to find.
            seconds: approximate time limit.
        """

        def count(level: float) -> int:
            job.level = level
            self.prepare(job)
            return self.run(job)

        return calibrate(count, wanted, seconds)

    def characters_read(self, text: str, types: dict[str, str]) -> int:
        """Return the number of characters that the contender processes. Some contenders truncate long texts."""
        return len(text)

    def training_steps(self, documents: Sequence[dict[str, Any]], types: dict[str, str], steps: int) -> dict[str, Any]:
        """Train for some steps and measure their times.

        Args:
            documents: training documents, as dictionaries.
            types: name -> description.
            steps: number of steps.

        Returns:
            Name of a measured part of a step -> seconds in each step. "seconds" means the whole step.

        Raises:
            NotImplementedError: the training of this contender is not measured.
        """
        raise NotImplementedError("the training of this contender is not measured.")


def calibrate(count: Callable[[float], int], wanted: int, seconds: float) -> float:
    """Find the level (minimum score as a logit) at which about `wanted` entities are found. Use bisection.

    Args:
        count: function that returns the number of entities at a level. A higher level gives fewer entities.
        wanted: number of entities to find.
        seconds: time limit. After this time, the best level so far is returned.
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


def characters_of_words(text: str, ends: Sequence[int], most: int) -> int:
    """Return the number of characters that a contender processes if it reads only the first words of a text.

    Args:
        text: the text.
        ends: the end of each word.
        most: maximum number of words.
    """
    return len(text) if len(ends) <= most else ends[most - 1]


def sigmoid(level: float) -> float:
    return 1 / (1 + math.exp(-level))


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def words_and_mentions(document: dict[str, Any]) -> tuple[list[str], list[tuple[int, int, str]]]:
    """Return the words of a document and its mentions as (first word, last word, label).

    Mentions that begin or end inside a word are skipped.
    """
    spans = [match.span() for match in re.finditer(r"\w+|[^\w\s]", document["text"])]
    return [document["text"][start:end] for start, end in spans], mentions_in_words(document["entities"], spans)


def mentions_in_words(
    entities: Iterable[Mapping[str, Any]], words: Iterable[tuple[int, int]]
) -> list[tuple[int, int, str]]:
    """Return mentions as (first word, last word, label). Mentions that begin or end inside a word are skipped.

    Args:
        entities: the mentions, with the keys start, end and label.
        words: character spans of the words.
    """
    starts, ends = {}, {}
    for index, (start, end) in enumerate(words):
        starts[start], ends[end] = index, index
    return [
        (starts[entity["start"]], ends[entity["end"]], entity["label"])
        for entity in entities
        if entity["start"] in starts and entity["end"] in ends
    ]


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
    """Return arguments for `TrainingArguments`. The trainer then uses the CPU, and does not save or report."""
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
