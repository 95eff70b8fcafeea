"""The transformers Trainer for BINDER: takes documents, evaluates span F1 on the fly."""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler
from transformers import TrainerControl, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from ..decoding_binder import flat_spans, probability, propose_spans, required_margin
from ..modeling_binder import BinderModel
from ..processing_binder import BinderWindower
from .data import as_documents
from .facts import training_facts
from .metrics import SpanMetrics, compute_span_metrics
from .sharing import SharingTrainer
from .windows import LengthGroupedSampler, WindowCollator, WindowDataset

logger = logging.getLogger(__name__)


class BinderTrainer(SharingTrainer):
    """Fine-tunes a `BinderModel` on documents.

    Differs from `Trainer` in what the data are (documents with character offsets, see `finetuning.data`), in how
    batches are made (windows of like length, padded to their own longest), in the loss over an optimizer step (a mean
    over all its mentions and windows, however they were split over batches and processes) and in evaluation (span
    precision, recall and F1, decoded batch by batch; no score matrix is kept).

    Metrics are `eval_precision`, `eval_recall`, `eval_f1` (micro), `eval_macro_f1`, `eval_nested_f1` and `eval_loss`.
    `predict(documents).predictions` is a list of entity dictionaries for each document.

    Args:
        model: its `config.entity_types` are the types that are trained, its `config.max_length` and `config.stride`
            make the windows, its `config.decoding` and `config.inference` say how it is evaluated.
        args: transformers' own. Set `metric_for_best_model="f1"` for the best checkpoint on the development set.
        train_dataset, eval_dataset: documents, or dictionaries of the data contract, or a `datasets.Dataset` of them;
            `eval_dataset` may be a dictionary of several.
        processing_class: the tokenizer; fast.
        flat_algorithm: "exact" or "greedy", see `decoding_binder.flat_spans`.
        card: what only you can tell of the model, for its card: `language`, `license`, `base_model`, `dataset`
            ({"name": ..., "id": of a dataset on the Hub}), `examples` (texts that the card shows the model on), `tags`.
        kwargs: passed to `Trainer` (`callbacks`, `optimizers`, ...).

    Raises:
        ValueError: the model has no entity types.
        DataError: a document is malformed or carries a label that is none of the types.
    """

    control: TrainerControl

    def __init__(
        self,
        model: BinderModel,
        args: TrainingArguments,
        train_dataset: Iterable[Any] | None = None,
        eval_dataset: Iterable[Any] | Mapping[str, Iterable[Any]] | None = None,
        processing_class: Any = None,
        flat_algorithm: str = "exact",
        card: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not model.config.entity_types:
            raise ValueError(
                "the model has no entity types to train: build it with "
                "BinderModel.from_encoders(..., entity_types={'Disease': 'The name of a disease.'})."
            )
        if processing_class is None:
            raise ValueError("pass the encoder's tokenizer: BinderTrainer(..., processing_class=tokenizer).")
        self.processor = BinderWindower.for_model(model, processing_class)
        self.flat_algorithm = flat_algorithm
        self.entity_types: dict[str, str] = model.config.type_descriptions
        self._max_span_width: int = model.config.max_span_width
        self.last_metrics: SpanMetrics | None = None
        self._scored: dict[str, tuple[SpanMetrics, WindowDataset]] = {}  # of these weights, for the card
        self._minutes: float | None = None
        if args.n_gpu > 1:
            logger.warning("BinderTrainer uses one GPU per process; start it with torchrun to use all %d.", args.n_gpu)
            args._n_gpu = 1
        args.remove_unused_columns = False  # batches are made by our own collator
        if args.device.type == "cpu":
            args.dataloader_pin_memory = False  # or torch warns that there is nothing to pin for
        if isinstance(eval_dataset, Mapping):
            evaluated: Any = {name: self.make_windows(data, name) for name, data in eval_dataset.items()}
        else:
            evaluated = None if eval_dataset is None else self.make_windows(eval_dataset, "eval")
        super().__init__(
            model=model,
            args=args,
            train_dataset=None if train_dataset is None else self.make_windows(train_dataset, "train"),
            eval_dataset=evaluated,
            processing_class=processing_class,
            card=card,
            data_collator=WindowCollator(
                pad_token_id=processing_class.pad_token_id,
                type_inputs=self.processor.encode_types(self.entity_types.values(), model.max_type_positions),
            ),
            **kwargs,
        )
        # compute_loss divides by the counts of the whole optimizer step; Trainer must not divide again.
        self.loss_is_scaled_for_ga = True

    def make_windows(self, dataset: Iterable[Any], name: str = "") -> WindowDataset:
        """The windows of a corpus, as this trainer's model reads it; a `WindowDataset` is returned as it is."""
        if isinstance(dataset, WindowDataset):
            return dataset
        return WindowDataset(
            as_documents(dataset), self.processor, self.entity_types, self._max_span_width, f"Tokenising {name}".strip()
        )

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train, as `Trainer.train` does; scores of before are of other weights and are forgotten."""
        self._scored = {}
        began = time.monotonic()
        output = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        # Of a run that was resumed nobody took the whole time.
        self._minutes = None if resume_from_checkpoint else (time.monotonic() - began) / 60
        return output

    # ---- batches ----

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int] | None:
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        if not isinstance(dataset, WindowDataset) or self.args.train_sampling_strategy == "sequential":
            return SequentialSampler(dataset)
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroupedSampler(dataset.lengths, step, seed, lambda: self.state.epoch or 0)

    def _get_eval_sampler(self, eval_dataset: Any) -> torch.utils.data.Sampler[int] | None:
        # Longest first: little padding, and memory runs out at once or never.
        lengths = eval_dataset.lengths
        return _FixedOrder(sorted(range(len(lengths)), key=lambda index: -lengths[index]))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self.make_windows(eval_dataset, "eval")
        return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        return super().get_test_dataloader(self.make_windows(test_dataset, "test"))

    # ---- loss ----

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        """Mentions and windows of an optimizer step over all its batches and processes: [2]."""
        if not batch_samples:
            return None
        counts = torch.zeros(2, device=device)
        for batch in batch_samples:
            kind, first, last = batch["labels"].unbind(-1)
            counts[0] += ((kind >= 0) & (last - first < self._max_span_width)).sum().to(device)
            counts[1] += len(batch["labels"])
        if self.args.world_size > 1:
            counts = self.accelerator.reduce(counts, "sum")
        return counts

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        inputs = {name: value for name, value in inputs.items() if name not in ("owned", "window")}
        if num_items_in_batch is not None:
            inputs["num_mentions"], inputs["num_windows"] = num_items_in_batch.clamp_min(1).unbind()
        outputs = model(**inputs)
        loss = outputs.loss
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes, the loss is a sum
        return (loss, outputs) if return_outputs else loss

    # ---- the model card ----

    def facts(self) -> dict[str, Any]:
        """What the model card tells of this run and of the weights as they are now."""
        splits = {name: windows for name, (_, windows) in self._scored.items()}
        if isinstance(self.eval_dataset, WindowDataset):
            splits = {"dev": self.eval_dataset, **splits}
        if self.train_dataset is not None:
            splits = {"train": self.train_dataset, **splits}
        results = {name: metrics for name, (metrics, _) in self._scored.items()}
        model: Any = self.accelerator.unwrap_model(self.model)
        facts = training_facts(model, self.args, self.state, splits, results, self._minutes)
        model.card_facts = {**facts, **self.card}
        return model.card_facts

    def score_for_card(self) -> None:
        if not self._scored and isinstance(self.eval_dataset, WindowDataset):
            self.score(self.eval_dataset.documents, "dev")

    # ---- evaluation ----

    def score(self, dataset: Iterable[Any], split: str = "test") -> SpanMetrics:
        """Predict documents and score them: micro, macro, per type and for nested mentions alone.

        Args:
            dataset: documents with their gold mentions.
            split: what they are ("test", "dev"): the name under which the model card tells the result.
        """
        windows = self.make_windows(dataset, split)
        self.predict(windows)
        if self.last_metrics is None:
            raise RuntimeError("the evaluation loop did not run")
        self._scored[split] = (self.last_metrics, windows)
        self.facts()  # so that model.push_to_hub() knows of it too
        return self.last_metrics

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Predict the spans of a `WindowDataset` and score them against its documents; called by `Trainer`."""
        dataset: Any = dataloader.dataset
        model: Any = self.accelerator.unwrap_model(self.model)
        if not self.is_in_train and (self.args.bf16_full_eval or self.args.fp16_full_eval):
            model = model.to(torch.bfloat16 if self.args.bf16_full_eval else torch.float16)
        model.eval()
        logger.info("%s: %d documents, %d windows", description, len(dataset.documents), len(dataset))
        self.callback_handler.eval_dataloader = dataloader

        joint = model.config.inference == "joint"
        required = required_margin(0.5, len(self.entity_types))
        found: dict[tuple[int, int, int, int], float] = {}  # (document, start, end, type) -> margin
        total_loss, seen = 0.0, 0
        type_vectors: Tensor | None = None
        for batch in dataloader:
            batch = self._prepare_inputs(batch)
            rows, owned = batch.pop("window").tolist(), batch.pop("owned")
            types = {name: batch.pop(name) for name in list(batch) if name.startswith("type_")}
            with torch.inference_mode(), self.compute_loss_context_manager():
                if type_vectors is None:
                    frozen = model.config.frozen_types
                    type_vectors = model.frozen_type_vectors if frozen else model.encode_types(**types)
                output = model(**batch, type_vectors=type_vectors)
            total_loss += output.loss.item() * len(rows)
            seen += len(rows)
            proposals = propose_spans(
                output.span_scores,
                batch["word_start_mask"],
                batch["word_end_mask"],
                required,
                start_scores=output.start_scores if joint else None,
                end_scores=output.end_scores if joint else None,
                owned=owned,
            )
            for window, kind, first, last, margin in zip(*(column.tolist() for column in proposals), strict=True):
                source = dataset.windows[rows[window]]
                key = (dataset.document_index[rows[window]], source.starts[first], source.ends[last], kind)
                found[key] = margin
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

        if self.accelerator.num_processes > 1:
            found = dict(gather_object(list(found.items())))
            total_loss, seen = (sum(values) for values in zip(*gather_object([(total_loss, seen)]), strict=True))

        predictions = self._entities(found, len(dataset.documents), required, model.config.decoding == "flat")
        self.last_metrics = compute_span_metrics(
            [document.entities for document in dataset.documents],
            [[(entity["start"], entity["end"], entity["label"]) for entity in entities] for entities in predictions],
            list(self.entity_types),
        )
        metrics = {
            "precision": self.last_metrics.micro.precision,
            "recall": self.last_metrics.micro.recall,
            "f1": self.last_metrics.micro.f1,
            "macro_f1": self.last_metrics.macro_f1,
            "nested_f1": self.last_metrics.nested.f1,
            "loss": total_loss / max(seen, 1),
        }
        return EvalLoopOutput(
            predictions=predictions,
            label_ids=None,
            metrics={f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
            num_samples=len(dataset.documents),
        )

    def _entities(
        self, found: dict[tuple[int, int, int, int], float], documents: int, required: Tensor, flat: bool
    ) -> list[list[dict[str, Any]]]:
        """Entity dictionaries of each document, in order of position."""
        names = list(self.entity_types)
        per_document: list[list[tuple[int, int, int, float]]] = [[] for _ in range(documents)]
        for (document, start, end, kind), margin in sorted(found.items()):
            per_document[document].append((start, end, kind, margin))
        predictions = []
        for spans in per_document:
            if flat and len(spans) > 1:
                starts, ends, kinds, margins = (torch.tensor(column) for column in zip(*spans, strict=True))
                kept = flat_spans(starts, ends, kinds, margins, required, self.flat_algorithm).tolist()
                spans = [spans[index] for index in kept]
            scores = probability(torch.tensor([span[3] for span in spans])).tolist()
            predictions.append(
                [
                    {"start": start, "end": end, "label": names[kind], "score": score}
                    for (start, end, kind, _), score in zip(spans, scores, strict=True)
                ]
            )
        return predictions


class _FixedOrder(torch.utils.data.Sampler[int]):
    """Yields the given indices."""

    def __init__(self, order: list[int]) -> None:
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Any:
        return iter(self.order)
