"""Train with a `Trainer` of transformers, or a subclass of another package, until the time of a run is over.

This module is imported in the environments of several contenders, with different versions of transformers.
"""

from typing import Any

from transformers import TrainerCallback

from .base import Contender, Run


def timed(trainer_class: type[Any], run: Run) -> type[Any]:
    """Return a subclass of a trainer whose learning rate follows the clock of a run instead of the number of steps."""

    class Timed(trainer_class):
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            from torch.optim.lr_scheduler import LambdaLR

            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, lambda _: run.factor())
            return self.lr_scheduler

    return Timed


class AfterStep(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """A callback that evaluates and stops when the clock of the run says so."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if self.contender.run.after_step(self.contender, state.global_step, state.epoch):
            control.should_training_stop = True
        return control


def trainer_arguments(run: Run, batch_size: int) -> dict[str, Any]:
    """Return arguments for `TrainingArguments`: no end, no evaluation and no checkpoints of the trainer's own."""
    return {
        "output_dir": str(run.output / "trainer"),
        "learning_rate": run.settings.learning_rate,
        "num_train_epochs": 10_000,
        "per_device_train_batch_size": batch_size,
        "bf16": run.settings.bf16,
        "seed": run.settings.seed,
        "use_cpu": True,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_steps": 50,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
    }
