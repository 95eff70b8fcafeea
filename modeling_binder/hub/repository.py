"""Repositories on the Hub: who may write, one commit a push, and undoing what a failed push made."""

import fnmatch
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id

logger = logging.getLogger(__name__)

_HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]  # of httpx or httpx2, as huggingface_hub uses
_ATTEMPTS = 5


class PushError(RuntimeError):
    """A push failed; the message says why and what to do. The checkpoint and the repository are as they were."""


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
        me = hub_api(token).whoami()
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


def hub_api(token: str | bool | None) -> HfApi:
    from .. import __version__

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
