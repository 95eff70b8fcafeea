"""The evaluation of the trainer: predict entities batch by batch, and compute span metrics."""

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainerControl
from transformers.trainer_utils import EvalLoopOutput, denumpify_detensorize

from ..adapters_binder import unwrapped
from ..processing_binder import BinderWindower
from ..types_binder import WeightWatch, type_modules
from .data import Document, as_documents
from .metrics import SpanMetrics, compute_span_metrics
from .mix import TypedDocuments
from .parts import encode_phrasings, types_are_frozen
from .predictions import Decoding, PredictedSpans
from .sharing import SharingTrainer
from .time_limit import Clock
from .windows import FixedOrder, WindowDataset

logger = logging.getLogger(__name__)

TYPE_INPUTS = ("type_input_ids", "type_attention_mask", "type_token_type_ids")


class EvaluatingTrainer(SharingTrainer):
    """A `SharingTrainer` that also evaluates documents. Its subclass `BinderTrainer` also trains.

    A subclass must set the attributes that are declared below, from `windower` to `clock`, before it calls
    `super().__init__`.
    """

    control: TrainerControl
    windower: BinderWindower
    entity_types: dict[str, str]
    max_span_width: int
    flat_algorithm: str
    clock: Clock
    # The arguments of this function are documents and their predictions. In `Trainer`, it has other arguments.
    compute_metrics: Callable[..., dict[str, float]] | None

    def __init__(self, **kwargs: Any) -> None:
        self.last_metrics: SpanMetrics | None = None
        self.scored: dict[str, tuple[SpanMetrics, WindowDataset]] = {}  # split -> results of the current weights
        self._metric_names: dict[str, None] = {}  # names of all computed metrics, in order
        self._type_states: WeakKeyDictionary[WindowDataset, Tensor] = WeakKeyDictionary()
        self._type_weights = WeightWatch()
        super().__init__(**kwargs)

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune pickles the trainer for `hyperparameter_search`. The cached states of types cannot be pickled.
        cached = ("_type_states", "_type_weights")
        return {name: value for name, value in vars(self).items() if name not in cached}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state, _type_states=WeakKeyDictionary(), _type_weights=WeightWatch())

    @property
    def processor(self) -> BinderWindower:
        """Deprecated name of `windower`."""
        warnings.warn("BinderTrainer.processor is now BinderTrainer.windower.", FutureWarning, stacklevel=2)
        return self.windower

    # ---- data ----

    def make_windows(self, dataset: Iterable[Any] | TypedDocuments | WindowDataset, name: str = "") -> WindowDataset:
        """Split documents into token windows for the model. A `WindowDataset` is returned unchanged."""
        if isinstance(dataset, WindowDataset):
            return dataset
        documents: Any = dataset
        types: Any = self.entity_types
        if isinstance(dataset, TypedDocuments):
            documents, types = dataset.documents, dataset.types
        return WindowDataset(
            as_documents(documents), self.windower, types, self.max_span_width, f"Tokenising {name}".strip()
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> torch.utils.data.Sampler[int] | None:
        # Longest windows first: batches then have little padding. If memory is too small, the first batch fails.
        lengths = eval_dataset.lengths
        return FixedOrder(sorted(range(len(lengths)), key=lambda index: -lengths[index]))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self.make_windows(eval_dataset, "eval")
        return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        return super().get_test_dataloader(self.make_windows(test_dataset, "test"))

    # ---- evaluation ----

    def score(self, dataset: Iterable[Any] | TypedDocuments | WindowDataset, split: str = "test") -> SpanMetrics:
        """Predict the entities of documents, and compare the predictions with the gold mentions.

        Args:
            dataset: documents with gold mentions.
            split: name of the split ("test", "dev") for the model card.
        """
        windows = self.make_windows(dataset, split)
        self.predict(windows)
        if self.last_metrics is None:
            raise RuntimeError("the evaluation loop did not run")
        self.scored[split] = (self.last_metrics, windows)
        self.facts()  # updates `model.card_facts`, which `model.push_to_hub()` writes into the card
        return self.last_metrics

    def predict_spans(self, dataset: WindowDataset) -> PredictedSpans:
        """Return all spans above the thresholds of the model's configuration. Flat decoding is not applied."""
        dataloader = self.get_test_dataloader(dataset)
        model: Any = self.accelerator.unwrap_model(self.model)
        model.eval()
        self.callback_handler.eval_dataloader = dataloader
        predicted, _ = self._predict(model, dataloader)
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, {})
        return predicted

    def score_for_card(self) -> None:
        if not self.scored and isinstance(self.eval_dataset, WindowDataset):
            self.score(self.eval_dataset, "dev")

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate as `Trainer.evaluate` does. For a dictionary of data sets, also return the means over these sets.

        Raises:
            ValueError: there is no data set.
        """
        several = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(several, Mapping) and not several:
            raise ValueError("eval_dataset is an empty dictionary: pass name -> documents, or documents.")
        metrics: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        if isinstance(several, Mapping):
            means = {}
            for name in self._metric_names:
                values: list[Any] = [metrics.get(f"{metric_key_prefix}_{key}_{name}") for key in several]
                if all(isinstance(value, (int, float)) for value in values):  # compute_metrics may return other values
                    means[f"{metric_key_prefix}_{name}"] = sum(values) / len(values)
            self.log(means)
            # `Trainer` has called the callbacks for each data set. Call them for the means too: EarlyStoppingCallback
            # may use a mean.
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, means)
            metrics |= means
        return metrics

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Predict the spans of a `WindowDataset` and score them. `Trainer` calls this method."""
        began = time.monotonic()
        dataset: Any = dataloader.dataset
        model: Any = unwrapped(self.accelerator.unwrap_model(self.model))
        if not self.is_in_train and (self.args.bf16_full_eval or self.args.fp16_full_eval):
            model = model.to(torch.bfloat16 if self.args.bf16_full_eval else torch.float16)
        model.eval()
        logger.info("%s: %d documents, %d windows", description, len(dataset.documents), len(dataset))
        self.callback_handler.eval_dataloader = dataloader

        predicted, loss = self._predict(model, dataloader)
        predictions = predicted.entities(self.accelerator.num_processes)
        # Flat decoding predicts one type for a span. So its gold mentions are the annotated mentions. Nested decoding
        # can also predict the ancestors of a type. So its gold mentions include the mentions that were added for
        # ancestors.
        documents = dataset.annotated if model.config.decoding == "flat" else dataset.documents
        metrics = {**self._metrics(documents, dataset.entity_types, predictions), "loss": loss}
        # The state of the trainer must not contain numpy numbers and tensors, but compute_metrics may return them.
        metrics = denumpify_detensorize(metrics)
        self._metric_names |= dict.fromkeys(metrics)
        self.clock.evaluated(time.monotonic() - began)
        return EvalLoopOutput(
            predictions=predictions,
            label_ids=None,
            metrics={f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
            num_samples=len(dataset.documents),
        )

    def _predict(self, model: Any, dataloader: DataLoader[Any]) -> tuple[PredictedSpans, float]:
        """Return the predicted spans and the mean loss of a data set."""
        dataset: Any = dataloader.dataset
        total_loss, seen = 0.0, 0
        with torch.no_grad(), self.compute_loss_context_manager():
            type_vectors, breadths = self._encoded_types(model, dataset)
        predicted = PredictedSpans(dataset, Decoding(model.config, dataset, breadths, self.flat_algorithm))
        for batch in dataloader:
            batch = self._prepare_inputs(batch)
            rows, owned = batch.pop("window").tolist(), batch.pop("owned")
            inputs = {name: value for name, value in batch.items() if name not in TYPE_INPUTS}
            with torch.inference_mode(), self.compute_loss_context_manager():
                output = model(**inputs, type_vectors=type_vectors)
                predicted.add(rows, output, batch, owned)
            total_loss += output.loss.item() * len(rows)
            seen += len(rows)
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        if self.accelerator.num_processes > 1:
            total_loss, seen = (sum(values) for values in zip(*gather_object([(total_loss, seen)]), strict=True))
        return predicted, total_loss / max(seen, 1)

    def _metrics(
        self, documents: list[Document], labels: list[str], predictions: list[list[dict[str, Any]]]
    ) -> dict[str, float]:
        scores = compute_span_metrics(
            [document.entities for document in documents],
            [[(entity["start"], entity["end"], entity["label"]) for entity in entities] for entities in predictions],
            labels,
        )
        self.last_metrics = scores
        own = {} if self.compute_metrics is None else self.compute_metrics(documents, predictions)
        if not isinstance(own, Mapping):
            raise TypeError(f"compute_metrics must return a dictionary name -> number, got {own!r:.80}.")
        return {
            "precision": scores.micro.precision,
            "recall": scores.micro.recall,
            "f1": scores.micro.f1,
            "macro_f1": scores.macro_f1,
            "nested_f1": scores.nested.f1,
            **own,
        }

    def _encoded_types(self, model: Any, dataset: WindowDataset) -> tuple[Tensor, Tensor | None]:
        """Encode the T types of a data set.

        Returns:
            The vectors [T, 3, D] and the breadths [T]. A type has a start, an end and a span vector of size D. See
            `breadth_binder` for breadths; they are None if the model does not use them.
        """
        if model.config.frozen_types and dataset.entity_types == list(model.config.type_descriptions):
            return model.frozen_type_vectors, getattr(model, "frozen_type_breadths", None)
        fixed = types_are_frozen(model)
        if fixed and self._type_weights.changed(type_modules(model)[:1]):  # the active adapter may have changed
            self._type_states.clear()
        states = self._type_states.get(dataset) if fixed else None
        if states is None:
            states = encode_phrasings(model, self.windower, [entity_type.description for entity_type in dataset.types])
            if fixed:
                self._type_states[dataset] = states
        breadths = None if model.breadth is None or not model.config.use_breadth else model.breadth(states).cpu()
        return model.project_types(states), breadths
