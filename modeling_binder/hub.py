"""Sharing on the Hub: a checkpoint, or a corpus, with its card, as one commit.

`model.push_to_hub`, `pipe.push_to_hub` and `trainer.push_to_hub` all end here. After a push the repository holds
config.json, model.safetensors, the tokenizer, the code that loads them, README.md (the card), model_card.json (what the
card is made of) and handler.py (Inference Endpoints). Pickles never go up.
"""

import fnmatch
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id
from transformers import AutoTokenizer
from transformers.utils import cached_file

import hub_cards

from .cache_binder import raw
from .pipeline_binder import BinderNerPipeline

logger = logging.getLogger(__name__)

FACTS = "model_card.json"
# Weights of an earlier push that `from_pretrained` would prefer to, or mix with, the new ones
_STALE_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
# What an author says of a checkpoint, and stays true when its weights change
_SAID = ("language", "license", "base_model", "examples")
_HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]  # of httpx or httpx2, as huggingface_hub uses
_ATTEMPTS = 5


class PushError(RuntimeError):
    """A push failed; the message says why and what to do. The checkpoint and the repository are as they were."""


# ---- models ----


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
    api = _api(token)
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
        # Telling of a checkpoint leaves no trace in its folder.
        pipe = BinderNerPipeline(
            model=model, tokenizer=tokenizer, task="binder-ner", device=model.device, type_cache=False
        )
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
        digest.update(raw(tensor))
    return digest.hexdigest()


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


def hardware() -> str:
    """The processors of this machine, for the card."""
    if torch.cuda.is_available():
        count, name = torch.cuda.device_count(), torch.cuda.get_device_name(0)
        return name if count == 1 else f"{count} x {name}"
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        name = names[0] if names else name
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''} of {name}"


def versions() -> dict[str, str]:
    """Versions of the software that decides what a model does."""
    found = {"Python": platform.python_version()}
    for library in ("binder-ner", "torch", "transformers", "tokenizers", "accelerate"):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


# ---- corpora ----


def push_dataset(
    corpus: Any,
    repo_id: str,
    *,
    language: str | Sequence[str] | None = None,
    license: str | None = None,
    description: str = "",
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    commit_description: str | None = None,
) -> CommitInfo:
    """Push a corpus with its types and a card, as one commit; `datasets.load_dataset(repo_id)` reads it.

    Args:
        corpus: a `finetuning.Corpus`; splits without documents are left out.
        repo_id: "user/name" of the dataset, made if it is not there.
        language, license, description: for the card.
        private, token, revision, create_pr, commit_message, commit_description: as in `push_model`.

    Raises:
        PushError: nothing was changed on the Hub; the message says what to do.
        ValueError: the corpus has no documents.
    """
    from .finetuning.data import write_json, write_jsonl
    from .finetuning.metrics import nested_flags

    splits = {name: getattr(corpus, name) for name in ("train", "dev", "test") if getattr(corpus, name)}
    if not splits:
        raise ValueError("the corpus has no documents: there is nothing to push.")
    counts = {
        name: {
            "documents": len(documents),
            "mentions": {
                label: sum(mention.label == label for document in documents for mention in document.entities)
                for label in corpus.entity_types
            },
            "nested": sum(sum(nested_flags(document.entities)) for document in documents),
        }
        for name, documents in splits.items()
    }
    repo_id = check_access(repo_id, token, write=not create_pr)
    with tempfile.TemporaryDirectory() as folder:
        for name, documents in splits.items():
            write_jsonl(Path(folder, f"{name}.jsonl"), documents)
        write_json(Path(folder, "types.json"), corpus.entity_types)
        card = hub_cards.dataset_card(repo_id, corpus.entity_types, counts, language, license, description)
        Path(folder, "README.md").write_text(str(card), encoding="utf-8")
        return push_files(
            folder,
            repo_id,
            api=_api(token),
            repo_type="dataset",
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message or "Upload corpus",
            commit_description=commit_description,
        )


# ---- any repository ----


def check_access(repo_id: str, token: str | bool | None = None, write: bool = True) -> str:
    """Whether a push to a repository can be tried, before work is put into it; changes nothing.

    Args:
        repo_id: "user/name", or "name" in your own namespace.
        token: defaults to HF_TOKEN or to `hf auth login`.
        write: false for a pull request, which needs no rights in the namespace.

    Returns:
        "user/name".

    Raises:
        PushError: nobody is logged in, or the namespace is neither yours nor of an organisation you belong to.
        ValueError: the name is no name of a repository.
    """
    validate_repo_id(repo_id)
    with explained(repo_id):
        me = _api(token).whoami()
    namespaces = [me["name"], *(organisation["name"] for organisation in me.get("orgs", []))]
    if "/" not in repo_id:
        return f"{me['name']}/{repo_id}"
    if write and repo_id.split("/")[0] not in namespaces:
        raise PushError(
            f"{me['name']} may not write to {repo_id}: its namespace is none of {', '.join(namespaces)}. Push to "
            f"{me['name']}/{repo_id.split('/')[1]}, or, if the repository exists, open a pull request with "
            "create_pr=True."
        )
    return repo_id


