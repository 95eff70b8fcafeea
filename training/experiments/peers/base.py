"""What all contenders share: the texts, the clock of a run, and the evaluations at growing training times.

Other packages run in their own environments. This module is imported there too, so it needs only the standard library.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.benchmarks.contenders.base import mentions_in_words

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # shares of the training time after which the test set is evaluated
WARMUP = 0.1  # share of the training time in which the learning rate grows
_COVERED = 0.99  # share of the training mentions that `longest_mention` covers


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        contender: name of the contender.
        data: folder with train.jsonl, dev.jsonl, test.jsonl and types.json. All texts have words.
        encoder: folder or id of the pretrained encoder.
        learning_rate: learning rate after the warm-up.
        minutes: training time.
        shares: shares of the training time after which the model is evaluated.
        split: "test", or "dev" to choose a learning rate.
        nested: whether entities may overlap; False if the corpus is flat or the contender cannot find such entities.
        bf16: whether the trainers of transformers train in mixed precision (bfloat16).
        threads: number of threads.
        seed: seed of the random numbers.
    """

    contender: str
    data: str
    encoder: str
    learning_rate: float
    minutes: float
    shares: tuple[float, ...] = SHARES
    split: str = "test"
    nested: bool = False
    bf16: bool = False
    threads: int = 2
    seed: int = 42


@dataclass(frozen=True)
class Text:
    """A text of a corpus.

    Attributes:
        id, text: as in the file.
        words: character spans (start, end) of the words.
        mentions: (first word, last word, label) of each mention that begins and ends at the border of a word.
    """

    id: str
    text: str
    words: list[tuple[int, int]]
    mentions: list[tuple[int, int, str]]

    @classmethod
    def from_row(cls, row: Mapping[str, Any], nested: bool) -> "Text":
        """Create a text from a line of a corpus file; if not `nested`, only the outermost mentions are kept."""
        words = [(start, end) for start, end in row["words"]]
        mentions = mentions_in_words(row["entities"], words)
        return cls(row["id"], row["text"], words, sorted(set(mentions)) if nested else outermost(mentions))

    @property
    def tokens(self) -> list[str]:
        """The words as strings."""
        return [self.text[start:end] for start, end in self.words]

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """Return the character span of the words from `first` to `last`."""
        return self.words[first][0], self.words[last][1]


Found = tuple[int, int, str]  # a predicted entity: start, end, label


def outermost(mentions: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Return mentions that do not overlap: of overlapping mentions (first, last, label), the longest is kept."""
    kept: list[tuple[int, int, str]] = []
    for first, last, label in sorted(set(mentions), key=lambda each: (each[0] - each[1], each)):
        if all(last < other[0] or first > other[1] for other in kept):
            kept.append((first, last, label))
    return sorted(kept)


def read_texts(path: Path, nested: bool = True) -> list[Text]:
    """Read the texts of a JSONL file that `training.experiments.peers.runs.write_data` has written."""
    with path.open(encoding="utf-8") as lines:
        return [Text.from_row(json.loads(line), nested) for line in lines]


def longest_mention(texts: Iterable[Text], least: int) -> int:
    """Return the length in words that 99% of the mentions do not exceed; at least `least`."""
    lengths = sorted(last - first + 1 for text in texts for first, last, _ in text.mentions)
    return max(least, lengths[int(_COVERED * (len(lengths) - 1))]) if lengths else least


class Clock:
    """Measures training time: the time since its start, without pauses.

    Args:
        now: function that returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self._elapsed = 0.0
        self._since: float | None = None

    def resume(self) -> None:
        """Start, or continue after a pause."""
        self._since = self.now()

    def pause(self) -> None:
        """Stop until `resume`."""
        self._elapsed = self.seconds
        self._since = None

    @property
    def seconds(self) -> float:
        """Training time so far."""
        return self._elapsed + (0.0 if self._since is None else self.now() - self._since)


@dataclass
class Run:
    """A training run with a time limit, which a contender informs of each optimizer step.

    Attributes:
        settings: settings of the run.
        output: folder for the predictions.
        clock: the training time; evaluations do not count.
        points: the evaluations so far, for the results.
    """

    settings: Settings
    output: Path
    clock: Clock = field(default_factory=Clock)
    points: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        data = Path(self.settings.data)
        self.train = read_texts(data / "train.jsonl", self.settings.nested)
        self.evaluated = read_texts(data / f"{self.settings.split}.jsonl", self.settings.nested)
        self.types: dict[str, str] = json.loads((data / "types.json").read_text(encoding="utf-8"))
        self._shares = list(self.settings.shares)

    @property
    def progress(self) -> float:
        """Share of the training time that has passed."""
        return self.clock.seconds / (60 * self.settings.minutes)

    def factor(self, warmup: float = WARMUP) -> float:
        """Return the current factor of the learning rate: it grows to 1 and then falls to 0, both linearly.

        Args:
            warmup: share of the training time in which it grows.
        """
        progress = self.progress
        return progress / warmup if progress < warmup else max(0.0, (1 - progress) / (1 - warmup))

    def after_step(self, contender: "Contender", steps: int, epochs: float) -> bool:
        """Evaluate the contender if one of the shares of the training time has just passed.

        Args:
            contender: the contender.
            steps, epochs: how far the training is.

        Returns:
            Whether the training time is over.
        """
        progress = self.progress
        passed = [share for share in self._shares if progress >= share]
        if not passed:
            return False
        self.clock.pause()
        self._shares = self._shares[len(passed) :]
        began = time.perf_counter()
        write_found(self.predictions(passed[-1]), self.evaluated, contender.predict(self.evaluated))
        point = {"share": passed[-1], "minutes": self.clock.seconds / 60, "steps": steps, "epochs": epochs}
        self.points.append({**point, "evaluation_seconds": time.perf_counter() - began})
        print(f"{self.points[-1]}", flush=True)
        self.clock.resume()
        return not self._shares

    def predictions(self, share: float) -> Path:
        """Return the file of the predictions after a share of the training time."""
        return predictions_file(self.output, self.settings.split, share)


def predictions_file(output: Path, split: str, share: float) -> Path:
    """Return the file of the predictions of a run, such as test-0.125.jsonl."""
    return output / f"{split}-{share:g}.jsonl"


def write_found(path: Path, texts: Sequence[Text], found: Sequence[Sequence[Found]]) -> None:
    """Write predicted entities in the format of `modeling_binder.finetuning.prediction_files`."""
    with path.open("w", encoding="utf-8") as file:
        for text, entities in zip(texts, found, strict=True):
            rows = [
                {"start": start, "end": end, "label": label, "word": text.text[start:end]}
                for start, end, label in sorted(set(entities))
            ]
            file.write(json.dumps({"id": text.id, "text": text.text, "entities": rows}, ensure_ascii=False) + "\n")


class Contender(ABC):
    """A package that is trained and evaluated, in its own process.

    Args:
        run: the run; `run.after_step` must be called after each optimizer step.

    Attributes:
        libraries: packages whose versions are recorded.
        chosen: the settings of the training, for the results.
    """

    libraries: tuple[str, ...] = ("torch", "transformers")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.settings = run.settings
        self.chosen: dict[str, Any] = {}

    @abstractmethod
    def import_libraries(self) -> None:
        """Import all libraries; this is not part of the training time."""

    @abstractmethod
    def train(self) -> None:
        """Build a model on the pretrained encoder and train it until `run.after_step` returns True."""

    @abstractmethod
    def predict(self, texts: Sequence[Text]) -> list[list[Found]]:
        """Return the entities that the current model finds in each text; the training then continues."""
