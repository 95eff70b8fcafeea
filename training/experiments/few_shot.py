"""Few-shot: fine-tune a checkpoint on a few texts of a corpus. Measure its F1 on new and on old entity types.

    python -m training.experiments.few_shot demo/model corpora/ncbi corpora/personal-data --json few_shot.json
    python -m training.experiments.few_shot demo/model corpora/ncbi --sizes 50 --draws 2 --replay 0 0.5 --json few.json

For each corpus and each number of texts (`--sizes`), the command samples texts from the training set several times
(`--draws`). If possible, each sample contains each type. For each sample, the command trains these models:

- The checkpoint is fine-tuned on the texts, once for each value of `--replay`. This value is the share of the texts in
  an epoch that come from `--keep`. `--keep` is a corpus whose types must not be forgotten.
- A model with the bare encoder `--from-encoder` is trained on the same texts.

Each model is evaluated on the test set of the corpus, with types passed by description. The unchanged and the
fine-tuned checkpoint are also evaluated on the development set of `--keep`. There, types are passed by name, and
decoding is nested.

Results in the JSON file are not computed again. To continue an interrupted command, run the same command again.
"""

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, TrainingArguments, set_seed

from modeling_binder import BinderConfig, BinderModel
from modeling_binder.finetuning import (
    BinderTrainer,
    Corpus,
    DataError,
    Document,
    MixPart,
    TypedDocuments,
    load_corpus,
    replay_mix,
)
from modeling_binder.finetuning.data import write_json
from modeling_binder.finetuning.metrics import Score, has_overlap
from modeling_binder.machine import cpu_multiplies_bf16
from training.encoders import resolve_encoder
from training.experiments.few_shot_summary import CHECKPOINT, ENCODER, report, summarise
from training.experiments.provenance import provenance
from training.experiments.zero_shot import spread
from training.mixes import Folders, as_asked
from training.start import load_checkpoint

# For a model that starts from an encoder, these configuration fields are copied from the checkpoint.
SHARED = ("projection_size", "max_span_width", "max_length", "stride", "type_pooling")


@dataclass(frozen=True)
class Settings:
    """Settings of training and evaluation. Runs with different settings are not comparable.

    Args:
        limit: maximum number of texts of each evaluation set.
        reads: approximate number of texts that a run trains on, including repetitions. It determines the number of
            passes over the texts.
        min_passes, max_passes: minimum and maximum number of passes over the texts.
        tokens_per_batch: maximum number of tokens in a batch, padding included.
        learning_rate: learning rate of the text encoder of a checkpoint.
        head_learning_rate: learning rate of the heads of a checkpoint.
        encoder_learning_rate: learning rate of both encoders in a model that starts from an encoder.
        encoder_head_learning_rate: learning rate of the heads in a model that starts from an encoder.
    """

    limit: int = 400
    reads: int = 2400
    min_passes: int = 6
    max_passes: int = 60
    tokens_per_batch: int = 600
    learning_rate: float = 1e-4
    head_learning_rate: float = 4e-4
    encoder_learning_rate: float = 2e-4
    encoder_head_learning_rate: float = 2e-3

    def passes(self, size: int) -> int:
        """Return the number of passes over `size` texts."""
        return min(self.max_passes, max(self.min_passes, round(self.reads / size)))


@dataclass(frozen=True)
class Run:
    """A training of the experiment.

    Args:
        corpus: name of the corpus.
        size: number of texts. 0 means that the unchanged checkpoint is evaluated, without training.
        draw: number of the sample of texts. It is also the random seed.
        start: `CHECKPOINT` or `ENCODER`.
        replay: share of the texts in an epoch that come from the corpus `--keep`.
    """

    corpus: str
    size: int
    draw: int
    start: str
    replay: float = 0.0


@dataclass(frozen=True)
class Data:
    """A corpus to fine-tune on, and the documents to evaluate on."""

    corpus: Corpus
    test: list[Document]

    @classmethod
    def of(cls, folder: Path, limit: int) -> "Data":
        """Read a corpus and at most `limit` test documents. If there is no test set, use the development set.

        Raises:
            DataError: the corpus cannot be read, or has neither test nor development documents.
        """
        corpus = load_corpus(folder)
        documents = corpus.test or corpus.dev
        if not documents:
            raise DataError(f"{folder}: the corpus has neither a test nor a development set to evaluate on.")
        return cls(corpus, spread(documents, limit))

    @cached_property
    def decoding(self) -> str:
        documents = [*self.corpus.train, *self.test]
        return "nested" if any(has_overlap(document.entities) for document in documents) else "flat"


