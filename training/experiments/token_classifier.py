"""Train a token classifier of transformers with the same encoder, data and epochs as BINDER, for comparison.

    python -m training.experiments.token_classifier training/recipes/ncbi-minilm.yaml --output_dir checkpoints/tokens

The command accepts the recipes of `training.finetune`. It uses only the model settings `encoder`, `max_length` and
`stride`.
"""

import json
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from modeling_binder.finetuning import DataError, Document, SpanMetrics, WindowDataset, compute_span_metrics
from modeling_binder.finetuning.corpus import Corpus
from modeling_binder.finetuning.iob import chunks
from modeling_binder.finetuning.splits import SPLIT_NAMES
from modeling_binder.finetuning.windows import LengthGroupedSampler
from modeling_binder.processing_binder import BinderWindower
from training.arguments import BinderTrainingArguments, ModelArguments, parse_recipe
from training.checkpoints import checkpoint_to_resume, checksum, save_settings
from training.encoders import resolve_encoder
from training.experiments.provenance import provenance
from training.runs import run_training, save_results

IGNORED = -100  # the cross-entropy loss of torch ignores this label


class TaggedWindows(torch.utils.data.Dataset[dict[str, Any]]):
    """Token windows with an IOB2 tag on the first token of each word.

    Args:
        windows: the same windows as for BINDER. A token has only one tag. So if two mentions overlap, only the mention
            that begins first is kept. If both mentions begin at the same token, the longer mention is kept.
    """

    def __init__(self, windows: WindowDataset) -> None:
        self.windows = windows
        self.tags = ["O", *(f"{prefix}-{label}" for label in windows.entity_types for prefix in "BI")]
        self.items = [self._item(index) for index in range(len(windows))]

    def _item(self, index: int) -> dict[str, Any]:
        window = self.windows.windows[index]
        labels = [0 if start >= 0 else IGNORED for start in window.starts]
        for type_id, first, last in sorted(self.windows.labels[index], key=lambda row: (row[1], -row[2])):
            if type_id < 0:
                continue  # skip an undecided span, because it has no type
            covered = [token for token in range(first, last + 1) if labels[token] != IGNORED]
            if all(labels[token] == 0 for token in covered):
                for token in covered:
                    labels[token] = 2 * type_id + (1 if token == first else 2)
        return {"input_ids": window.input_ids, "labels": labels}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]

    def mentions(self, scores: Any) -> list[list[tuple[int, int, str]]]:
        """Return the mentions of each document.

        Args:
            scores: NumPy array with the scores of all tags for all tokens of all windows, as `Trainer.predict` returns
                them.
        """
        words: list[dict[int, tuple[int, str]]] = [{} for _ in self.windows.documents]  # start of a word -> end, tag
        for index, tags in enumerate(scores.argmax(-1).tolist()):
            window = self.windows.windows[index]
            document = words[self.windows.document_index[index]]
            end = -1
            for token in reversed(range(len(window.starts))):
                end = window.ends[token] if window.ends[token] >= 0 else end
                if window.starts[token] >= 0 and window.owned[0] < 2 * token <= window.owned[1]:
                    document[window.starts[token]] = (end, self.tags[tags[token]])
        found = []
        for document in words:
            spans = [(start, end, tag) for start, (end, tag) in sorted(document.items())]
            rows = chunks([tag for *_, tag in spans], None)
            found.append([(spans[first][0], spans[last][1], label) for first, last, label in rows])
        return found


