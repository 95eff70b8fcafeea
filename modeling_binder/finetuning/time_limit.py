"""A limit on the minutes that a training run may take."""

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl


class Clock:
    """Measures which share of its time a training run has used.

    Args:
        minutes: from the beginning of the training to the end of its last evaluation; None for no limit.
    """

    RESERVE = 0.03  # share of the time that is kept for the last evaluation, if that takes no longer

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self.began = time.monotonic()
        self.progress = 0.0  # share of the time for training that has passed, the same in all processes
        self._evaluation = 0.0  # seconds of the longest evaluation of all data sets
        self._running = 0.0  # seconds of the data sets evaluated one after the other
        self._last: float | None = None

    def evaluated(self, seconds: float) -> None:
        """Record that the evaluation of a data set, which has just ended, took so many seconds."""
        now = time.monotonic()
        consecutive = self._last is not None and now - self._last < seconds + 5
        self._running = seconds + (self._running if consecutive else 0.0)
        self._last = now
        self._evaluation = max(self._evaluation, self._running)

    def update(self, device: torch.device) -> None:
        """Compute `progress`; with several processes the first one decides."""
        if self.minutes is None:
            return
        reserve = max(1.2 * self._evaluation, self.RESERVE * 60 * self.minutes)
        self.progress = (time.monotonic() - self.began) / max(60 * self.minutes - reserve, 1e-9)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            value = torch.tensor([self.progress], dtype=torch.float32, device=device)
            torch.distributed.broadcast(value, 0)
            self.progress = float(value.item())

    def scaled(self, factor: Callable[[int], float], steps: int) -> Callable[[int], float]:
        """Return a schedule over `steps` that also advances with the time."""
        return lambda step: factor(max(step, min(steps, int(steps * self.progress))))


class StopInTime(TrainerCallback):
    """Evaluates, saves and stops the training when its time is used up."""

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
