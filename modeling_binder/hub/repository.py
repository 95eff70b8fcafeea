"""Check access to repositories on the Hub, and push files in one commit. A failed push leaves nothing on the Hub."""

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
    """A push failed. The local checkpoint and the repository are unchanged. The message contains the remedy."""


def check_access(repo_id: str, token: str | bool | None = None, write: bool = True) -> str:
    """Check that you may push to a repository. This function changes nothing on the Hub.

    Args:
        repo_id: "user/name", or "name" in your own namespace.
        token: access token. Defaults to HF_TOKEN or to the token of `hf auth login`.
        write: check that you may write to the namespace. Pass False for a pull request.

    Returns:
        The full name of the repository, "user/name".

    Raises:
        PushError: you are not logged in, or the namespace does not belong to you or one of your organisations.
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
    """Upload the files of a folder to a repository in one commit. Create the repository or the branch if it is missing.

    If another commit is made at the same time, the push is repeated on top of this commit. If the push fails, the
    repository or branch that it created is removed.

    Args:
        folder: the folder.
        repo_id: "user/name".
        api: a client of the Hub, see `hub_api`.
        repo_type: "model", "dataset" or "space".
        stale: patterns of file names. Files of the repository that match a pattern and are not in the folder are
            deleted. All other files of the repository are kept.
        private, revision, create_pr, commit_message, commit_description: see `push_model`.
        space_sdk: the SDK of a new Space, such as "gradio".

    Raises:
        PushError: the push failed, and nothing was changed on the Hub.
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
                logger.info("Another commit to %s was made at the same time. The push is repeated.", repo_id)
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
    """Create the repository and the branch if they do not exist. Append to `undo` steps that remove them again.

    Args:
        branch: name of the branch. `None` means the main branch, which every repository has.
        options: other arguments of `HfApi.create_repo`.
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
    """Create a repository or a branch, and return True. Return False if it exists already."""
    try:
        create()
    except HfHubHTTPError as error:
        # A user who may not create a repository (401, 403) may still write to an existing repository.
        if error.response.status_code == 409 or (error.response.status_code in (401, 403) and exists()):
            return False
        raise
    return True


@dataclass(frozen=True)
class _Undo:
    """A step that removes the repository or branch that a push created, unless it has a new commit."""

    api: HfApi
    repository: Mapping[str, Any]
    thing: str
    head: str | None
    branch: str | None = None

    def __call__(self) -> None:
        if self.api.repo_info(**self.repository, revision=self.branch).sha != self.head:
            return  # the push succeeded, but its response was lost
        if self.branch is None:
            self.api.delete_repo(**self.repository)
        else:
            self.api.delete_branch(**self.repository, branch=self.branch)


@contextmanager
def explained(repo_id: str, undo: Sequence[_Undo] = ()) -> Iterator[None]:
    """Replace errors of the Hub and of the connection by a `PushError`, after running `undo` in reverse order."""
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
        cause: BaseException | None = error  # in uploads, the error of the Hub is a cause of the raised error
        while cause is not None and not isinstance(cause, (_HTTPError, ConnectionError, LocalTokenNotFoundError)):
            cause = cause.__cause__
        if cause is None:
            raise
        message = _explain(cause, repo_id)
        if left:
            message += f" This push created {' and '.join(left)} and could not remove it again; please delete it."
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
        403: "you may not write here: use a token of a member with the role 'write', another name, or create_pr=True.",
        404: "the namespace, repository or revision does not exist, or you may not see it: check the name.",
        409: "the name is taken, or another push is running: choose another name, or push again in a minute.",
        412: "other commits to this repository are made at the same time: push again later.",
        413: "a file is larger than the Hub accepts: push with max_shard_size='5GB'.",
        429: "too many requests: wait a few minutes and push again.",
    }
    if status >= 500:
        remedy = "the Hub has a problem, and your checkpoint is unchanged. Push again in a few minutes."
    else:
        remedy = remedies.get(status, "read the answer of the Hub, and push again.")
    return f"{repo_id}: {remedy} (The Hub answered {status}: {answer})"