def push_files(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    api: HfApi,
    repo_type: str = "model",
    stale: Sequence[str] = (),
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str,
    commit_description: str | None = None,
    space_sdk: str | None = None,
) -> CommitInfo:
    """Make a repository hold the files of a folder, in one commit on top of what is there.

    Files of others stay, except those that match a pattern of `stale` and are not in the folder. If another commit
    comes in between, the commit is made again on top of that one. If it fails, a repository or a branch that was made
    for it is removed again.

    Raises:
        PushError: the repository is as it was; the message says what to do.
    """
    where: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(Path(folder).rglob("*")) if path.is_file()}
    undo: list[_Undo] = []
    with explained(repo_id, undo):
        if _created(
            lambda: api.create_repo(**where, private=private, exist_ok=False, space_sdk=space_sdk),
            lambda: api.repo_exists(**where),
        ):
            undo.append(_Undo(api, where, "repository", api.repo_info(**where).sha))
        branch = revision if revision != "main" and not create_pr and not (revision or "").startswith("refs/") else None
        if branch is not None and _created(
            lambda: api.create_branch(**where, branch=branch, exist_ok=False),
            lambda: api.revision_exists(**where, revision=branch),
        ):
            undo.append(_Undo(api, where, "branch", api.repo_info(**where, revision=branch).sha, branch))
        for attempt in range(_ATTEMPTS):
            head = api.repo_info(**where, revision=revision).sha
            there = api.list_repo_files(**where, revision=head)
            gone = [name for name in there if name not in paths and any(fnmatch.fnmatch(name, p) for p in stale)]
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in paths.items()),
                *(CommitOperationDelete(path_in_repo=name) for name in gone),
            ]
            try:
                return api.create_commit(
                    **where,
                    operations=iter(operations),
                    commit_message=commit_message,
                    commit_description=commit_description,
                    revision=revision,
                    create_pr=create_pr,
                    parent_commit=head,
                )
            except HfHubHTTPError as error:
                if error.response.status_code != 412 or attempt == _ATTEMPTS - 1:
                    raise
                logger.info("another commit to %s came first; trying again on top of it", repo_id)
    raise AssertionError("unreachable")  # pragma: no cover


def _api(token: str | bool | None) -> HfApi:
    from . import __version__

    return HfApi(token=token, library_name="binder-ner", library_version=__version__)


def _created(create: Callable[[], Any], exists: Callable[[], bool]) -> bool:
    """Create something on the Hub; false where it is there already."""
    try:
        create()
    except HfHubHTTPError as error:
        # Who may not make a repository in a namespace may still write to one that is there, or open a pull request.
        if error.response.status_code == 409 or (error.response.status_code in (401, 403) and exists()):
            return False
        raise
    return True


@dataclass(frozen=True)
class _Undo:
    """Removes a repository or a branch that was made for a push, unless something was committed to it since."""

    api: HfApi
    where: Mapping[str, Any]
    kind: str
    head: str | None
    branch: str | None = None

    def __call__(self) -> None:
        if self.api.repo_info(**self.where, revision=self.branch).sha != self.head:
            return  # the commit came through, and only its answer was lost
        if self.branch is None:
            self.api.delete_repo(**self.where)
        else:
            self.api.delete_branch(**self.where, branch=self.branch)


@contextmanager
def explained(repo_id: str, undo: Sequence[_Undo] = ()) -> Iterator[None]:
    """Turn what goes wrong on the way to the Hub into a `PushError`, after undoing what was done, last first."""
    try:
        yield
    except BaseException as error:
        left = []
        for step in reversed(undo):
            try:
                step()
            except Exception as failure:
                logger.debug("undoing failed", exc_info=failure)
                left.append(f"the empty {step.kind}")
        cause: BaseException | None = error  # of an upload it comes wrapped
        while cause is not None and not isinstance(cause, (_HTTPError, ConnectionError, LocalTokenNotFoundError)):
            cause = cause.__cause__
        if cause is None:
            raise
        message = _explain(cause, repo_id)
        if left:
            message += f" What this push had made could not be removed again: {' and '.join(left)}."
        raise PushError(message) from error


def _explain(error: BaseException, repo_id: str) -> str:
    if isinstance(error, LocalTokenNotFoundError):
        return f"nobody is logged in, so {repo_id} cannot be pushed: run `hf auth login`, or set HF_TOKEN."
    if not isinstance(error, HfHubHTTPError):
        return (
            f"the connection to the Hub was lost while pushing {repo_id} ({type(error).__name__}: {error}). The local "
            "checkpoint is untouched; push again."
        )
    status = error.response.status_code
    said = error.server_message or str(error).splitlines()[0]
    advice = {
        401: "there is no valid token: run `hf auth login`, or set HF_TOKEN to a token with the role 'write'.",
        403: "you may not write there: use a token with the role 'write' of a member, another name, or create_pr=True.",
        404: "there is no such namespace, repository or revision, or you may not see it: check the name.",
        409: "the name is taken, or another push is under way: choose another name, or push again in a minute.",
        412: "others keep committing to it: push again when they are done.",
        413: "it is larger than the Hub takes: push with max_shard_size='5GB'.",
        429: "too many requests: wait some minutes and push again.",
    }
    if status >= 500:
        hint = "the Hub has trouble; nothing is wrong with your checkpoint. Push again in some minutes."
    else:
        hint = advice.get(status, "see what the Hub says, and push again.")
    return f"{repo_id}: {hint} (The Hub said {status}: {said})"
