"""Limit the time of a training."""

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl


class Clock:
    """Measures the progress of a training: elapsed time / time for training.

    The time for training is the time limit minus a reserve for the last evaluation.

    Args:
        minutes: time limit in minutes, from the start of training to the end of the last evaluation. None means no
            limit.
    """

    RESERVE = 0.03  # minimum share of the time limit that is reserved for the last evaluation

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self.began = time.monotonic()
        self.progress = 0.0  # elapsed time / time for training, the same in all processes
        self._evaluation = 0.0  # seconds of the longest evaluation so far, summed over its data sets
        self._running = 0.0  # seconds of the current evaluation, summed over its data sets
        self._last: float | None = None

    def evaluated(self, seconds: float) -> None:
        """Record the duration of an evaluation of a data set that has just ended."""
        now = time.monotonic()
        consecutive = self._last is not None and now - self._last < seconds + 5
        self._running = seconds + (self._running if consecutive else 0.0)
        self._last = now
        self._evaluation = max(self._evaluation, self._running)

    def update(self, device: torch.device) -> None:
        """Compute `progress`. All processes use the value of the first process, so that they stop together."""
        if self.minutes is None:
            return
        reserve = max(1.2 * self._evaluation, self.RESERVE * 60 * self.minutes)
        self.progress = (time.monotonic() - self.began) / max(60 * self.minutes - reserve, 1e-9)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            value = torch.tensor([self.progress], dtype=torch.float32, device=device)
            torch.distributed.broadcast(value, 0)
            self.progress = float(value.item())

    def scaled(self, factor: Callable[[int], float], steps: int) -> Callable[[int], float]:
        """Return a learning rate schedule that depends on the number of steps and on the time.

        Args:
            factor: schedule without a time limit: step -> factor of the learning rate.
            steps: total number of steps. At each step, the new schedule uses the factor of this step, or of the step
                `steps * progress` if it is later.
        """
        return lambda step: factor(max(step, min(steps, int(steps * self.progress))))


class StopInTime(TrainerCallback):
    """A callback that stops the training when its time is over (`Clock.progress` >= 1), evaluates and saves."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        self.clock.update(args.device)
        if self.clock.progress >= 1:
            control.should_training_stop = True
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = args.save_strategy != "no"
        return control
