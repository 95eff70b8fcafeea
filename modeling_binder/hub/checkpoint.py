"""Push checkpoints to the Hub, and generate their model cards. A card is generated from facts in model_card.json."""

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
from transformers import AutoModel, AutoTokenizer
from transformers.utils import cached_file

import hub_cards

from ..adapters_binder import active_adapter, unwrapped
from ..finetuning.files import written_whole
from ..pipeline_binder import BinderNerPipeline
from ..tokenizers_binder import TYPE_TOKENIZER_FOLDER
from .adapter import ADAPTER_FILES, COMPLETE_FILES, adapter_facts, adapter_weights, check_base, save_adapter
from .repository import check_access, hub_api, push_files

logger = logging.getLogger(__name__)

FACTS_FILE = "model_card.json"
_EXPORTED_ENCODERS = ("*_encoder.onnx", "*_encoder.xml", "*_encoder.bin")
# A new push removes these files of an earlier push. Otherwise `from_pretrained` could load old and new files together.
_STALE_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json", *_EXPORTED_ENCODERS)
_STALE_TOKENIZER = f"{TYPE_TOKENIZER_FOLDER}/*"  # the tokenizer of the type encoder, if the earlier push had one
# Facts by the author, which are also true for other weights
_AUTHOR_FACTS = ("language", "license", "base_model", "examples", "limits", "datasets")


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
    """Push a model with its tokenizer, code, card and handler in one commit.

    Args:
        model: a `BinderModel`. If it has adapters, or is a `PeftModel`, only its active adapter is pushed.
        repo_id: "user/name", or "name" in your own namespace. The repository is created if it does not exist.
        tokenizer: the tokenizer of the model. Defaults to the tokenizer in the folder or repository from which the
            model was loaded. If there is none, defaults to the tokenizer of the text encoder.
        facts: facts for the card, see `hub_cards.model_card`. Defaults to the model_card.json of the checkpoint.
        private: if this push creates the repository, make it private.
        token: access token. Defaults to HF_TOKEN or to the token of `hf auth login`.
        revision: a branch, which is created if it does not exist, or `refs/pr/N`.
        create_pr: open a pull request instead of committing.
        commit_message, commit_description: title and text of the commit.
        tags: additional tags for the card.
        max_shard_size: maximum size of a file of weights.

    Raises:
        PushError: the push failed, and nothing was changed on the Hub.
        ValueError: no tokenizer was found, or the base model of an adapter is not on the Hub.
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
    """Push a folder that `prepare_model` has written. For the options, see `push_files`."""
    other_kind = COMPLETE_FILES if Path(folder, ADAPTER_FILES[0]).exists() else ADAPTER_FILES
    return push_files(folder, repo_id, stale=(*_STALE_WEIGHTS, _STALE_TOKENIZER, *other_kind), **options)


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
    """Write all files of the repository of a model or an adapter to a folder. For the arguments, see `push_model`."""
    folder = Path(folder)
    if tokenizer is None:
        tokenizer = _tokenizer_of(unwrapped(model))
    facts = facts_of(model) if facts is None else dict(facts)
    if active_adapter(model) is not None:
        check_base(model)
        save_adapter(model, folder)
        tokenizer.save_pretrained(folder)
        write_card(model, tokenizer, folder, repo_id, facts, tags)
        return
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
    """Write README.md (the model card) and model_card.json (its facts).

    The card shows the entities that this model finds in example texts.
    """
    facts = dict(facts)
    examples = find_examples(unwrapped(model), tokenizer, facts)
    if active_adapter(model) is not None:
        facts |= adapter_facts(model)
        facts["adapter"]["base_license"] = _facts_in(facts["adapter"]["base"])[1].get("license")
    card = hub_cards.model_card(repo_id, model.config, facts, examples, tags, uncased=_is_uncased(tokenizer))
    with written_whole(Path(folder, FACTS_FILE)) as file:
        file.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    with written_whole(Path(folder, "README.md")) as file:
        file.write(str(card))


def rewrite_card(folder: str | os.PathLike[str], repo_id: str, tags: Sequence[str] = (), **facts: Any) -> None:
    """Write the card of a saved checkpoint again, with new or corrected facts.

    Args:
        folder: a folder with a checkpoint and its tokenizer.
        repo_id: "user/name" for the example code of the card.
        tags: additional tags for the card.
        facts: facts that replace facts in the model_card.json of the checkpoint, see `hub_cards.model_card`. If
            model_card.json belongs to other weights, its results and training facts are dropped. To keep them, pass
            `weights=fingerprint(model)`, which confirms that they are true for these weights too.
    """
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    _, saved = _read_facts(model)
    model.card_facts = {**saved, **facts}
    write_card(model, tokenizer, folder, repo_id, facts_of(model), tags)


def _is_uncased(tokenizer: Any) -> bool:
    """Return whether the tokenizer ignores the case of letters."""
    cased, uncased = (tokenizer(text, add_special_tokens=False).input_ids for text in ("Oslo DNA", "oslo dna"))
    return bool(cased == uncased)


def find_examples(model: Any, tokenizer: Any, facts: Mapping[str, Any], shown: int = 3) -> list[hub_cards.Example]:
    """Return texts with the entities that a model finds in them.

    Args:
        model, tokenizer: a `BinderModel` and its tokenizer.
        facts: may have a list `examples`. Each item is a text, or `{"text": ..., "entity_types": {name: description}}`.
            Without this list, the model runs on the examples of `hub_cards`. The examples with the most found types are
            returned.
        shown: maximum number of returned examples if `facts` has no examples.
    """
    given = facts.get("examples")
    own: Sequence[Any] = hub_cards.EXAMPLES if model.config.entity_types else hub_cards.OPEN_EXAMPLES
    inputs = [_example_input(item) for item in given or own]
    if not model.config.entity_types:
        inputs = [(text, types) for text, types in inputs if types]
    training, tokenizer_side = model.training, tokenizer.padding_side
    model.eval()
    try:
        pipe = BinderNerPipeline(model=model, tokenizer=tokenizer, task="binder-ner", device=model.device)
        found = [hub_cards.Example(text, pipe(text, entity_types=types), types) for text, types in inputs]
    finally:
        model.train(training)
        tokenizer.padding_side = tokenizer_side
    if given:
        return found

    def worth(example: hub_cards.Example) -> tuple[int, float]:
        return len({e["entity_group"] for e in example.entities}), sum(e["score"] - 0.5 for e in example.entities)

    # Sorting is stable. So if no sentence has entities, the first sentences are returned.
    return sorted(found, key=worth, reverse=True)[:shown]


def _example_input(example: Any) -> tuple[str, dict[str, str] | None]:
    """Return the text and the entity types of an example."""
    if isinstance(example, str):
        return example, None
    if isinstance(example, Mapping):
        return example["text"], example.get("entity_types")
    text, types = example
    return text, types


def fingerprint(model: Any) -> str:
    """Return a hash of the weights of a model. If it has adapters, hash only the weights of the active adapter.

    The facts of a card contain this hash, so that a card never shows the results of other weights.
    """
    digest = hashlib.sha256()
    weights = model.state_dict() if active_adapter(model) is None else adapter_weights(model)
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(_raw_bytes(tensor))
    return digest.hexdigest()


def _raw_bytes(tensor: Tensor) -> Any:
    """Return the bytes of a tensor of any dtype without copying them."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def evaluation_settings(config: Any) -> dict[str, Any]:
    """Return the settings of a configuration that change the results of an evaluation, as JSON values."""
    names = ("decoding", "inference", "thresholds", "default_threshold")
    settings = {"entity_types": config.type_descriptions, **{name: getattr(config, name) for name in names}}
    return dict(json.loads(json.dumps(settings)))


