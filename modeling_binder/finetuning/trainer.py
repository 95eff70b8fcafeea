"""The transformers Trainer for BINDER: takes documents, evaluates span F1 on the fly."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler
from transformers import TrainerControl, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from ..decoding_binder import propose_spans, required_margin
from ..modeling_binder import BinderModel
from ..processing_binder import BinderWindower
from .batches import MixBatches, MixSampler, as_it_is
from .data import as_documents
from .facts import training_facts
from .metrics import SpanMetrics, compute_span_metrics
from .mix import Mix, TypedDocuments
from .packed import PackedMix
from .parts import check_parts, encode_phrasings, freeze_parts, parameter_groups, types_are_frozen
from .predictions import entities_of
from .sharing import SharingTrainer
from .time_limit import Clock, StopInTime
from .windows import FixedOrder, LengthGroupedSampler, WindowCollator, WindowDataset

logger = logging.getLogger(__name__)

_DESCRIPTIONS = ("type_input_ids", "type_attention_mask", "type_token_type_ids")


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
        train_dataset: documents, or dictionaries of the data contract, or a `datasets.Dataset` of them; or a `Mix` of
            corpora that have types of their own (or a `PackedMix`, which is tokenised already).
        eval_dataset: the same, or `TypedDocuments` with other types than the model's, or a dictionary of several;
            then `eval_f1` is the mean over them.
        processing_class: the tokenizer; fast.
        type_tokenizer: the tokenizer of the descriptions, if the type encoder has another one than the text encoder.
            `BinderModel.from_encoders` sets it by itself.
        flat_algorithm: "exact" or "greedy", see `decoding_binder.flat_spans`.
        card: what only you can tell of the model, for its card: `language`, `license`, `base_model`, `dataset`
            ({"name": ..., "id": of a dataset on the Hub}), `examples` (texts that the card shows the model on), `tags`.
        freeze: parts that are not trained: "type_encoder", "text_encoder", "embeddings" (of the text encoder), "heads".
            A type encoder that is not trained reads every description once, before the training.
        learning_rates: part -> learning rate, instead of `args.learning_rate`.
        max_minutes: stop in time to have evaluated and saved after so many minutes. The learning rate decays with the
            time or with the steps, whichever is further on.
        kwargs: passed to `Trainer` (`callbacks`, `optimizers`, ...).

    Raises:
        ValueError: the model has no entity types, or there is no part of a given name.
        DataError: a document is malformed or carries a label that is none of the types.
    """

    control: TrainerControl

    def __init__(
        self,
        model: BinderModel,
        args: TrainingArguments,
        train_dataset: Iterable[Any] | Mix | PackedMix | None = None,
        eval_dataset: Iterable[Any] | TypedDocuments | Mapping[str, Iterable[Any] | TypedDocuments] | None = None,
        processing_class: Any = None,
        flat_algorithm: str = "exact",
        card: Mapping[str, Any] | None = None,
        freeze: Sequence[str] = (),
        learning_rates: Mapping[str, float] | None = None,
        max_minutes: float | None = None,
        type_tokenizer: Any = None,
        **kwargs: Any,
    ) -> None:
        if type_tokenizer is not None:
            model.type_tokenizer = type_tokenizer
        is_mix = isinstance(train_dataset, (Mix, PackedMix))
        if not model.config.entity_types and not is_mix:
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
        freeze_parts(model, freeze)
        self.learning_rates = dict(learning_rates or {})
        check_parts(self.learning_rates, "learning_rates")
        self._clock = Clock(max_minutes)
        self._type_states: Tensor | None = None  # of all phrasings of a mix
        self._kept_states: WeakKeyDictionary[WindowDataset, Tensor] = (
            WeakKeyDictionary()
        )  # of the types of data sets to evaluate on
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
            train_dataset=self._training_data(train_dataset, model),
            eval_dataset=evaluated,
            processing_class=processing_class,
            card=card,
            data_collator=WindowCollator(
                pad_token_id=processing_class.pad_token_id,
                type_inputs=self.processor.encode_types(self.entity_types.values(), model.max_type_positions)
                if self.entity_types
                else {},
            ),
            **kwargs,
        )
        if max_minutes is not None:
            self.add_callback(StopInTime(self._clock))
        # compute_loss divides by the counts of the whole optimizer step; Trainer must not divide again.
        self.loss_is_scaled_for_ga = True

    def make_windows(self, dataset: Iterable[Any] | TypedDocuments, name: str = "") -> WindowDataset:
        """Cut a corpus into windows, as this trainer's model reads it; a `WindowDataset` is returned as it is."""
        if isinstance(dataset, WindowDataset):
            return dataset
        types: Any = self.entity_types
        documents: Any = dataset
        if isinstance(dataset, TypedDocuments):
            documents, types = dataset.documents, dataset.types
        return WindowDataset(
            as_documents(documents), self.processor, types, self._max_span_width, f"Tokenising {name}".strip()
        )

    def _training_data(self, dataset: Any, model: BinderModel) -> Any:
        if isinstance(dataset, Mix):
            dataset = PackedMix.prepare(dataset, self.processor, self._max_span_width)
        if isinstance(dataset, PackedMix):
            dataset.check(self.processor, self._max_span_width)
            tokenized = None
            if not types_are_frozen(model):
                inputs = self.processor.encode_types(dataset.table.texts, model.max_type_positions)
                lengths = inputs["type_attention_mask"].sum(1).tolist()
                rows = inputs["type_input_ids"].tolist()
                tokenized = [row[:length] for row, length in zip(rows, lengths, strict=True)]
            return MixBatches(dataset, self.processor.tokenizer.pad_token_id, tokenized)
        return None if dataset is None else self.make_windows(dataset, "train")

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train, as `Trainer.train` does; scores of before are of other weights and are forgotten."""
        self._scored = {}
        began = self._clock.began = time.monotonic()
        self._keep_type_states()
        output = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        # Of a run that was resumed nobody took the whole time.
        self._minutes = None if resume_from_checkpoint else (time.monotonic() - began) / 60
        return output

    def _keep_type_states(self) -> None:
        """Let a type encoder that is not trained read every description once."""
        self._type_states = None
        model: Any = self.accelerator.unwrap_model(self.model)
        if isinstance(self.train_dataset, MixBatches) and self.train_dataset.tokenized is None:
            model.to(self.args.device)
            self._type_states = encode_phrasings(model, self.processor, self.train_dataset.mix.table.texts)

    def create_optimizer(self, model: Any = None) -> Any:
        optimizer: Any = self.optimizer  # type: ignore[has-type]
        if optimizer is None and self.learning_rates:
            target: Any = self.model if model is None else model
            unwrapped: Any = self.accelerator.unwrap_model(target)
            decaying = self.get_decay_parameter_names(unwrapped)
            make, options = self.get_optimizer_cls_and_kwargs(self.args, unwrapped)
            groups = parameter_groups(unwrapped, self.learning_rates, decaying, self.args.weight_decay)
            self.optimizer = make(groups, **options)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """As `Trainer.create_scheduler`; with `max_minutes` the schedule runs with the time."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if self._clock.minutes is not None and isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
            scheduler.lr_lambdas = [self._clock.scaled(f, num_training_steps) for f in scheduler.lr_lambdas]
        return scheduler

    # ---- batches ----

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of documents as `Trainer` makes them, or of a mix by its budget of tokens."""
        dataset = self.train_dataset
        if not isinstance(dataset, MixBatches):
            return super().get_train_dataloader()
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        sampler = MixSampler(
            dataset.mix,
            dataset.mix.settings.tokens_per_batch,
            seed,
            lambda: self.state.epoch or 0,
            self.args.process_index,
            self.args.world_size,
        )
        workers = self.args.dataloader_num_workers
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=as_it_is,
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=workers > 0,
            prefetch_factor=(self.args.dataloader_prefetch_factor or 4) if workers else None,
        )

    def _prepare_input(self, data: Any) -> Any:
        if isinstance(data, Tensor) and self.args.device.type == "cuda":
            return data.to(self.args.device, non_blocking=True)  # or each tensor waits for the step before
        return super()._prepare_input(data)

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
        return FixedOrder(sorted(range(len(lengths)), key=lambda index: -lengths[index]))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self.make_windows(eval_dataset, "eval")
        return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        return super().get_test_dataloader(self.make_windows(test_dataset, "test"))

    # ---- loss ----

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        """Mentions, and windows (of a mix pairs of window and type), of a step's batches in all processes: [2]."""
        if not batch_samples:
            return None
        if "counts" in batch_samples[0]:
            counts = torch.stack([batch["counts"] for batch in batch_samples]).sum(0).float()
            return self.accelerator.reduce(counts.to(device), "sum") if self.args.world_size > 1 else counts
        counts = torch.zeros(2, device=device)
        for batch in batch_samples:
            if "type_index" in batch:
                counts[1] += (batch["type_index"] >= 0).sum().to(device) - len(batch["labels"])
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
        of_mix = "counts" in inputs
        inputs = {name: value for name, value in inputs.items() if name not in ("owned", "window", "counts")}
        if num_items_in_batch is not None:
            counted = "num_asked" if of_mix or "type_index" in inputs else "num_windows"
            inputs["num_mentions"], inputs[counted] = num_items_in_batch.clamp_min(1).unbind()
        if "type_phrasings" in inputs and self._type_states is not None:
            inputs["type_states"] = self._type_states[inputs.pop("type_phrasings")]
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
        if isinstance(self.train_dataset, WindowDataset):
            splits = {"train": self.train_dataset, **splits}
        results = {name: metrics for name, (metrics, _) in self._scored.items()}
        model: Any = self.accelerator.unwrap_model(self.model)
        facts = training_facts(model, self.args, self.state, splits, results, self._minutes)
        if isinstance(self.train_dataset, MixBatches):
            facts["mix"] = self.train_dataset.mix.report()
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
        began = time.monotonic()
        dataset: Any = dataloader.dataset
        model: Any = self.accelerator.unwrap_model(self.model)
        if not self.is_in_train and (self.args.bf16_full_eval or self.args.fp16_full_eval):
            model = model.to(torch.bfloat16 if self.args.bf16_full_eval else torch.float16)
        model.eval()
        logger.info("%s: %d documents, %d windows", description, len(dataset.documents), len(dataset))
        self.callback_handler.eval_dataloader = dataloader

        joint = model.config.inference == "joint"
        required = required_margin(0.5, len(dataset.types))
        found: dict[tuple[int, int, int, int], float] = {}  # (document, start, end, type) -> margin
        total_loss, seen = 0.0, 0
        with torch.no_grad(), self.compute_loss_context_manager():
            type_vectors = self._type_vectors(model, dataset)
        for batch in dataloader:
            batch = self._prepare_inputs(batch)
            rows, owned = batch.pop("window").tolist(), batch.pop("owned")
            inputs = {name: value for name, value in batch.items() if name not in _DESCRIPTIONS}
            with torch.inference_mode(), self.compute_loss_context_manager():
                output = model(**inputs, type_vectors=type_vectors)
            total_loss += output.loss.item() * len(rows)
            seen += len(rows)
            proposals = propose_spans(
                output.span_scores,
                batch["word_start_mask"],
                batch["word_end_mask"],
                required[:1].expand(output.span_scores.shape[1]),  # the same for each type
                start_scores=output.start_scores if joint else None,
                end_scores=output.end_scores if joint else None,
                owned=owned,
            )
            columns = [column.tolist() for column in proposals]
            if "type_index" in batch:  # types of the window -> types of the data set, -1 for padding
                columns[1] = batch["type_index"].cpu()[columns[0], columns[1]].tolist()
            for window, kind, first, last, margin in zip(*columns, strict=True):
                if kind < 0:
                    continue
                source = dataset.windows[rows[window]]
                key = (dataset.document_index[rows[window]], source.starts[first], source.ends[last], kind)
                found[key] = margin
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

        if self.accelerator.num_processes > 1:
            found = dict(gather_object(list(found.items())))
            total_loss, seen = (sum(values) for values in zip(*gather_object([(total_loss, seen)]), strict=True))

        predictions = entities_of(
            found, dataset, required, self.flat_algorithm if model.config.decoding == "flat" else None
        )
        self.last_metrics = compute_span_metrics(
            [document.entities for document in dataset.documents],
            [[(entity["start"], entity["end"], entity["label"]) for entity in entities] for entities in predictions],
            dataset.entity_types,
        )
        self._clock.evaluated(time.monotonic() - began)
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

    def _type_vectors(self, model: Any, dataset: WindowDataset) -> Tensor:
        """The vectors of the types that a data set is searched for, [T, 3, D]."""
        if model.config.frozen_types and dataset.entity_types == list(model.config.type_descriptions):
            vectors: Tensor = model.frozen_type_vectors
            return vectors
        texts = [entity_type.description for entity_type in dataset.types]
        frozen = types_are_frozen(model)
        states = self._kept_states.get(dataset) if frozen else None
        if states is None:
            states = encode_phrasings(model, self.processor, texts)
            if frozen:
                self._kept_states[dataset] = states
        vectors = model.project_types(states)
        return vectors

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate, as `Trainer.evaluate` does; of several data sets also report the means over them."""
        metrics: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        several = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(several, Mapping):
            means = {
                f"{metric_key_prefix}_{name}": sum(metrics[f"{metric_key_prefix}_{key}_{name}"] for key in several)
                / len(several)
                for name in ("precision", "recall", "f1", "macro_f1", "loss")
            }
            self.log(means)
            metrics |= means
        return metrics