class TokenTrainer(Trainer):
    """A `Trainer` that trains on the same batches as `BinderTrainer`, and evaluates windows in the given order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        lengths = self.train_dataset.windows.lengths
        return LengthGroupedSampler(lengths, step, self.args.seed, lambda: self.state.epoch or 0)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return torch.utils.data.SequentialSampler(eval_dataset)


def score(trainer: Trainer, data: TaggedWindows) -> SpanMetrics:
    """Evaluate the model of the trainer on a split."""
    # `compute_metrics` compares predictions with the development set. Switch it off, because `data` may be another
    # split.
    trainer.compute_metrics = None
    predicted = data.mentions(trainer.predict(data).predictions)
    gold = [document.entities for document in data.windows.documents]
    return compute_span_metrics(gold, predicted, data.windows.entity_types)


def predict(
    checkpoint: Path, documents: Sequence[Document], entity_types: Mapping[str, str], model_arguments: ModelArguments
) -> list[list[tuple[int, int, str]]]:
    """Return the mentions that a trained token classifier finds in each document.

    Args:
        checkpoint: folder of the token classifier.
        documents: the documents.
        entity_types: the types of the corpus that it was trained on, in the same order.
        model_arguments: `max_length` and `stride` of its windows.
    """
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    windower = BinderWindower(tokenizer, model_arguments.max_length, model_arguments.stride)
    data = TaggedWindows(WindowDataset(documents, windower, entity_types, 2**16, "Tokenising"))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(output_dir=folder, per_device_eval_batch_size=32, report_to="none")
        trainer = _trainer(AutoModelForTokenClassification.from_pretrained(checkpoint), arguments, tokenizer)
        return data.mentions(trainer.predict(data).predictions)


def _trainer(model: Any, arguments: TrainingArguments, tokenizer: Any, **options: Any) -> TokenTrainer:
    """Return the trainer of a token classifier; `options` are further arguments of `Trainer`."""
    arguments.dataloader_pin_memory = arguments.device.type != "cpu"
    collator = DataCollatorForTokenClassification(tokenizer)
    return TokenTrainer(model, arguments, data_collator=collator, processing_class=tokenizer, **options)


def train(
    corpus: Corpus,
    model_arguments: ModelArguments,
    arguments: BinderTrainingArguments,
    settings: dict[str, Any],
    origin: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Fine-tune and evaluate a token classifier. Return the results, and write them to `output_dir/results.json`.

    Args:
        corpus: documents of the splits, and their entity types.
        model_arguments, arguments: see `training.arguments`.
        settings: settings of this training. They are saved, and compared with the settings of an interrupted training.
        origin: command, code version and machine of the result, see `training.experiments.provenance`.

    Raises:
        ValueError: `output_dir` contains an interrupted training with other settings.
    """
    output = Path(str(arguments.output_dir))
    settings = {**settings, "data": checksum(corpus)}
    checkpoint = None if arguments.restart else checkpoint_to_resume(output, settings)
    trainer, data = _build_trainer(corpus, model_arguments, arguments)
    if trainer.is_world_process_zero():
        save_settings(output, settings)
    results: dict[str, Any] = {**(origin or {}), "metrics": {}, **run_training(trainer, checkpoint)}
    for name in ("dev", "test"):
        measured = score(trainer, data[name])
        results["metrics"][name] = measured.to_dict()
        print(f"\n{name}\n{measured.table()}", flush=True)
    save_results(trainer, results)
    return results


def _build_trainer(
    corpus: Corpus, model_arguments: ModelArguments, arguments: BinderTrainingArguments
) -> tuple[TokenTrainer, dict[str, TaggedWindows]]:
    """Build a token classifier on a pretrained encoder. Return its trainer, and the windows of each split."""
    set_seed(arguments.seed)
    encoder = resolve_encoder(model_arguments.encoder)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    processor = BinderWindower(tokenizer, model_arguments.max_length, model_arguments.stride)

    def tagged(documents: Sequence[Document], name: str) -> TaggedWindows:
        return TaggedWindows(WindowDataset(documents, processor, corpus.entity_types, 2**16, f"Tokenising {name}"))

    data = {name: tagged(getattr(corpus, name), name) for name in SPLIT_NAMES}
    tags = data["train"].tags
    model = AutoModelForTokenClassification.from_pretrained(
        encoder,
        num_labels=len(tags),
        id2label=dict(enumerate(tags)),
        label2id={tag: index for index, tag in enumerate(tags)},
    )

    def metrics(prediction: Any) -> dict[str, float]:
        # Trainer calls this function only for the development set.
        found = data["dev"].mentions(prediction.predictions)
        gold = [document.entities for document in data["dev"].windows.documents]
        return {"f1": compute_span_metrics(gold, found, data["dev"].windows.entity_types).micro.f1}

    splits = {"train_dataset": data["train"], "eval_dataset": data["dev"]}
    return _trainer(model, arguments, tokenizer, compute_metrics=metrics, **splits), data


def main(argv: list[str] | None = None) -> dict[str, Any]:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    argv = sys.argv[1:] if argv is None else argv
    try:
        recipe = parse_recipe(argv)
        if recipe.lora.lora_r:
            raise ValueError("the token classifier is trained in full: leave out lora_r.")
        module = "training.experiments.token_classifier"
        origin = provenance(module, argv, recipe.name, recipe.given, "token classifier")
        return train(recipe.data.load(), recipe.model, recipe.training, recipe.settings(), origin)
    except (DataError, ValueError, FileNotFoundError, ModuleNotFoundError, json.JSONDecodeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
