"""Repositories on the Hub: check access, push files in one commit, remove what a failed push created."""

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

_HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]  # the class of httpx or httpx2, which huggingface_hub uses
_MAX_ATTEMPTS = 5


class PushError(RuntimeError):
    """A push failed; the message gives the reason and the remedy. The checkpoint and the repository are unchanged."""


def check_access(repo_id: str, token: str | bool | None = None, write: bool = True) -> str:
    """Check that you may push to a repository, before any work is done; this changes nothing.

    Args:
        repo_id: "user/name", or "name" in your own namespace.
        token: access token; defaults to HF_TOKEN or to the token of `hf auth login`.
        write: False for a pull request, which needs no rights in the namespace.

    Returns:
        The repository's full name, "user/name".

    Raises:
        PushError: you are not logged in, or the namespace is neither yours nor that of one of your organisations.
        ValueError: `repo_id` is not a valid name.
    """
    validate_repo_id(repo_id)
    with explained(repo_id):
        me = hub_api(token).whoami()
    namespaces = [me["name"], *(organisation["name"] for organisation in me.get("orgs", []))]
    if "/" not in repo_id:
        return f"{me['name']}/{repo_id}"
    namespace, name = repo_id.split("/")
    if write and namespace not in namespaces:
        raise PushError(
            f"{me['name']} may not write to {repo_id}: the namespace {namespace!r} is not yours. Your "
            f"namespaces are {', '.join(namespaces)}. Push to {me['name']}/{name}, or, if the repository exists, open "
            "a pull request with create_pr=True."
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
    """Upload the files of a folder to a repository in one commit; creates the repository or branch if needed.

    Other files of the repository are kept, except those that match a pattern of `stale` and are not in the folder. If
    somebody else commits at the same time, the push is repeated on top of that commit. If the push fails, a repository
    or branch that it created is removed.

    Raises:
        PushError: the repository is unchanged; the message gives the reason and the remedy.
    """
    repository: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(Path(folder).rglob("*")) if path.is_file()}
    undo: list[_Undo] = []
    with explained(repo_id, undo):
        branch = revision if revision != "main" and not create_pr and not (revision or "").startswith("refs/") else None
        _create_missing(api, repository, branch, undo, private=private, space_sdk=space_sdk)
        for attempt in range(_MAX_ATTEMPTS):
            head = api.repo_info(**repository, revision=revision).sha
            existing = api.list_repo_files(**repository, revision=head)
            removed = [name for name in existing if name not in paths and _matches_any(name, stale)]
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in paths.items()),
                *(CommitOperationDelete(path_in_repo=name) for name in removed),
            ]
            try:
                return api.create_commit(
                    **repository,
                    operations=iter(operations),
                    commit_message=commit_message,
                    commit_description=commit_description,
                    revision=revision,
                    create_pr=create_pr,
                    parent_commit=head,
                )
            except HfHubHTTPError as error:
                if error.response.status_code != 412 or attempt == _MAX_ATTEMPTS - 1:
                    raise
                logger.info("Another commit to %s came first; trying again on top of it.", repo_id)
    raise AssertionError("unreachable")  # pragma: no cover


def hub_api(token: str | bool | None) -> HfApi:
    """Return a client of the Hub that sends the name and version of this package with its requests."""
    from .. import __version__

    return HfApi(token=token, library_name="binder-ner", library_version=__version__)


def _matches_any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _create_missing(
    api: HfApi, repository: Mapping[str, Any], branch: str | None, undo: list["_Undo"], **options: Any
) -> None:
    """Create the repository and the branch if they do not exist, and append to `undo` how to remove them again.

    Args:
        branch: `None` means the main branch, which every repository has.
        options: passed to `HfApi.create_repo`.
    """
    if _created(
        lambda: api.create_repo(**repository, exist_ok=False, **options),
        lambda: api.repo_exists(**repository),
    ):
        undo.append(_Undo(api, repository, "repository", api.repo_info(**repository).sha))
    if branch is not None and _created(
        lambda: api.create_branch(**repository, branch=branch, exist_ok=False),
        lambda: api.revision_exists(**repository, revision=branch),
    ):
        undo.append(_Undo(api, repository, "branch", api.repo_info(**repository, revision=branch).sha, branch))


def _created(create: Callable[[], Any], exists: Callable[[], bool]) -> bool:
    """Create something on the Hub; return False if it exists already."""
    try:
        create()
    except HfHubHTTPError as error:
        # A user who may not create a repository (401, 403) may still write to an existing one or open a pull request.
        if error.response.status_code == 409 or (error.response.status_code in (401, 403) and exists()):
            return False
        raise
    return True


@dataclass(frozen=True)
class _Undo:
    """Removes a repository or a branch that a push created, unless it has received a commit since then."""

    api: HfApi
    repository: Mapping[str, Any]
    thing: str
    head: str | None
    branch: str | None = None

    def __call__(self) -> None:
        if self.api.repo_info(**self.repository, revision=self.branch).sha != self.head:
            return  # the commit succeeded and only its response was lost
        if self.branch is None:
            self.api.delete_repo(**self.repository)
        else:
            self.api.delete_branch(**self.repository, branch=self.branch)


@contextmanager
def explained(repo_id: str, undo: Sequence[_Undo] = ()) -> Iterator[None]:
    """Turn errors of the Hub and of the connection into a `PushError`, after running `undo` in reverse order."""
    try:
        yield
    except BaseException as error:
        left = []
        for step in reversed(undo):
            try:
                step()
            except Exception as failure:
                logger.debug("undoing failed", exc_info=failure)
                left.append(f"the empty {step.thing}")
        cause: BaseException | None = error  # uploads wrap the error of the Hub or of the connection
        while cause is not None and not isinstance(cause, (_HTTPError, ConnectionError, LocalTokenNotFoundError)):
            cause = cause.__cause__
        if cause is None:
            raise
        message = _explain(cause, repo_id)
        if left:
            message += f" This push created {' and '.join(left)} and could not remove it again; delete it by hand."
        raise PushError(message) from error


def _explain(error: BaseException, repo_id: str) -> str:
    if isinstance(error, LocalTokenNotFoundError):
        return f"you are not logged in, so {repo_id} cannot be pushed: run `hf auth login`, or set HF_TOKEN."
    if not isinstance(error, HfHubHTTPError):
        return (
            f"the connection to the Hub was lost while pushing {repo_id} ({type(error).__name__}: {error}). The local "
            "checkpoint is unchanged; push again."
        )
    status = error.response.status_code
    answer = error.server_message or str(error).splitlines()[0]
    remedies = {
        401: "the token is missing or invalid: run `hf auth login`, or set HF_TOKEN to a token with the role 'write'.",
        403: "you may not write here: use a member's token with the role 'write', another name, or create_pr=True.",
        404: "the namespace, repository or revision does not exist, or you may not see it: check the name.",
        409: "the name is taken, or another push is running: choose another name, or push again in a minute.",
        412: "other commits to this repository keep coming first: push again later.",
        413: "a file is larger than the Hub accepts: push with max_shard_size='5GB'.",
        429: "too many requests: wait a few minutes and push again.",
    }
    if status >= 500:
        remedy = "the Hub has a problem; your checkpoint is fine. Push again in a few minutes."
    else:
        remedy = remedies.get(status, "read the Hub's answer, and push again.")
    return f"{repo_id}: {remedy} (The Hub answered {status}: {answer})"
