"""`BinderTrainer`, a transformers `Trainer` that fine-tunes a `BinderModel` on documents or on a mix of corpora."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler
from transformers import TrainingArguments

from ..adapters_binder import unwrapped
from ..modeling_binder import BinderModel
from ..processing_binder import BinderWindower
from .batches import MixBatches, MixSampler, as_it_is
from .data import Document
from .distillation import Teacher
from .evaluating import TYPE_INPUTS, EvaluatingTrainer
from .facts import training_facts
from .lora import resolve_base
from .mix import Mix, TypedDocuments
from .packed import PackedMix
from .parts import check_parts, check_rates, encode_phrasings, freeze_parts, parameter_groups, types_are_frozen
from .time_limit import Clock, StopInTime
from .windows import LengthGroupedSampler, WindowCollator, WindowDataset

logger = logging.getLogger(__name__)


# Arguments of `Trainer` that `BinderTrainer` rejects, because they would have no effect
_WITHOUT_EFFECT = ("data_collator", "compute_loss_func", "preprocess_logits_for_metrics")
# Ways to divide a model among devices: name -> argument of `Trainer`, and variable that `accelerate launch` sets
_SHARDING = {
    "FSDP": ("fsdp", "ACCELERATE_USE_FSDP"),
    "DeepSpeed": ("deepspeed", "ACCELERATE_USE_DEEPSPEED"),
    "Megatron-LM": ("megatron_lm", "ACCELERATE_USE_MEGATRON_LM"),
    "model parallelism": ("parallelism_config", "ACCELERATE_USE_PARALLELISM_CONFIG"),
}


class BinderTrainer(EvaluatingTrainer):
    """Fine-tunes a `BinderModel` on documents.

    It differs from `Trainer` in four ways:

    - The data are documents with character offsets (see `finetuning.data`), or a mix of corpora (see `finetuning.mix`).
      The trainer splits them into token windows, which fit into the model.
    - The windows of a batch have similar lengths and are padded to the longest window.
    - The loss is the mean over all mentions and windows of an optimizer step. It does not depend on the number of
      batches or processes of the step.
    - Evaluation computes precision, recall and F1 batch by batch. It does not keep score matrices in memory.

    The metrics are `eval_precision`, `eval_recall`, `eval_f1` (micro), `eval_macro_f1`, `eval_nested_f1` and
    `eval_loss`. `predict(documents).predictions` is a list of entity dictionaries for each document.

    Args:
        model: the model to train, or a `PeftModel` that wraps it (see `lora_config`). For a `PeftModel`, only the
            adapters and the heads are trained and saved. The model learns the entity types in `config.entity_types`. If
            the training data are a mix, it learns the entity types of the mix instead. `config.max_length` and
            `config.stride` determine the token windows. `config.decoding` and `config.inference` determine the
            evaluation.
        args: the arguments of `Trainer`. `metric_for_best_model="f1"` keeps the checkpoint with the best F1 on the
            development set.
        train_dataset: a list of documents, or of dictionaries (see `Document.from_dict`), or a `datasets.Dataset` with
            such rows. For corpora with different entity types, pass a `Mix`, or a `PackedMix` (a tokenised mix).
        eval_dataset: documents, in the same formats as `train_dataset`. `TypedDocuments` are documents with their own
            entity types, which replace the types of the model. For several data sets, pass a dictionary name -> data
            set; `eval_f1` is then the mean over the data sets.
        processing_class: the tokenizer of the text encoder; it must be a fast tokenizer.
        type_tokenizer: the tokenizer of the type encoder, if it differs from the tokenizer of the text encoder. Models
            from `BinderModel.from_encoders` have it already.
        flat_algorithm: "exact" or "greedy", for flat decoding; see `decoding_binder.flat_spans`.
        card: values for the model card: `language`, `license`, `base_model`, `dataset` ({"name": ..., "id": id of a
            dataset on the Hub}), `examples` (texts for which the card shows predictions), `tags`.
        freeze: parts of the model that are not trained: "text_encoder", "type_encoder", "embeddings" (of the text
            encoder), "heads". If the type encoder is frozen, it encodes every description only once.
        learning_rates: name of a part (as in `freeze`) -> learning rate, which replaces `args.learning_rate`.
        max_minutes: time limit in minutes. Training stops early enough to evaluate and save within the limit. The
            learning rate schedule then depends on the progress in steps or in time, whichever is larger.
        teacher: a larger model whose scores the model also learns to predict, see `finetuning.distillation`. The type
            encoder of the model must be frozen.
        model_init: function that returns a new model, instead of `model`; needed for `hyperparameter_search`.
        compute_metrics: function that returns additional metrics, as name -> number. Its arguments are the documents
            and their predictions.
        kwargs: further arguments of `Trainer` (`callbacks`, `optimizers`, ...).

    Raises:
        ValueError: the model has no entity types; a part has an unknown name; `args` or the environment enables FSDP,
            DeepSpeed or other model parallelism; `args` enables label smoothing.
        TypeError: an argument of `Trainer` was passed that would have no effect.
        DataError: a document is malformed, or the label of a mention is not one of the types.
    """

    def __init__(
        self,
        model: BinderModel | None = None,
        args: TrainingArguments | None = None,
        train_dataset: Iterable[Any] | Mix | PackedMix | None = None,
        eval_dataset: Iterable[Any] | TypedDocuments | Mapping[str, Iterable[Any] | TypedDocuments] | None = None,
        processing_class: Any = None,
        flat_algorithm: str = "exact",
        card: Mapping[str, Any] | None = None,
        freeze: Sequence[str] = (),
        learning_rates: Mapping[str, float] | None = None,
        max_minutes: float | None = None,
        type_tokenizer: Any = None,
        teacher: Teacher | None = None,
        model_init: Callable[..., BinderModel] | None = None,
        compute_metrics: Callable[[list[Document], list[list[dict[str, Any]]]], dict[str, float]] | None = None,
        **kwargs: Any,
    ) -> None:
        args = _checked(TrainingArguments("trainer_output") if args is None else args)
        unused = [name for name in _WITHOUT_EFFECT if kwargs.get(name) is not None]
        if unused:
            raise TypeError(f"BinderTrainer has its own loss, batches and evaluation: leave out {', '.join(unused)}.")
        check_rates(learning_rates or {})
        self.freeze, self.learning_rates = tuple(freeze), dict(learning_rates or {})
        check_parts(self.freeze, "freeze")
        self._type_tokenizer = type_tokenizer
        reference = self._reference(model, model_init)
        reference.config.check_entity_types()
        if not reference.config.entity_types and not isinstance(train_dataset, (Mix, PackedMix)):
            raise ValueError(
                "the model has no entity types to train: build it with "
                "BinderModel.from_encoders(..., entity_types={'Disease': 'The name of a disease.'})."
            )
        if teacher is not None and not types_are_frozen(reference):
            raise ValueError("training with a teacher needs a frozen type encoder: pass freeze=['type_encoder'].")
        if processing_class is None:
            raise ValueError("pass the encoder's tokenizer: BinderTrainer(..., processing_class=tokenizer).")
        self.windower = BinderWindower.for_model(reference, processing_class)
        self.flat_algorithm = flat_algorithm
        self.entity_types: dict[str, str] = reference.config.type_descriptions
        self.max_span_width: int = reference.config.max_span_width
        self.clock = Clock(max_minutes)
        self._minutes: float | None = None
        self._phrasing_states: Tensor | None = None
        self.teacher = teacher
        type_inputs = {}
        if self.entity_types:
            type_inputs = self.windower.encode_types(self.entity_types.values(), reference.max_type_positions)
        super().__init__(
            model=model,
            args=args,
            train_dataset=self._training_data(train_dataset, reference),
            eval_dataset=self._evaluation_data(eval_dataset),
            processing_class=processing_class,
            card=card,
            data_collator=WindowCollator(processing_class.pad_token_id, type_inputs),
            model_init=model_init,
            compute_metrics=compute_metrics,
            **kwargs,
        )
        if max_minutes is not None:
            self.add_callback(StopInTime(self.clock))
        # `compute_loss` divides by the counts of the whole optimizer step, so `Trainer` must not divide again.
        self.loss_is_scaled_for_ga = True

    def _reference(self, model: BinderModel | None, model_init: Callable[..., BinderModel] | None) -> BinderModel:
        """Return `model`, or a new model from `model_init`. Its config determines the token windows and the types."""
        if model is not None:
            made: BinderModel = unwrapped(self._set_up(model))
            return made
        if model_init is None:
            raise ValueError("pass a model, or a function that returns one: BinderTrainer(model_init=...).")
        self.model_init = model_init
        made = unwrapped(self.call_model_init())
        return made

    def call_model_init(self, trial: Any = None) -> Any:
        """Call `model_init`, and set the type tokenizer and the frozen parts of the new model."""
        return self._set_up(super().call_model_init(trial))

    def _set_up(self, model: Any) -> Any:
        binder = unwrapped(model)
        if not isinstance(binder, BinderModel):
            raise TypeError(f"BinderTrainer trains a BinderModel or a PeftModel with one, got {type(model).__name__}.")
        resolve_base(model)
        if self._type_tokenizer is not None:
            binder.type_tokenizer = self._type_tokenizer
        freeze_parts(binder, self.freeze)
        return model

    def _evaluation_data(self, dataset: Any) -> Any:
        if isinstance(dataset, Mapping):
            return {name: self.make_windows(data, name) for name, data in dataset.items()}
        return None if dataset is None else self.make_windows(dataset, "eval")

    def _training_data(self, dataset: Any, model: BinderModel) -> Any:
        if isinstance(dataset, Mix):
            dataset = PackedMix.prepare(dataset, self.windower, self.max_span_width)
        if not isinstance(dataset, PackedMix):
            return None if dataset is None else self.make_windows(dataset, "train")
        dataset.check(self.windower, self.max_span_width)
        tokenized = None
        if not types_are_frozen(model):
            inputs = self.windower.encode_types(dataset.table.texts, model.max_type_positions)
            lengths = inputs["type_attention_mask"].sum(1).tolist()
            rows = inputs["type_input_ids"].tolist()
            tokenized = [row[:length] for row, length in zip(rows, lengths, strict=True)]
        pad = (self.windower.tokenizer.pad_token_id, self.windower.type_tokenizer.pad_token_id)
        return MixBatches(dataset, *pad, tokenized)

    # ---- training ----

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train as `Trainer.train` does. Drop earlier evaluation results, because they belong to old weights.

        Afterwards the model is in evaluation mode, so that a pipeline can use it.
        """
        if isinstance(self.train_dataset, WindowDataset) and not len(self.train_dataset):
            raise ValueError("train_dataset has no documents.")
        self.scored = {}
        self._phrasing_states = None
        config = self.accelerator.unwrap_model(self.model).config if self.model is not None else None
        if config is not None and config.has_tuned_values:
            logger.warning(
                "This model keeps thresholds or temperatures that were tuned for its old weights. Tune them again "
                "after the training: binder-ner tune-thresholds."
            )
        began = self.clock.began = time.monotonic()
        try:
            output = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        finally:  # even if training was interrupted
            trained: Any = self.accelerator.unwrap_model(self.model)
            trained.eval()
        # The training time before the checkpoint is unknown, so a resumed training has no duration.
        self._minutes = None if resume_from_checkpoint else (time.monotonic() - began) / 60
        return output

    def create_optimizer(self, model: Any = None) -> Any:
        optimizer: Any = self.optimizer  # type: ignore[has-type]
        if optimizer is None and self.learning_rates:
            target: Any = self.model if model is None else model
            binder: Any = unwrapped(self.accelerator.unwrap_model(target))
            decaying = self.get_decay_parameter_names(binder)
            make, options = self.get_optimizer_cls_and_kwargs(self.args, binder)
            groups = parameter_groups(binder, self.learning_rates, decaying, self.args.weight_decay)
            self.optimizer = make(groups, **options)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the learning rate schedule. With `max_minutes`, it also depends on the time, see `Clock.scaled`."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if self.clock.minutes is not None and isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
            scheduler.lr_lambdas = [self.clock.scaled(f, num_training_steps) for f in scheduler.lr_lambdas]
        return scheduler

    # ---- batches ----

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the data loader. For a mix, the size of a batch is limited in tokens, not in windows."""
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
            return data.to(self.args.device, non_blocking=True)  # a blocking copy would wait for the GPU
        return super()._prepare_input(data)

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int] | None:
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        if not isinstance(dataset, WindowDataset) or self.args.train_sampling_strategy == "sequential":
            return SequentialSampler(dataset)
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroupedSampler(dataset.lengths, step, seed, lambda: self.state.epoch or 0)

    # ---- loss ----

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        """Count the mentions and windows of an optimizer step in all processes. The losses are divided by these counts.

        Returns:
            A tensor of two numbers: the number of mentions, and the number of windows. If windows are compared with
            different entity types, the second number is the number of window-type pairs.
        """
        if not batch_samples:
            return None
        if "counts" in batch_samples[0]:
            counts = torch.stack([batch["counts"] for batch in batch_samples]).sum(0).float()
            return self.accelerator.reduce(counts.to(device), "sum") if self.args.world_size > 1 else counts
        counts = torch.zeros(2, device=device)
        for batch in batch_samples:
            if "type_index" in batch:
                counts[1] += (batch["type_index"] >= 0).sum().to(device) - len(batch["labels"])
            type_ids, first, last = batch["labels"].unbind(-1)
            counts[0] += ((type_ids >= 0) & (last - first < self.max_span_width)).sum().to(device)
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
        trained: Any = unwrapped(self.accelerator.unwrap_model(model))
        if types_are_frozen(trained):
            inputs = self._with_type_states(trained, inputs)
        teacher = self.teacher if trained.training else None
        outputs = model(**inputs, return_text_states=teacher is not None)
        loss = outputs.loss
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # torch takes the mean over processes, but the sum is needed
        if teacher is not None and self._phrasing_states is not None:
            draw = self.args.seed * 1_000_003 + self.state.global_step
            distilled = teacher.loss(trained, outputs.text_states, self._phrasing_states, inputs, draw)
            loss = loss + distilled / self.current_gradient_accumulation_steps
        return (loss, outputs) if return_outputs else loss

    def _with_type_states(self, model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        """Replace the tokenised descriptions of a batch by their encoder states, computed only once."""
        phrasings = inputs.pop("type_phrasings", None)
        if self._phrasing_states is None:
            texts = list(self.entity_types.values()) if phrasings is None else self.train_dataset.mix.table.texts
            self._phrasing_states = encode_phrasings(model, self.windower, texts)
            if self.teacher is not None:
                self.teacher.prepare(texts, self.windower.tokenizer, self._phrasing_states.device)
        inputs = {name: value for name, value in inputs.items() if name not in TYPE_INPUTS}
        states = self._phrasing_states
        return {**inputs, "type_states": states if phrasings is None else states[phrasings]}

    # ---- the model card ----

    def facts(self) -> dict[str, Any]:
        """Return the facts that the model card shows about this run, and store them as `model.card_facts`."""
        splits = {name: windows for name, (_, windows) in self.scored.items()}
        if isinstance(self.eval_dataset, WindowDataset):
            splits = {"dev": self.eval_dataset, **splits}
        if isinstance(self.train_dataset, WindowDataset):
            splits = {"train": self.train_dataset, **splits}
        results = {name: metrics for name, (metrics, _) in self.scored.items()}
        model: Any = self.accelerator.unwrap_model(self.model)
        binder: Any = unwrapped(model)
        facts = training_facts(model, self.args, self.state, splits, results, self._minutes)
        if isinstance(self.train_dataset, MixBatches):
            facts["mix"] = self.train_dataset.mix.report()
        binder.card_facts = {**facts, **self.card}
        return binder.card_facts


def _checked(args: TrainingArguments) -> TrainingArguments:
    """Check that the arguments are supported, and set the arguments that the batches of the trainer require."""
    for name, (argument, variable) in _SHARDING.items():
        given = argument if getattr(args, argument, None) else variable
        if given == argument or parse_flag_from_env(variable):
            raise ValueError(
                f"BinderTrainer does not support {name} ({given} is set), because its models fit "
                "on one device. Start one process per GPU with torchrun (DDP), which needs no further arguments."
            )
    if args.n_gpu > 1:
        logger.warning("BinderTrainer uses one GPU per process; start it with torchrun to use all %d GPUs.", args.n_gpu)
        args._n_gpu = 1
    if args.label_smoothing_factor:
        raise ValueError("BinderTrainer does not support label smoothing: leave out label_smoothing_factor.")
    args.remove_unused_columns = False  # `Trainer` would remove the columns that `WindowCollator` and `MixBatches` need
    if args.device.type == "cpu":
        args.dataloader_pin_memory = False  # without a GPU, torch would warn about it
    return args