def draw_texts(documents: Sequence[Document], size: int, seed: int) -> list[Document]:
    """Sample `size` texts at random. If possible, the sample has a mention of each type.

    First, the function goes through the types, the rarest type first. If no sampled text mentions a type yet, it
    samples a text that mentions this type. Then it samples further texts.

    Raises:
        DataError: there are fewer than `size` documents.
    """
    if size > len(documents):
        raise DataError(f"cannot draw {size} texts: there are only {len(documents)}.")
    order = random.Random(seed).sample(range(len(documents)), len(documents))
    labels = [{mention.label for mention in documents[index].entities} for index in order]
    counts = Counter(label for found in labels for label in found)
    chosen: dict[int, None] = {}  # an ordered set of positions in `order`
    covered: set[str] = set()
    for label in sorted(counts, key=lambda label: (counts[label], label)):
        if label not in covered and len(chosen) < size:
            place = next(place for place, found in enumerate(labels) if label in found)
            chosen[place] = None
            covered |= labels[place]
    for place in range(len(order)):
        if len(chosen) == size:
            break
        chosen[place] = None
    return [documents[order[place]] for place in sorted(chosen)]


class Experiment:
    """Trains and evaluates models.

    Args:
        checkpoint: folder or id on the Hub of the checkpoint to start from.
        encoder: name of the encoder to start from, see `training.encoders`.
        data: name of a corpus -> corpus.
        kept: the corpus whose types must not be forgotten.
        settings: settings of all runs.
        device: "cpu" or "cuda". None means the GPU if there is a GPU, otherwise the CPU.
    """

    def __init__(
        self,
        checkpoint: str,
        encoder: str,
        data: Mapping[str, Data],
        kept: Corpus,
        settings: Settings,
        device: str | None = None,
    ) -> None:
        self.checkpoint, self.encoder, self.data, self.kept, self.settings = checkpoint, encoder, data, kept, settings
        self.on_cpu = device == "cpu" or not torch.cuda.is_available()
        self.bf16 = cpu_multiplies_bf16() if self.on_cpu else torch.cuda.is_bf16_supported()
        documents = spread(kept.dev, settings.limit)
        asked = {label for document in documents for label in document.types or kept.entity_types}
        types = [entity_type for entity_type in kept.types if entity_type.name in asked]
        self.kept_dev = TypedDocuments(documents, as_asked(types, False, "name"))

    def measure(self, run: Run) -> dict[str, Any]:
        """Train and evaluate a model, or evaluate the unchanged checkpoint (size 0). Return the results for JSON."""
        data, began = self.data[run.corpus], time.monotonic()
        set_seed(run.draw)
        model, tokenizer = self._model(run, data.corpus)
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(run, model, tokenizer, folder)
            if run.size:
                trainer.train()
            trained = time.monotonic() - began
            scores = _score(trainer, TypedDocuments(data.test, data.corpus.types))
            model.config.decoding = "nested"
            kept = _score(trainer, self.kept_dev).f1 if run.start == CHECKPOINT else None
        return {
            **asdict(run),
            "f1": scores.f1,
            "precision": scores.precision,
            "recall": scores.recall,
            "kept_f1": kept,
            "steps": trainer.state.global_step,
            "training_seconds": round(trained, 1),
            "seconds": round(time.monotonic() - began, 1),
        }

    def _model(self, run: Run, corpus: Corpus) -> tuple[BinderModel, Any]:
        decoding = self.data[run.corpus].decoding
        if run.start == CHECKPOINT:
            return load_checkpoint(self.checkpoint, corpus.types, {"decoding": decoding})
        config = BinderConfig.from_pretrained(self.checkpoint)
        encoder = resolve_encoder(self.encoder)
        model = BinderModel.from_encoders(
            encoder,
            entity_types=corpus.entity_types,
            decoding=decoding,
            **{name: getattr(config, name) for name in SHARED},
        )
        return model, AutoTokenizer.from_pretrained(encoder)

    def _repeated(self, run: Run) -> MixPart:
        """Sample the texts of the kept corpus that the run replays. Keep only one description of each type.

        The type encoder encodes each description once before training, so fewer descriptions save time.
        """
        read = run.size * self.settings.passes(run.size)
        number = min(len(self.kept.train), math.ceil(read * run.replay / (1 - run.replay)))
        seeded = random.Random(run.draw)
        documents = seeded.sample(self.kept.train, number)
        asked = {label for document in documents for label in document.types or self.kept.entity_types}
        types = [
            replace(entity_type, phrasings=(seeded.choice(entity_type.phrasings),), parent=None)
            for entity_type in self.kept.types
            if entity_type.name in asked
        ]
        return MixPart("kept", documents, tuple(types))

    def _trainer(self, run: Run, model: BinderModel, tokenizer: Any, folder: str) -> BinderTrainer:
        settings, mix = self.settings, None
        if run.size:
            corpus = self.data[run.corpus].corpus
            drawn = replace(corpus, train=draw_texts(corpus.train, run.size, run.draw))
            old = [self._repeated(run)] if run.replay else []
            mix = replay_mix(MixPart.of("new", drawn), old, run.replay, settings.tokens_per_batch)
        from_encoder = run.start == ENCODER
        rates = (settings.learning_rate, settings.head_learning_rate)
        if from_encoder:
            rates = (settings.encoder_learning_rate, settings.encoder_head_learning_rate)
        arguments = TrainingArguments(
            folder,
            num_train_epochs=settings.passes(run.size) if run.size else 1,
            learning_rate=rates[0],
            warmup_steps=0.1,
            weight_decay=0.01,
            per_device_eval_batch_size=32,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=self.on_cpu,
            bf16=self.bf16,
            seed=run.draw,
        )
        return BinderTrainer(
            model,
            arguments,
            train_dataset=mix,
            processing_class=tokenizer,
            freeze=[] if from_encoder or model.config.share_encoders else ["type_encoder"],
            learning_rates={"heads": rates[1]},
        )