def facts_of(model: Any) -> dict[str, Any]:
    """Return the facts for the card of a checkpoint, without facts that belong to other weights or settings.

    The facts come from the trainer, or from the model_card.json of the checkpoint from which the model was loaded.
    """
    source, facts = "the trainer", getattr(unwrapped(model), "card_facts", None)
    if facts is None:
        source, facts = _read_facts(model)
    if not facts:
        return {"base_model": base_models(model)}
    stated = {key: facts[key] for key in _AUTHOR_FACTS if _is_author_fact(facts.get(key))}
    if facts.get("weights") != fingerprint(model):
        logger.warning("The facts from %s belong to other weights: the card omits results and training.", source)
        return stated
    try:
        hub_cards.model_card("user/name", model.config, facts)  # the file may be malformed
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("The facts from %s are malformed and left out of the card: %s", source, error)
        return stated
    if _settings_changed(facts, unwrapped(model).config):
        logger.warning("The results from %s belong to other settings of the model: the card omits them.", source)
        facts = {name: value for name, value in facts.items() if name != "results"}
    return {**facts, **stated}


def _settings_changed(facts: Mapping[str, Any], config: Any) -> bool:
    """Return whether a setting has changed since the evaluation, except tuned thresholds, which the card names."""
    now = evaluation_settings(config)
    tuned = ("thresholds", "default_threshold") if facts.get("thresholds") else ()
    return any(value != now.get(name) for name, value in facts.get("evaluated", {}).items() if name not in tuned)


def _read_facts(model: Any) -> tuple[str, dict[str, Any]]:
    """Return the path and the content of the model_card.json of a checkpoint. Both are empty if it has none."""
    return _facts_in(unwrapped(model).source)


def _facts_in(source: str) -> tuple[str, dict[str, Any]]:
    """Return the path and the content of model_card.json in a folder or repository. Both are empty if it has none."""
    try:
        path = source and cached_file(
            source,
            FACTS_FILE,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
        return str(path), dict(json.loads(Path(path).read_text(encoding="utf-8"))) if path else {}
    except OSError:  # the model was not loaded from a checkpoint, or the folder was deleted
        return "", {}
    except (ValueError, TypeError) as error:
        logger.warning("%s is malformed and left out of the card: %s", path, error)
        return "", {}


def _is_author_fact(value: Any) -> bool:
    """Return whether a value is a text, or a list of texts and of examples with entity types."""
    return isinstance(value, str) or (isinstance(value, list) and all(map(_is_text_or_example, value)))


def _is_text_or_example(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return isinstance(value, str)
    types = value.get("entity_types", {})
    texts = [value.get("text"), *types, *types.values()] if isinstance(types, Mapping) else [None]
    return all(isinstance(text, str) for text in texts)


def base_models(model: Any) -> list[str]:
    """Return the ids on the Hub of the pretrained encoders of a model, if its configuration has these ids."""
    configs = (model.config.text_config, model.config.type_config)
    names = [config._name_or_path for config in configs if config is not None]
    return [name for name in dict.fromkeys(names) if _is_repo_id(name)]


def _is_repo_id(name: str | None) -> bool:
    # A local path such as "checkpoints/mine" looks like an id on the Hub, but must not be published.
    return bool(name and re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not os.path.exists(name))


def _tokenizer_of(model: Any) -> Any:
    for source in (model.name_or_path, model.config.text_config._name_or_path):
        if source:
            try:
                return AutoTokenizer.from_pretrained(source)
            except (OSError, ValueError):
                continue
    raise ValueError(
        "no tokenizer was found for this model: pass the tokenizer, as in "
        "model.push_to_hub(repo_id, tokenizer=tokenizer)."
    )
