"""Checkpoints on the Hub: the files of a push, its model card, and what is known about a checkpoint."""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo
from torch import Tensor
from transformers import AutoTokenizer
from transformers.utils import cached_file

import hub_cards

from ..pipeline_binder import BinderNerPipeline
from .repository import check_access, hub_api, push_files

logger = logging.getLogger(__name__)

FACTS = "model_card.json"
# Weights of an earlier push that `from_pretrained` would prefer to, or mix with, the new ones
_STALE_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
# What an author says of a checkpoint, and stays true when its weights change
_SAID = ("language", "license", "base_model", "examples")


def push_model(
    model: Any,
    repo_id: str,
    *,
    tokenizer: Any = None,
    facts: Mapping[str, Any] | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    commit_description: str | None = None,
    tags: Sequence[str] | None = None,
    max_shard_size: int | str = "50GB",
) -> CommitInfo:
    """Push a model with everything that a stranger needs to use it, as one commit.

    Args:
        model: a `BinderModel`.
        repo_id: "user/name", or "name" in your own namespace; made if it is not there.
        tokenizer: defaults to the one of the folder or repository the model was loaded from, or of its text encoder.
        facts: what the card tells, see `hub_cards.model_card`; defaults to what stands beside the checkpoint.
        private: of a repository that is made by this push.
        token: defaults to HF_TOKEN or to `hf auth login`.
        revision: a branch, made if it is not there, or `refs/pr/N`.
        create_pr: open a pull request instead of committing.
        commit_message, commit_description: of the commit.
        tags: further tags of the card.
        max_shard_size: of a file of weights.

    Raises:
        PushError: nothing was changed on the Hub; the message says what to do.
        ValueError: no tokenizer could be found.
    """
    api = hub_api(token)
    repo_id = check_access(repo_id, token, write=not create_pr)
    with tempfile.TemporaryDirectory() as folder:
        prepare_model(
            model,
            folder,
            repo_id,
            tokenizer=tokenizer,
            facts=facts,
            tags=tags or (),
            max_shard_size=max_shard_size,
        )
        return push_model_folder(
            folder,
            repo_id,
            api=api,
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message or "Upload BINDER model",
            commit_description=commit_description,
        )


def push_model_folder(folder: str | os.PathLike[str], repo_id: str, **options: Any) -> CommitInfo:
    """Push what `prepare_model` wrote; the options are those of `push_files`."""
    return push_files(folder, repo_id, stale=_STALE_WEIGHTS, **options)


def prepare_model(
    model: Any,
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    tokenizer: Any = None,
    facts: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    max_shard_size: int | str = "50GB",
) -> None:
    """Write what a push of a model puts into its repository into a folder; see `push_model`."""
    folder = Path(folder)
    if tokenizer is None:
        tokenizer = _tokenizer_of(model)
    facts = facts_of(model) if facts is None else dict(facts)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(folder)
    write_card(model, tokenizer, folder, repo_id, facts, tags)
    shutil.copyfile(Path(hub_cards.__file__).parent / "handler.py", folder / "handler.py")


def write_card(
    model: Any,
    tokenizer: Any,
    folder: str | os.PathLike[str],
    repo_id: str,
    facts: Mapping[str, Any],
    tags: Sequence[str] = (),
) -> None:
    """Write README.md and model_card.json; the card shows what this very model finds in the examples."""
    facts = dict(facts)
    card = hub_cards.model_card(repo_id, model.config, facts, find_examples(model, tokenizer, facts), tags)
    Path(folder, FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    Path(folder, "README.md").write_text(str(card), encoding="utf-8")


def find_examples(model: Any, tokenizer: Any, facts: Mapping[str, Any], shown: int = 3) -> list[hub_cards.Example]:
    """What a model finds in the texts of `facts["examples"]`, or in those of our own in which it finds most."""
    if not model.config.entity_types:
        return []
    given = facts.get("examples")
    training, tokenizer_side = model.training, tokenizer.padding_side
    model.eval()
    try:
        pipe = BinderNerPipeline(model=model, tokenizer=tokenizer, task="binder-ner", device=model.device)
        found = [hub_cards.Example(text, pipe(text)) for text in given or hub_cards.EXAMPLES]
    finally:
        model.train(training)
        tokenizer.padding_side = tokenizer_side
    if given:
        return found

    def worth(example: hub_cards.Example) -> tuple[int, float]:
        return len({e["entity_group"] for e in example.entities}), sum(e["score"] - 0.5 for e in example.entities)

    # Sorting is stable: where nothing is found anywhere, the first sentences stand.
    return sorted(found, key=worth, reverse=True)[:shown]


def fingerprint(model: Any) -> str:
    """A hash of a model's weights: what was measured of a checkpoint is told of no other."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(_raw_bytes(tensor))
    return digest.hexdigest()


def _raw_bytes(tensor: Tensor) -> Any:
    """Return the bytes of a tensor of any dtype without copying them."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def facts_of(model: Any) -> dict[str, Any]:
    """What is known of a checkpoint, without what is of other weights.

    From its trainer, or from the model_card.json beside the checkpoint it was loaded from.
    """
    source, facts = "its training", getattr(model, "card_facts", None)
    if facts is None:
        source, facts = _read_facts(model)
    if not facts:
        return {"base_model": base_models(model)}
    said = {key: facts[key] for key in _SAID if _is_text(facts.get(key))}
    if facts.get("weights") != fingerprint(model):
        logger.warning("%s tells of other weights: the card will name no results and no training.", source)
        return said
    try:
        hub_cards.model_card("user/name", model.config, facts)  # whoever made the file, a card can be made of it
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("%s cannot be read and is left out of the card: %s", source, error)
        return said
    return {**facts, **said}


def _read_facts(model: Any) -> tuple[str, dict[str, Any]]:
    """Where a checkpoint's model_card.json lies and what it holds; nothing where there is none."""
    try:
        path = model.name_or_path and cached_file(
            model.name_or_path,
            FACTS,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
        return str(path), dict(json.loads(Path(path).read_text(encoding="utf-8"))) if path else {}
    except OSError:  # trained in this process, or its folder is gone
        return "", {}
    except (ValueError, TypeError) as error:
        logger.warning("%s cannot be read and is left out of the card: %s", path, error)
        return "", {}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def base_models(model: Any) -> list[str]:
    """Ids on the Hub of the encoders that a model was built from, as far as they are known."""
    configs = (model.config.text_config, model.config.type_config)
    names = [config._name_or_path for config in configs if config is not None]
    return [name for name in dict.fromkeys(names) if _is_repo_id(name)]


def _is_repo_id(name: str | None) -> bool:
    # "/a/folder" and "checkpoints/mine" on this machine are nobody else's business.
    return bool(name and re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not os.path.exists(name))


def _tokenizer_of(model: Any) -> Any:
    for source in (model.name_or_path, model.config.text_config._name_or_path):
        if source:
            try:
                return AutoTokenizer.from_pretrained(source)
            except (OSError, ValueError):
                continue
    raise ValueError(
        "a model is pushed with its tokenizer, and this one does not know its own: "
        "model.push_to_hub(repo_id, tokenizer=tokenizer)."
    )
