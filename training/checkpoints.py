"""Find the checkpoint from which an interrupted training continues."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from modeling_binder.finetuning import Corpus
from modeling_binder.finetuning.data import write_json

_CHECKPOINT_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
_SETTINGS_NAME = "settings.json"

# Settings that may change when an interrupted training is continued
_RESUMABLE = {"output_dir", "restart", "resume_from_checkpoint", "report_to", "disable_tqdm", "logging_steps"}


def last_whole_checkpoint(output: Path) -> str | None:
    """Return the complete checkpoint with the most steps in the output folder of a training, or None.

    If the training was killed while it wrote a checkpoint, this checkpoint is incomplete, so it is skipped.
    `transformers.trainer_utils.get_last_checkpoint` would return it.
    """
    steps = {int(name[1]): path for path in output.glob("*") if (name := _CHECKPOINT_NAME.fullmatch(path.name))}
    return next((str(steps[step]) for step in sorted(steps, reverse=True) if _is_whole(steps[step])), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))  # Trainer writes it last
    except (FileNotFoundError, ValueError):
        return False
    return True


def save_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Save the settings of a training in its output folder, for `checkpoint_to_resume`."""
    write_json(output / _SETTINGS_NAME, dict(settings))


def checksum(corpus: Corpus) -> str:
    """Return a checksum of the data that determine a training: the entity types, and the documents of train and dev."""
    digest = hashlib.sha256(repr((corpus.entity_types, corpus.types)).encode("utf-8", "surrogatepass"))
    for document in (*corpus.train, None, *corpus.dev):
        digest.update(repr(document).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:12]


def checkpoint_to_resume(output: Path, settings: Mapping[str, Any]) -> str | None:
    """Return the last complete checkpoint of an earlier training in a folder, or None if there is no checkpoint.

    Args:
        output: output folder of the training.
        settings: settings of the new training. They are compared with the settings that `save_settings` saved. The key
            "data" has the `checksum` of its data.

    Raises:
        ValueError: the earlier training had other settings.
    """
    if (checkpoint := last_whole_checkpoint(output)) is None:
        return None
    saved = output / _SETTINGS_NAME
    before = json.loads(saved.read_text(encoding="utf-8")) if saved.exists() else {}
    now = json.loads(json.dumps(settings, default=str))
    before.setdefault("data", now.get("data"))  # earlier versions did not save it
    different = [
        f"{name}: {before.get(name)!r} before, {now.get(name)!r} now"
        for name in sorted({*before, *now} - _RESUMABLE)
        if before.get(name) != now.get(name)
    ]
    if different:
        raise ValueError(
            f"{output} holds an earlier run with other settings or data ({'; '.join(different)}). Pass another "
            "--output_dir, or start from the beginning with --restart true."
        )
    return checkpoint
