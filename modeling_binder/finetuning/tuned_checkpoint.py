"""Write tuned thresholds and temperatures into a checkpoint and its model card."""

import json
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

from huggingface_hub import metadata_load, snapshot_download
from transformers import AutoModel

from ..adapters_binder import ADAPTER_CONFIG, ADAPTER_SETTINGS, save_adapter_settings
from ..hub import FACTS_FILE, facts_of, fingerprint, write_card
from ..loading import load_tokenizer
from .thresholds import TunedThresholds

_CONFIG, _CARD = "config.json", "README.md"
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_MODEL_OF_CODE = re.compile(r'pipeline\("binder-ner", model="((?:[^"\\]|\\.)+)"')


def check_target(checkpoint: str | os.PathLike[str], output: str | os.PathLike[str] | None) -> None:
    """Check that `save_tuned` will be able to write. Call it before a long computation.

    Raises:
        ValueError: the checkpoint does not exist; it is on the Hub and no output folder is given; or the output folder
            already exists.
        OSError: the folder cannot be written.
    """
    if not Path(checkpoint).exists() and not _HUB_ID.fullmatch(str(checkpoint)):
        raise ValueError(f"cannot load the model {str(checkpoint)!r}: there is no such folder.")
    folder = Path(checkpoint if output is None else output)
    if output is None:
        if not folder.is_dir():
            raise ValueError(
                f"{checkpoint} is not a local folder, so it cannot be changed in place: add --output FOLDER "
                "(output=... in Python)."
            )
        if not (folder / _CONFIG).is_file() and not _is_adapter(folder):
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
    """Write thresholds and temperatures into config.json, and metrics before and after into the model card.

    For an adapter, the thresholds are written into its binder_config.json. The base model is not changed. All other
    files stay unchanged. The function writes all new files before it replaces an old file. If a replacement fails, it
    restores the old files. The model card is generated again from model_card.json. If there is no model_card.json, this
    package did not generate README.md, so it stays unchanged.

    Args:
        tuned: the result of `tune_thresholds`.
        checkpoint: folder, or id on the Hub.
        output: a new folder for a changed copy of the checkpoint. By default, the checkpoint itself is changed.

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
        for path in (copy, *copy.rglob("*"), *changed.iterdir()):
            path.chmod(path.stat().st_mode | stat.S_IWUSR)  # the checkpoint may be read-only, but its copy is not
        for path in changed.iterdir():
            os.replace(path, copy / path.name)
        os.replace(copy, target)  # `target` may be an existing empty folder
    return target


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / _CONFIG).is_file()


def _write_config(tuned: TunedThresholds, source: Path, folder: Path) -> None:
    """Write config.json with the new values. For an adapter, write its binder_config.json."""
    if _is_adapter(source):
        config = AutoModel.from_pretrained(source).config
        for name, value in tuned.fields().items():
            setattr(config, name, value)
        save_adapter_settings(config, folder)
        if (source / ADAPTER_SETTINGS).exists():
            shutil.copymode(source / ADAPTER_SETTINGS, folder / ADAPTER_SETTINGS)
        return
    config = json.loads((source / _CONFIG).read_text(encoding="utf-8"))
    defaults = {"thresholds": None, "default_threshold": 0.5, "temperatures": None, "default_temperature": 1.0}
    for name, value in tuned.fields().items():
        if name in config or value != defaults[name]:
            config[name] = value
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"  # same format as in transformers
    (folder / _CONFIG).write_text(text, encoding="utf-8")
    shutil.copymode(source / _CONFIG, folder / _CONFIG)


def _write_card(tuned: TunedThresholds, source: Path, folder: Path) -> None:
    card = source / _CARD
    if card.exists() and not (source / FACTS_FILE).exists():
        return
    model, tokenizer = AutoModel.from_pretrained(source), load_tokenizer(source)
    facts = {**facts_of(model), "weights": fingerprint(model), "thresholds": tuned.facts()}
    for name, value in tuned.fields().items():
        setattr(model.config, name, value)
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    named = _MODEL_OF_CODE.search(text)
    repo_id = json.loads(f'"{named[1]}"') if named else f"user/{source.resolve().name}"
    tags = (metadata_load(card) or {}).get("tags") if text.startswith("---") else None
    write_card(model, tokenizer, folder, repo_id, facts, tags or ())


def _replace_files(changed: Path, folder: Path) -> None:
    """Move all files from `changed` to `folder`, the configuration first. If this fails, restore `folder`."""
    names = sorted(
        (path.name for path in changed.iterdir()), key=lambda name: (name not in (_CONFIG, ADAPTER_SETTINGS), name)
    )
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
