"""A Hub on this machine that speaks the real protocol over HTTP, for huggingface_hub as it is.

Repositories of models, datasets and Spaces; branches, pull requests, private and gated repositories; regular and LFS
uploads; downloads with ETag and Range. It also fails on demand: see `LocalHub.fail`. Tests look into `LocalHub.repos`.
"""

import base64
import hashlib
import itertools
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import unquote

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
_SLASH = "\x01"  # stands for a slash inside a segment of a path
LFS = (".safetensors", ".bin", ".onnx", ".pt", ".pkl")


@dataclass
class Commit:
    sha: str
    parent: str | None
    title: str
    files: dict[str, str]  # path -> sha256 of its content


@dataclass
class Repo:
    kind: str
    id: str
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)  # branch or refs/pr/N -> sha

    def history(self, ref="main"):
        """Commits from the newest to the first."""
        sha = self.refs[ref]
        while sha:
            yield self.commits[sha]
            sha = self.commits[sha].parent


@dataclass
class User:
    name: str
    role: str = "write"
    organisations: tuple[str, ...] = ()


@dataclass
class Failure:
    """What goes wrong with requests that match: a status, or a connection that breaks off after some bytes."""

    method: str
    path: str
    status: int | None
    after: int
    times: int
    late: bool  # the request is carried out, and only its answer fails


class HubError(Exception):
    def __init__(self, status, code, message):
        self.response = JSONResponse(
            {"error": message}, status, headers={"X-Error-Code": code, "X-Error-Message": message}
        )


