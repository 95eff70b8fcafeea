"""Which checkpoint an interrupted run goes on from."""

import json
import re
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")


def last_whole_checkpoint(output: Path) -> str | None:
    """The checkpoint with most steps in a run's folder; None where there is none.

    One that a kill left half-written, which `transformers.trainer_utils.get_last_checkpoint` would name, is stepped
    over: the run that goes on writes it again.
    """
    steps = {int(name[1]): path for path in output.glob("*") if (name := _NAME.fullmatch(path.name))}
    return next((str(steps[step]) for step in sorted(steps, reverse=True) if _is_whole(steps[step])), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))  # Trainer writes it last
    except (FileNotFoundError, ValueError):
        return False
    return True
