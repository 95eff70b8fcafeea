"""Collect facts about a training for its model card: data, hyper-parameters, results, hardware and versions."""

from collections.abc import Mapping
from typing import Any

from ..adapters_binder import unwrapped
from ..hub import base_models, fingerprint
from ..hub.checkpoint import evaluation_settings
from ..machine import hardware, versions
from .metrics import SpanMetrics
from .report import SplitReport
from .windows import WindowDataset

_MODEL_SETTINGS = (
    "share_encoders",
    "projection_size",
    "projection_dropout",
    "use_span_width_embedding",
    "max_span_width",
    "init_temperature",
    "start_loss_weight",
    "end_loss_weight",
    "span_loss_weight",
    "mention_loss_weight",
    "threshold_loss_weight",
    "max_length",
    "stride",
)
_TRAINING_SETTINGS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "world_size",
    "optim",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "bf16",
    "fp16",
    "metric_for_best_model",
    "load_best_model_at_end",
    "seed",
)


def training_facts(
    model: Any,
    args: Any,
    state: Any,
    splits: Mapping[str, WindowDataset],
    results: Mapping[str, SpanMetrics],
    minutes: float | None,
) -> dict[str, Any]:
    """Collect the facts for the model card. Unknown facts are omitted.

    Args:
        model: the fine-tuned `BinderModel`, without wrappers for distributed training.
        args, state: arguments and state of the trainer.
        splits: name of each split ("train", "dev", "test") -> its windows.
        results: name of each evaluated split -> metrics of the current weights.
        minutes: duration of the training in minutes. None means unknown: the training was resumed from a checkpoint.
    """
    settings: dict[str, Any] = {"text encoder": _encoder(model.config.text_config)}
    if model.config.type_config is not None:
        settings["type encoder"] = _encoder(model.config.type_config)
    settings |= {name: getattr(model.config, name) for name in _MODEL_SETTINGS}
    settings |= {name: getattr(args, name) for name in _TRAINING_SETTINGS}
    if args.max_steps <= 0:
        del settings["max_steps"]
    run: dict[str, Any] = {"hardware": hardware()}
    if minutes is not None:
        run["minutes of training"] = f"{minutes:.1f}"
    if state.global_step:
        run["epochs run"] = f"{state.epoch:.2f}".rstrip("0").rstrip(".")
        run["optimizer steps"] = state.global_step
    if state.best_global_step and args.load_best_model_at_end:
        run["checkpoint kept"] = (
            f"step {state.best_global_step}, with the best {args.metric_for_best_model} of all evaluations"
        )
    return {
        "weights": fingerprint(model),
        "evaluated": evaluation_settings(unwrapped(model).config),
        "base_model": base_models(model),
        "data": {name: SplitReport.of(name, dataset).to_dict() for name, dataset in splits.items()},
        "results": {split: metrics.to_dict() for split, metrics in results.items()},
        "hyper_parameters": {name: _plain(value) for name, value in settings.items() if value is not None},
        "training": run,
        "versions": versions(),
    }


def _encoder(config: Any) -> str:
    return f"{config.model_type}, {config.num_hidden_layers} layers, {config.hidden_size} wide"


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)  # JSON cannot store an enum, so return its value