class LocalHub:
    """Binds a free port at once (huggingface_hub reads HF_ENDPOINT when it is imported), answers after `start`."""

    users = {
        "hf_alice": User("alice", organisations=("lab",)),
        "hf_bob": User("bob"),
        "hf_reader": User("alice", role="read"),
    }

    def __init__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = None
        self.counter = itertools.count()
        self.reset()

    def reset(self):
        self.repos = {}  # (kind, id) -> Repo
        self.blobs = {}  # sha256 -> content
        self.failures = []
        self.log = []  # "METHOD path -> status"
        self.ranges = []  # Range headers of downloads
        self.before_commit = None  # called before a commit is made

    def start(self):
        if self.thread is None:
            server = uvicorn.Server(uvicorn.Config(self.app, log_level="critical", lifespan="off"))
            self.thread = threading.Thread(target=server.run, kwargs={"sockets": [self.socket]}, daemon=True)
            self.thread.start()
            while not server.started:
                time.sleep(0.01)

    # ---- what tests do with it ----

    def fail(self, method, path, status=None, after=0, times=1, late=False):
        """Let the next requests that match (a pattern of the path) fail: with a status, or cut off after some bytes."""
        self.failures.append(Failure(method, path, status, after, times, late))

    def files(self, repo_id, kind="model", ref="main"):
        """path -> content of a repository."""
        repo = self.repos[kind, repo_id]
        return {path: self.blobs[digest] for path, digest in repo.commits[repo.refs.get(ref, ref)].files.items()}

    def commit(self, repo_id, changes, kind="model", ref="main", title="by hand"):
        """Commit path -> content (None deletes) without HTTP; makes the repository if need be."""
        if (kind, repo_id) not in self.repos:
            self._create(kind, repo_id)
        repo = self.repos[kind, repo_id]
        files = dict(repo.commits[repo.refs[ref]].files)
        for path, content in changes.items():
            files.pop(path, None)
            if content is not None:
                files[path] = self._store(content if isinstance(content, bytes) else content.encode())
        return self._commit(repo, ref, repo.refs[ref], title, files)

    def snapshot(self):
        """Everything that a push could have changed, to be compared."""
        return {key: (repo.private, dict(repo.refs), len(repo.commits)) for key, repo in self.repos.items()}

    # ---- storage ----

    def _store(self, content):
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest

    def _create(self, kind, repo_id, **options):
        repo = self.repos[kind, repo_id] = Repo(kind, repo_id, **options)
        self._commit(repo, "main", None, "initial commit", {".gitattributes": self._store(b"* text=auto\n")})
        return repo

    def _commit(self, repo, ref, parent, title, files):
        sha = hashlib.sha1(f"{repo.kind} {repo.id} {next(self.counter)} {time.time_ns()}".encode()).hexdigest()
        repo.commits[sha] = Commit(sha, parent, title, files)
        repo.refs[ref] = sha
        return sha

    # ---- who may do what ----

    def _user(self, request):
        header = request.headers.get("authorization", "")
        if header and header.removeprefix("Bearer ") not in self.users:
            raise HubError(401, "", "Invalid credentials in Authorization header")
        return self.users.get(header.removeprefix("Bearer "))

    def _repo(self, request):
        path = request.path_params
        user, kind = self._user(request), KINDS[path.get("kind", "models")]
        repo_id = f"{path['namespace']}/{path['name']}"
        repo = self.repos.get((kind, repo_id))
        member = user is not None and path["namespace"] in (user.name, *user.organisations)
        if repo is None or (repo.private and not member):
            # As the Hub does: who is not logged in does not learn whether a private repository is there.
            raise HubError(401 if user is None else 404, "RepoNotFound", "Repository not found")
        return repo, user, member

    def _revision(self, repo, revision):
        revision = revision.replace(_SLASH, "/")
        sha = repo.refs.get(revision, revision)
        if sha not in repo.commits:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo.commits[sha]

    # ---- the protocol ----

    async def whoami(self, request):
        user = self._user(request)
        if user is None:
            raise HubError(401, "", "Invalid username or password.")
        organisations = [{"type": "org", "name": name} for name in user.organisations]
        token = {"displayName": "test", "role": user.role}
        return JSONResponse(
            {"type": "user", "name": user.name, "orgs": organisations, "auth": {"accessToken": token}},
        )

    async def create(self, request):
        user, data = self._user(request), await request.json()
        if user is None:
            raise HubError(401, "", "Invalid username or password.")
        kind, namespace = data.get("type") or "model", data.get("organization") or user.name
        repo_id = f"{namespace}/{data['name']}"
        url = f"{self.url}/{'' if kind == 'model' else kind + 's/'}{repo_id}"
        if namespace not in (user.name, *user.organisations) or user.role != "write":
            raise HubError(403, "", f"You don't have the rights to create a {kind} under the namespace {namespace!r}")
        if (kind, repo_id) in self.repos:
            return JSONResponse({"error": f"You already created this {kind} repo", "url": url}, 409)
        private = data.get("visibility") == "private" or bool(data.get("private"))
        self._create(kind, repo_id, private=private, sdk=data.get("sdk"))
        return JSONResponse({"url": url, "name": repo_id, "id": repo_id})

    async def delete(self, request):
        user, data = self._user(request), await request.json()
        namespace = data.get("organization") or user.name
        del self.repos[data.get("type") or "model", f"{namespace}/{data['name']}"]
        return Response(status_code=200)

    async def validate_yaml(self, request):
        data = await request.json()
        metadata = _metadata(data["content"])
        problems = []
        if data["repoType"] == "space" and metadata.get("sdk") not in ("gradio", "docker", "static"):
            problems.append("'sdk' must be one of gradio, docker, static")
        for key in ("language", "license", "library_name", "pipeline_tag", "base_model", "datasets", "tags"):
            value = metadata.get(key, "text")
            if not all(isinstance(item, str) for item in (value if isinstance(value, list) else [value])):
                problems.append(f"{key!r} must be a string or a list of strings")
        for model in metadata.get("model-index", []):
            for result in model["results"]:
                if not {"task", "dataset", "metrics"} <= set(result) or not {"name", "type"} <= set(result["dataset"]):
                    problems.append("'model-index' needs a task, a dataset with name and type, and metrics")
        if problems:
            return JSONResponse({"errors": [{"message": problem} for problem in problems], "warnings": []}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    async def info(self, request):
        repo, _, _ = self._repo(request)
        commit = self._revision(repo, request.path_params.get("revision", "main"))
        card = _metadata(self.blobs[commit.files["README.md"]].decode()) if "README.md" in commit.files else {}
        return JSONResponse(
            {
                "id": repo.id,
                "modelId": repo.id,
                "author": repo.id.split("/")[0],
                "sha": commit.sha,
                "private": repo.private,
                "gated": "auto" if repo.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "lastModified": "2026-01-01T00:00:00.000Z",
                "createdAt": "2026-01-01T00:00:00.000Z",
                "tags": card.get("tags") or [],
                "pipeline_tag": card.get("pipeline_tag"),
                "library_name": card.get("library_name"),
                "cardData": card,
                "sdk": repo.sdk,
                "siblings": [{"rfilename": path} for path in sorted(commit.files)],
            }
        )

    async def tree(self, request):
        repo, _, _ = self._repo(request)
        commit = self._revision(repo, request.path_params["revision"])
        folder = request.path_params.get("path", "").strip("/")
        inside = {p: d for p, d in sorted(commit.files.items()) if not folder or p.startswith(f"{folder}/")}
        if folder and not inside:
            raise HubError(404, "EntryNotFound", f"{folder} does not exist on {request.path_params['revision']}")
        entries = {}
        for path, digest in inside.items():
            below = path[len(folder) + 1 :] if folder else path
            if "/" in below and request.query_params.get("recursive", "").lower() not in ("true", "1"):
                name = "/".join(filter(None, (folder, below.split("/")[0])))
                entries[name] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
            else:
                entries[path] = self._entry(path, digest)
        return JSONResponse(list(entries.values()))

    async def paths_info(self, request):
        repo, _, _ = self._repo(request)
        commit = self._revision(repo, request.path_params["revision"])
        if "json" in request.headers.get("content-type", ""):
            paths = (await request.json())["paths"]
        else:
            paths = (await request.form()).getlist("paths")
        return JSONResponse([self._entry(path, commit.files[path]) for path in paths if path in commit.files])

    def _entry(self, path, digest):
        content = self.blobs[digest]
        entry = {"type": "file", "oid": _git_oid(content), "size": len(content), "path": path}
        if _is_lfs(path, len(content)):
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
        return entry

    async def refs(self, request):
        repo, _, _ = self._repo(request)
        named = [
            {"name": n, "ref": n if n.startswith("refs/") else f"refs/heads/{n}", "targetCommit": s}
            for n, s in repo.refs.items()
        ]
        branches = [ref for ref in named if not ref["name"].startswith("refs/")]
        pulls = [ref for ref in named if ref["name"].startswith("refs/")]
        return JSONResponse({"branches": branches, "tags": [], "converts": [], "pullRequests": pulls})

    async def branch(self, request):
        repo, user, member = self._repo(request)
        self._may_write(user, member)
        name = request.path_params["branch"].replace(_SLASH, "/")
        if request.method == "DELETE":
            del repo.refs[name]
        elif name in repo.refs:
            raise HubError(409, "", f"Reference already exists: {name}")
        else:
            data = json.loads(await request.body() or b"{}")
            repo.refs[name] = self._revision(repo, data.get("startingPoint") or "main").sha
        return Response(status_code=200)

    @staticmethod
    def _may_write(user, member):
        if user is None:
            raise HubError(401, "", "Invalid username or password.")
        if not member or user.role != "write":
            raise HubError(403, "", "Forbidden: you must use a write token of a member of the namespace")

    async def preupload(self, request):
        repo, user, member = self._repo(request)
        if "create_pr" not in request.query_params:
            self._may_write(user, member)
        files = self._revision(repo, request.path_params["revision"]).files
        answers = []
        for file in (await request.json())["files"]:
            lfs = _is_lfs(file["path"], file["size"])
            answer = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            if file["path"] in files:
                digest = files[file["path"]]
                answer["oid"] = digest if lfs else _git_oid(self.blobs[digest])
            answers.append(answer)
        return JSONResponse({"files": answers})

    async def lfs_batch(self, request):
        if self._user(request) is None:
            raise HubError(401, "", "Invalid username or password.")
        objects = []
        for item in (await request.json())["objects"]:
            entry = {"oid": item["oid"], "size": item["size"], "authenticated": True}
            if item["oid"] not in self.blobs:
                entry["actions"] = {"upload": {"href": f"{self.url}/_lfs/{item['oid']}"}}
            objects.append(entry)
        return JSONResponse({"transfer": "basic", "objects": objects}, media_type="application/vnd.git-lfs+json")

    async def lfs_put(self, request):
        content = await request.body()
        if hashlib.sha256(content).hexdigest() != request.path_params["oid"]:
            raise HubError(422, "", "sha256 mismatch")
        self._store(content)
        return Response(status_code=200)

    async def commit_request(self, request):
        repo, user, member = self._repo(request)
        pull = request.query_params.get("create_pr") in ("1", "true")
        if user is None or not pull:
            self._may_write(user, member)
        if self.before_commit:
            self.before_commit()
        ref = request.path_params["revision"].replace(_SLASH, "/")
        parent = self._revision(repo, ref)
        files, title = dict(parent.files), ""
        for line in (await request.body()).splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, parent.sha):
                    raise HubError(412, "", "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = self._store(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                if value["oid"] not in self.blobs:
                    raise HubError(422, "", f"LFS object {value['oid']} is missing")
                files[value["path"]] = value["oid"]
            elif key == "deletedFile":
                del files[value["path"]]
        url = f"{self.url}/{'' if repo.kind == 'model' else repo.kind + 's/'}{repo.id}"
        answer = {"success": True, "hookOutput": ""}
        if pull:
            number = 1 + sum(name.startswith("refs/pr/") for name in repo.refs)
            ref = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{url}/discussions/{number}"
        sha = self._commit(repo, ref, parent.sha, title, files)
        return JSONResponse({**answer, "commitOid": sha, "commitUrl": f"{url}/commit/{sha}"})

    async def resolve(self, request):
        repo, user, _ = self._repo(request)
        if repo.gated and user is None:
            raise HubError(401, "GatedRepo", f"Access to model {repo.id} is restricted. You must be authenticated.")
        commit = self._revision(repo, request.path_params["revision"])
        path = request.path_params["path"]
        if path not in commit.files:
            answer = HubError(404, "EntryNotFound", "Entry not found").response
            answer.headers["X-Repo-Commit"] = commit.sha
            return answer
        content = self.blobs[commit.files[path]]
        lfs = _is_lfs(path, len(content))
        etag = f'"{commit.files[path] if lfs else _git_oid(content)}"'
        headers = {"X-Repo-Commit": commit.sha, "ETag": etag, "Accept-Ranges": "bytes"}
        if lfs:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(len(content))}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if not wanted:
            return Response(content, 200, headers, "application/octet-stream")
        if request.method == "GET":
            self.ranges.append(wanted[0])
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return Response(content[first : last + 1], 206, headers, "application/octet-stream")

    # ---- the application ----

    @property
    def app(self):
        api = "/api/{kind}/{namespace}/{name}"
        file = "{namespace}/{name}/resolve/{revision}/{path:path}"
        batch = "{namespace}/{name}.git/info/lfs/objects/batch"
        routes = [
            Route("/api/whoami-v2", self.whoami),
            Route("/api/repos/create", self.create, methods=["POST"]),
            Route("/api/repos/delete", self.delete, methods=["DELETE"]),
            Route("/api/validate-yaml", self.validate_yaml, methods=["POST"]),
            Route(f"{api}/preupload/{{revision}}", self.preupload, methods=["POST"]),
            Route(f"{api}/commit/{{revision}}", self.commit_request, methods=["POST"]),
            Route(f"{api}/paths-info/{{revision}}", self.paths_info, methods=["POST"]),
            Route(f"{api}/branch/{{branch}}", self.branch, methods=["POST", "DELETE"]),
            Route(f"{api}/refs", self.refs),
            Route(f"{api}/tree/{{revision}}", self.tree),
            Route(f"{api}/tree/{{revision}}/{{path:path}}", self.tree),
            Route(f"{api}/revision/{{revision}}", self.info),
            Route(api, self.info),
            Route("/_lfs/{oid}", self.lfs_put, methods=["PUT"]),
            *(Route(f"/{prefix}{batch}", self.lfs_batch, methods=["POST"]) for prefix in ("", "{kind}/")),
            *(Route(f"/{prefix}{file}", self.resolve, methods=["GET", "HEAD"]) for prefix in ("", "{kind}/")),
        ]

        async def refused(request, error):
            return error.response

        inner = Starlette(routes=routes, exception_handlers={HubError: refused})

        async def app(scope, receive, send):
            if scope["type"] != "http":
                return await inner(scope, receive, send)
            raw = scope["raw_path"].decode().split("?")[0]
            # A revision such as refs%2Fpr%2F1 is one segment of the path.
            scope = {**scope, "path": unquote(re.sub("%2f", _SLASH, raw, flags=re.IGNORECASE))}
            failure = self._failure(scope["method"], raw)
            if failure is not None and failure.status is not None:
                self.log.append(f"{scope['method']} {raw} -> {failure.status}")
                return await HubError(failure.status, "", "told to fail").response(scope, receive, send)
            sent = 0

            async def watched(message):
                nonlocal sent
                if message["type"] == "http.response.start":
                    self.log.append(f"{scope['method']} {raw} -> {message['status']}")
                elif failure is not None:
                    body = message.get("body", b"")[: max(0, failure.after - sent)]
                    sent += len(body)
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                    raise ConnectionResetError("told to break off")
                await send(message)

            carried_out = failure is None or failure.late or scope["method"] in ("GET", "HEAD")
            await (inner if carried_out else Response(b"x" * 100))(scope, receive, watched)

        return app

    def _failure(self, method, path):
        for failure in self.failures:
            if failure.times and method == failure.method and re.search(failure.path, path):
                failure.times -= 1
                return failure
        return None


def _git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_lfs(path, size):
    return size > 10_000_000 or path.endswith(LFS)


def _metadata(readme):
    block = re.match(r"---\n(.*?)\n---", readme, re.DOTALL)
    return (yaml.safe_load(block[1]) if block else None) or {}
