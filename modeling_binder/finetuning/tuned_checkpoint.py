"""Write tuned thresholds and temperatures into a checkpoint, and tell them in its model card."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import metadata_load, snapshot_download
from transformers import AutoModel, AutoTokenizer

from ..hub import FACTS_FILE, facts_of, fingerprint, write_card
from .thresholds import TunedThresholds

_CONFIG, _CARD = "config.json", "README.md"
_MODEL_OF_CODE = re.compile(r'pipeline\("binder-ner", model="((?:[^"\\]|\\.)+)"')


def check_target(checkpoint: str | os.PathLike[str], output: str | os.PathLike[str] | None) -> None:
    """Check that `save_tuned` can write, before the model runs.

    Raises:
        ValueError: the checkpoint is on the Hub and there is no output folder, or the output folder exists.
        OSError: the folder cannot be written.
    """
    folder = Path(checkpoint if output is None else output)
    if output is None:
        if not folder.is_dir():
            raise ValueError(
                f"{checkpoint} is not a local folder, so it cannot be changed in place: add --output FOLDER "
                "(output=... in Python)."
            )
        if not (folder / _CONFIG).is_file():
            raise ValueError(f"{folder} is not a checkpoint: it has no {_CONFIG}.")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} already exists: choose another folder for the output.")
    else:
        folder = folder.absolute().parent
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = " Write a changed copy instead: --output FOLDER." if output is None else ""
        raise OSError(f"{folder} cannot be written: {error.strerror or error}.{advice}") from error


def save_tuned(
    tuned: TunedThresholds, checkpoint: str | os.PathLike[str], output: str | os.PathLike[str] | None = None
) -> Path:
    """Write thresholds and temperatures into config.json, and their effect into the model card.

    All other files stay as they are, bit for bit. The new files are complete before the first one replaces an old one,
    and if replacing fails, the old files are restored. The card is written anew from model_card.json. A README.md
    without a model_card.json was not made by this package and stays as it is.

    Args:
        tuned: the result of `tune_thresholds`.
        checkpoint: folder, or id on the Hub.
        output: a new folder for a changed copy of the checkpoint. Defaults to changing the checkpoint itself.

    Returns:
        The folder that was written.

    Raises:
        ValueError, OSError: see `check_target`.
    """
    check_target(checkpoint, output)
    source = Path(checkpoint) if Path(checkpoint).is_dir() else Path(snapshot_download(str(checkpoint)))
    target = source if output is None else Path(output).absolute()
    with tempfile.TemporaryDirectory(dir=target.parent if output else source, prefix=".tuned-") as temporary:
        changed = Path(temporary, "changed")
        changed.mkdir()
        _write_config(tuned, source, changed)
        _write_card(tuned, source, changed)
        if output is None:
            _replace_files(changed, source)
            return source
        copy = Path(temporary, "copy")
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns(".tuned-*", ".cache"))
        for path in changed.iterdir():
            os.replace(path, copy / path.name)
        os.replace(copy, target)  # replaces an empty folder too
    return target


def _write_config(tuned: TunedThresholds, source: Path, folder: Path) -> None:
    """Write config.json with the new values."""
    config = json.loads((source / _CONFIG).read_text(encoding="utf-8"))
    defaults = {"thresholds": None, "default_threshold": 0.5, "temperatures": None, "default_temperature": 1.0}
    for name, value in tuned.fields().items():
        if name in config or value != defaults[name]:
            config[name] = value
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"  # as transformers writes it
    (folder / _CONFIG).write_text(text, encoding="utf-8")
    shutil.copymode(source / _CONFIG, folder / _CONFIG)


def _write_card(tuned: TunedThresholds, source: Path, folder: Path) -> None:
    card = source / _CARD
    if card.exists() and not (source / FACTS_FILE).exists():
        return
    model, tokenizer = AutoModel.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    facts = {**facts_of(model), "weights": fingerprint(model), "thresholds": tuned.facts()}
    for name, value in tuned.fields().items():
        setattr(model.config, name, value)
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    named = _MODEL_OF_CODE.search(text)
    repo_id = json.loads(f'"{named[1]}"') if named else f"user/{source.resolve().name}"
    tags = (metadata_load(card) or {}).get("tags") if text.startswith("---") else None
    write_card(model, tokenizer, folder, repo_id, facts, tags or ())


def _replace_files(changed: Path, folder: Path) -> None:
    """Move all files of a folder into another one, config.json first; if that fails, restore the files there."""
    names = sorted((path.name for path in changed.iterdir()), key=lambda name: (name != _CONFIG, name))
    former = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    done: list[str] = []
    try:
        for name in names:
            if name in former:
                shutil.copymode(folder / name, changed / name)
            os.replace(changed / name, folder / name)
            done.append(name)
    except BaseException:
        for name in done:
            if name in former:
                (folder / name).write_bytes(former[name])
            else:
                (folder / name).unlink()
        raise
