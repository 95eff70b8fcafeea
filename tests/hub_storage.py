"""Repositories of the local Hub in memory: commits, branches, pull requests and the contents of files."""

import hashlib
import itertools
import re
from dataclasses import dataclass, field

import yaml

_LFS_SUFFIXES = (".safetensors", ".bin", ".onnx", ".pt", ".pkl")


@dataclass
class Commit:
    sha: str
    parent: str | None
    title: str
    files: dict[str, str]  # path -> sha256 of the content


@dataclass
class Repo:
    repo_type: str  # "model", "dataset" or "space"
    id: str
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)  # branch or refs/pr/N -> sha

    def history(self, ref="main"):
        """Yield the commits of a branch, the newest first."""
        sha = self.refs[ref]
        while sha:
            yield self.commits[sha]
            sha = self.commits[sha].parent


class HubStorage:
    """Stores repositories by type and id, and the contents of files by hash."""

    def __init__(self):
        self.counter = itertools.count()
        self.reset()

    def reset(self):
        self.repos = {}  # (type, id) -> Repo
        self.blobs = {}  # sha256 -> content

    def files(self, repo_id, repo_type="model", ref="main"):
        """Return the files of a repository at a branch or commit, as a dictionary path -> content."""
        repo = self.repos[repo_type, repo_id]
        return {path: self.blobs[digest] for path, digest in repo.commits[repo.refs.get(ref, ref)].files.items()}

    def commit(self, repo_id, changes, repo_type="model", ref="main", title="by hand"):
        """Commit changes without HTTP. Create the repository if it does not exist.

        `changes` maps the path of a file to its new content, or to `None` to delete the file.
        """
        repo = self.repos.get((repo_type, repo_id)) or self.create_repo(repo_type, repo_id)
        files = dict(repo.commits[repo.refs[ref]].files)
        for path, content in changes.items():
            files.pop(path, None)
            if content is not None:
                files[path] = self.store(content if isinstance(content, bytes) else content.encode())
        return self.add_commit(repo, ref, repo.refs[ref], title, files)

    def snapshot(self):
        """Return the state of all repositories. Tests compare two snapshots to see whether a push changed anything."""
        return {key: (repo.private, dict(repo.refs), len(repo.commits)) for key, repo in self.repos.items()}

    def store(self, content):
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest

    def create_repo(self, repo_type, repo_id, **options):
        repo = self.repos[repo_type, repo_id] = Repo(repo_type, repo_id, **options)
        self.add_commit(repo, "main", None, "initial commit", {".gitattributes": self.store(b"* text=auto\n")})
        return repo

    def add_commit(self, repo, ref, parent, title, files):
        sha = hashlib.sha1(f"{repo.repo_type} {repo.id} {next(self.counter)}".encode()).hexdigest()
        repo.commits[sha] = Commit(sha, parent, title, files)
        repo.refs[ref] = sha
        return sha

    def card(self, commit):
        """Return the metadata in the README.md of a commit."""
        return metadata(self.blobs[commit.files["README.md"]].decode()) if "README.md" in commit.files else {}

    def entry(self, path, digest):
        """Return the description of a file in the format of the Hub's API."""
        content = self.blobs[digest]
        entry = {"type": "file", "oid": git_oid(content), "size": len(content), "path": path}
        if is_lfs(path, len(content)):
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
        return entry


def git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_lfs(path, size):
    return size > 10_000_000 or path.endswith(_LFS_SUFFIXES)


def metadata(readme):
    """Parse the YAML block at the start of a README.md."""
    block = re.match(r"---\n(.*?)\n---", readme, re.DOTALL)
    return (yaml.safe_load(block[1]) if block else None) or {}