def _score(trainer: BinderTrainer, documents: TypedDocuments) -> Score:
    windows: Any = trainer.make_windows(documents)
    return trainer.score(windows).micro


def planned(
    names: Sequence[str], sizes: Sequence[int], draws: int, replay: Sequence[float], with_encoder: bool
) -> Iterator[Run]:
    """Yield the runs of an experiment: first the unchanged checkpoint, then all corpora by size and by sample.

    With this order, even an interrupted experiment has results for all corpora.
    """
    yield from (Run(name, 0, 0, CHECKPOINT) for name in names)
    for size in sizes:
        for draw in range(draws):
            for name in names:
                yield from (Run(name, size, draw, CHECKPOINT, share) for share in replay)
                if with_encoder:
                    yield Run(name, size, draw, ENCODER)


def read_runs(path: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the runs that an earlier command wrote to a JSON file. If the file does not exist, return an empty list.

    Raises:
        ValueError: the earlier command had other settings.
    """
    if not path.exists():
        return []
    earlier = json.loads(path.read_text(encoding="utf-8"))
    different = [name for name, value in settings.items() if earlier["settings"].get(name) != value]
    if different:
        raise ValueError(
            f"{path} holds runs with another {different[0]} ({earlier['settings'].get(different[0])!r} before, "
            f"{settings[different[0]]!r} now). Such runs cannot be compared; pass another file as --json."
        )
    runs: list[dict[str, Any]] = earlier["runs"]
    return runs


def read_data(folders: Sequence[Path], limit: int) -> dict[str, Data]:
    """Read the corpora. Raise DataError if two corpora have the same name."""
    data: dict[str, Data] = {}
    for folder in folders:
        name = folder.resolve().name
        if name in data:
            raise DataError(f"two corpora are named {name!r}; rename one of the folders.")
        data[name] = Data.of(folder, limit)
    return data


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.few_shot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Settings()
    parser.add_argument("checkpoint", help="folder or id on the Hub")
    parser.add_argument("corpora", nargs="+", help="folders with types.json, train and test")
    parser.add_argument("--data", help="folder of the corpora; defaults to $BINDER_DATA")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 50, 200, 1000], help="numbers of training texts")
    parser.add_argument("--draws", type=int, default=5, help="number of samples of each size (default 5)")
    parser.add_argument(
        "--from-encoder",
        default="minilm",
        metavar="NAME",
        help="bare encoder from which models are trained for comparison",
    )
    parser.add_argument("--no-encoder", action="store_true", help="do not train models that start from an encoder")
    parser.add_argument("--keep", default="training/open_types", help="corpus whose types must not be forgotten")
    parser.add_argument("--replay", type=float, nargs="+", default=[0.0, 0.3], help="shares of texts from --keep")
    parser.add_argument(
        "--limit",
        type=int,
        default=default.limit,
        help=f"maximum number of texts in an evaluation (default {default.limit})",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=default.learning_rate,
        help="learning rate of the text encoder of a checkpoint",
    )
    parser.add_argument(
        "--tokens-per-batch",
        type=int,
        default=default.tokens_per_batch,
        help="maximum number of tokens in a batch, padding included",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: the GPU if there is one")
    parser.add_argument(
        "--json", type=Path, required=True, help="file for the results; runs in this file are not repeated"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse(argv)
    settings = Settings(
        limit=arguments.limit, learning_rate=arguments.learning_rate, tokens_per_batch=arguments.tokens_per_batch
    )
    shown = {**asdict(settings), "checkpoint": arguments.checkpoint, "encoder": arguments.from_encoder}
    shown["keep"] = arguments.keep
    try:
        runs = read_runs(arguments.json, shown)
        done = {tuple(run[name] for name in Run.__annotations__) for run in runs}
        folders = Folders(arguments.data)
        data = read_data([folders.find(corpus) for corpus in arguments.corpora], settings.limit)
        kept = load_corpus(folders.find(arguments.keep))
        experiment = Experiment(arguments.checkpoint, arguments.from_encoder, data, kept, settings, arguments.device)
        for run in planned(list(data), arguments.sizes, arguments.draws, arguments.replay, not arguments.no_encoder):
            if tuple(asdict(run).values()) in done:
                continue
            if run.size > len(data[run.corpus].corpus.train):
                continue  # skip the run: the corpus has too few texts, so its cell in the table is empty
            runs.append(experiment.measure(run))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
            origin = provenance("training.experiments.few_shot", argv, None, {}, "few-shot")
            write_json(arguments.json, {"origin": origin, "settings": shown, "runs": runs, "summary": summarise(runs)})
    except (DataError, ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    summary = summarise(runs)
    print(report(summary))
    return {"settings": shown, "runs": runs, "summary": summary}


if __name__ == "__main__":
    main()
