"""A limit on the minutes that a training run may take."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl


class Clock:
    """The time that a training run may take.

    Args:
        minutes: from its beginning to its last evaluation; None without a limit.
    """

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self.began = time.monotonic()
        self._last_evaluation = self._sum = 0.0
        self._since = -1.0

    def evaluated(self, seconds: float) -> None:
        """Note what the evaluation of a data set took, so that the last one ends in time."""
        now = time.monotonic()
        self._sum = seconds if now - self._since > seconds + 5 else self._sum + seconds
        self._since = now
        self._last_evaluation = max(self._last_evaluation, self._sum)

    def progress(self) -> float:
        """Share of the time for training that has passed."""
        if self.minutes is None:
            return 0.0
        reserve = max(1.2 * self._last_evaluation, 0.03 * 60 * self.minutes)
        return (time.monotonic() - self.began) / max(60 * self.minutes - reserve, 1e-9)

    def scaled(self, factor: Any, steps: int) -> Any:
        """A schedule over the steps as one over the time, where that is further on."""
        return lambda step: factor(max(step, min(steps, int(steps * self.progress()))))


class StopInTime(TrainerCallback):
    """Evaluates, saves and stops the training when the time is over."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        if self.clock.progress() >= 1:
            control.should_training_stop = True
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = args.save_strategy != "no"
        return control
