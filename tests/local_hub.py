"""A local Hub for tests. It speaks the HTTP protocol of the real Hub, so huggingface_hub works with it unchanged.

The local Hub supports:

- repositories of models, datasets and Spaces, which may be private or gated;
- branches and pull requests;
- regular and LFS uploads;
- downloads with ETag and Range.

`LocalHub.fail` makes requests fail. Tests inspect `LocalHub.repos`.

Requests are handled one after the other. `_endpoint` first receives the whole body, and then calls the handler, which
is a plain function. So a repository cannot change while a handler uses it.
"""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub_storage import HubStorage, git_oid, is_lfs, metadata

REPO_TYPES = {"models": "model", "datasets": "dataset", "spaces": "space"}
_SLASH = "\x01"  # replaces the escaped slash in names such as refs%2Fpr%2F1


@dataclass
class User:
    name: str
    role: str = "write"
    organisations: tuple[str, ...] = ()

    def may_write(self, namespace):
        return self.role == "write" and namespace in (self.name, *self.organisations)


@dataclass
class Failure:
    """A failure of matching requests: they get an error status, or the connection is closed after some bytes."""

    method: str
    path: str  # a regular expression for the path of the request
    status: int | None  # None if the connection is closed
    after: int  # bytes of the response that are sent before the connection is closed
    times: int  # number of requests that still have to fail
    late: bool  # true if the request is handled and only its response fails


class HubError(Exception):
    """An error response of the Hub."""

    def __init__(self, status, code, message):
        self.response = JSONResponse(
            {"error": message}, status, headers={"X-Error-Code": code, "X-Error-Message": message}
        )


class LocalHub(HubStorage):
    """The HTTP server of the local Hub. It runs after `start`.

    The constructor already binds a free port, because huggingface_hub reads HF_ENDPOINT when it is imported.
    """

    users = {  # access token -> user
        "hf_alice": User("alice", organisations=("lab",)),
        "hf_bob": User("bob"),
        "hf_user": User("user"),  # examples in the documentation push to user/name
        "hf_reader": User("alice", role="read"),
    }

    def __init__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = None
        super().__init__()

    def reset(self):
        super().reset()
        self.failures = []
        self.log = []  # "METHOD path -> status"
        self.ranges = []  # Range headers of downloads
        self.before_commit = None  # called before each commit over HTTP

    def start(self):
        if self.thread is None:
            server = uvicorn.Server(uvicorn.Config(self.app, log_level="critical", lifespan="off"))
            self.thread = threading.Thread(target=server.run, kwargs={"sockets": [self.socket]}, daemon=True)
            self.thread.start()
            while not server.started:
                time.sleep(0.01)

    def fail(self, method, path, status=None, after=0, times=1, late=False):
        """Let the next requests with a matching path fail. The arguments are the fields of `Failure`."""
        self.failures.append(Failure(method, path, status, after, times, late))

    # ---- permissions ----

    def _user(self, request):
        """Return the user of a request, or None if the request has no token."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.users:
            raise HubError(401, "", "Invalid credentials in Authorization header")
        return self.users.get(token)

    def _logged_in(self, request):
        if (user := self._user(request)) is None:
            raise HubError(401, "", "Invalid username or password.")
        return user

    def _repo(self, request):
        path = request.path_params
        user, repo_type = self._user(request), REPO_TYPES[path.get("repo_type", "models")]
        repo_id = f"{path['namespace']}/{path['name']}"
        repo = self.repos.get((repo_type, repo_id))
        member = user is not None and path["namespace"] in (user.name, *user.organisations)
        if repo is None or (repo.private and not member):
            # Like the real Hub, do not reveal to an anonymous user whether a private repository exists.
            raise HubError(401 if user is None else 404, "RepoNotFound", "Repository not found")
        return repo

    def _writable_repo(self, request):
        repo = self._repo(request)
        if not self._logged_in(request).may_write(request.path_params["namespace"]):
            raise HubError(403, "", "Forbidden: you must use a write token of a member of the namespace")
        return repo

    @staticmethod
    def _revision(repo, revision):
        revision = revision.replace(_SLASH, "/")
        sha = repo.refs.get(revision, revision)
        if sha not in repo.commits:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo.commits[sha]

    def _url(self, repo_type, repo_id):
        return f"{self.url}/{'' if repo_type == 'model' else repo_type + 's/'}{repo_id}"

    # ---- handlers of requests: each accepts a request and its body ----

    def whoami(self, request, body):
        user = self._logged_in(request)
        organisations = [{"type": "org", "name": name} for name in user.organisations]
        token = {"displayName": "test", "role": user.role}
        return JSONResponse(
            {"type": "user", "name": user.name, "orgs": organisations, "auth": {"accessToken": token}},
        )

    def create(self, request, body):
        user, data = self._logged_in(request), json.loads(body)
        repo_type, namespace = data.get("type") or "model", data.get("organization") or user.name
        repo_id = f"{namespace}/{data['name']}"
        url = self._url(repo_type, repo_id)
        if not user.may_write(namespace):
            raise HubError(403, "", f"You may not create a {repo_type} under the namespace {namespace!r}")
        if (repo_type, repo_id) in self.repos:
            return JSONResponse({"error": f"You already created this {repo_type} repo", "url": url}, 409)
        private = data.get("visibility") == "private" or bool(data.get("private"))
        self.create_repo(repo_type, repo_id, private=private, sdk=data.get("sdk"))
        return JSONResponse({"url": url, "name": repo_id, "id": repo_id})

    def delete(self, request, body):
        user, data = self._logged_in(request), json.loads(body)
        namespace = data.get("organization") or user.name
        if not user.may_write(namespace):
            raise HubError(403, "", f"You may not delete repositories of {namespace!r}")
        if self.repos.pop((data.get("type") or "model", f"{namespace}/{data['name']}"), None) is None:
            raise HubError(404, "RepoNotFound", "Repository not found")
        return Response(status_code=200)

    def validate_yaml(self, request, body):
        data = json.loads(body)
        card = metadata(data["content"])
        problems = []
        if data["repoType"] == "space" and card.get("sdk") not in ("gradio", "docker", "static"):
            problems.append("'sdk' must be one of gradio, docker, static")
        for key in ("language", "license", "library_name", "pipeline_tag", "base_model", "datasets", "tags"):
            value = card.get(key, "text")
            if not all(isinstance(item, str) for item in (value if isinstance(value, list) else [value])):
                problems.append(f"{key!r} must be a string or a list of strings")
        for model in card.get("model-index", []):
            for result in model["results"]:
                if not {"task", "dataset", "metrics"} <= set(result) or not {"name", "type"} <= set(result["dataset"]):
                    problems.append("'model-index' needs a task, a dataset with name and type, and metrics")
        errors = [{"message": problem} for problem in problems]
        return JSONResponse({"errors": errors, "warnings": []}, 400 if problems else 200)

    def info(self, request, body):
        repo = self._repo(request)
        commit = self._revision(repo, request.path_params.get("revision", "main"))
        card = self.card(commit)
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

    def tree(self, request, body):
        repo = self._repo(request)
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
                entries[path] = self.entry(path, digest)
        return JSONResponse(list(entries.values()))

    def paths_info(self, request, body):
        commit = self._revision(self._repo(request), request.path_params["revision"])
        if "json" in request.headers.get("content-type", ""):
            paths = json.loads(body)["paths"]
        else:
            paths = parse_qs(body.decode())["paths"]
        return JSONResponse([self.entry(path, commit.files[path]) for path in paths if path in commit.files])

    def refs(self, request, body):
        named = [
            {"name": name, "ref": name if name.startswith("refs/") else f"refs/heads/{name}", "targetCommit": sha}
            for name, sha in self._repo(request).refs.items()
        ]
        branches = [ref for ref in named if not ref["name"].startswith("refs/")]
        pulls = [ref for ref in named if ref["name"].startswith("refs/")]
        return JSONResponse({"branches": branches, "tags": [], "converts": [], "pullRequests": pulls})

    def branch(self, request, body):
        repo = self._writable_repo(request)
        name = request.path_params["branch"].replace(_SLASH, "/")
        if request.method == "DELETE":
            if repo.refs.pop(name, None) is None:
                raise HubError(404, "RevisionNotFound", f"Invalid rev id: {name}")
        elif name in repo.refs:
            raise HubError(409, "", f"Reference already exists: {name}")
        else:
            repo.refs[name] = self._revision(repo, json.loads(body or b"{}").get("startingPoint") or "main").sha
        return Response(status_code=200)

    def preupload(self, request, body):
        pull = "create_pr" in request.query_params
        repo = self._repo(request) if pull else self._writable_repo(request)
        files = self._revision(repo, request.path_params["revision"]).files
        answers = []
        for file in json.loads(body)["files"]:
            lfs = is_lfs(file["path"], file["size"])
            answer = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            if file["path"] in files:
                digest = files[file["path"]]
                answer["oid"] = digest if lfs else git_oid(self.blobs[digest])
            answers.append(answer)
        return JSONResponse({"files": answers})

    def lfs_batch(self, request, body):
        self._logged_in(request)
        objects = []
        for item in json.loads(body)["objects"]:
            entry = {"oid": item["oid"], "size": item["size"], "authenticated": True}
            if item["oid"] not in self.blobs:
                entry["actions"] = {"upload": {"href": f"{self.url}/_lfs/{item['oid']}"}}
            objects.append(entry)
        return JSONResponse({"transfer": "basic", "objects": objects}, media_type="application/vnd.git-lfs+json")

    def lfs_put(self, request, body):
        if hashlib.sha256(body).hexdigest() != request.path_params["oid"]:
            raise HubError(422, "", "sha256 mismatch")
        self.store(body)
        return Response(status_code=200)

    def commit_request(self, request, body):
        pull = request.query_params.get("create_pr") in ("1", "true")
        self._logged_in(request)
        repo = self._repo(request) if pull else self._writable_repo(request)
        if self.before_commit:
            self.before_commit()
        ref = request.path_params["revision"].replace(_SLASH, "/")
        parent = self._revision(repo, ref)
        files, title = dict(parent.files), ""
        for line in filter(None, body.split(b"\n")):
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, parent.sha):
                    raise HubError(412, "", "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = self.store(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                if value["oid"] not in self.blobs:
                    raise HubError(422, "", f"LFS object {value['oid']} is missing")
                files[value["path"]] = value["oid"]
            elif key == "deletedFile":
                del files[value["path"]]
        url = self._url(repo.repo_type, repo.id)
        answer = {"success": True, "hookOutput": ""}
        if pull:
            number = 1 + sum(name.startswith("refs/pr/") for name in repo.refs)
            ref = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{url}/discussions/{number}"
        sha = self.add_commit(repo, ref, parent.sha, title, files)
        return JSONResponse({**answer, "commitOid": sha, "commitUrl": f"{url}/commit/{sha}"})

    def resolve(self, request, body):
        repo = self._repo(request)
        if repo.gated and self._user(request) is None:
            raise HubError(401, "GatedRepo", f"Access to model {repo.id} is restricted. You must be authenticated.")
        commit = self._revision(repo, request.path_params["revision"])
        path = request.path_params["path"]
        if path not in commit.files:
            answer = HubError(404, "EntryNotFound", "Entry not found").response
            answer.headers["X-Repo-Commit"] = commit.sha
            return answer
        content = self.blobs[commit.files[path]]
        lfs = is_lfs(path, len(content))
        etag = f'"{commit.files[path] if lfs else git_oid(content)}"'
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
        api = "/api/{repo_type}/{namespace}/{name}"
        file = "{namespace}/{name}/resolve/{revision}/{path:path}"
        batch = "{namespace}/{name}.git/info/lfs/objects/batch"
        routes = [
            ("GET", "/api/whoami-v2", self.whoami),
            ("POST", "/api/repos/create", self.create),
            ("DELETE", "/api/repos/delete", self.delete),
            ("POST", "/api/validate-yaml", self.validate_yaml),
            ("POST", f"{api}/preupload/{{revision}}", self.preupload),
            ("POST", f"{api}/commit/{{revision}}", self.commit_request),
            ("POST", f"{api}/paths-info/{{revision}}", self.paths_info),
            ("POST DELETE", f"{api}/branch/{{branch}}", self.branch),
            ("GET", f"{api}/refs", self.refs),
            ("GET", f"{api}/tree/{{revision}}", self.tree),
            ("GET", f"{api}/tree/{{revision}}/{{path:path}}", self.tree),
            ("GET", f"{api}/revision/{{revision}}", self.info),
            ("GET", api, self.info),
            ("PUT", "/_lfs/{oid}", self.lfs_put),
            *(("POST", f"/{prefix}{batch}", self.lfs_batch) for prefix in ("", "{repo_type}/")),
            *(("GET", f"/{prefix}{file}", self.resolve) for prefix in ("", "{repo_type}/")),
        ]
        inner = Starlette(
            routes=[Route(path, _endpoint(handler), methods=methods.split()) for methods, path, handler in routes],
            exception_handlers={HubError: _error_response},
        )

        async def app(scope, receive, send):
            if scope["type"] != "http":
                return await inner(scope, receive, send)
            raw = scope["raw_path"].decode().split("?")[0]
            # A revision such as refs%2Fpr%2F1 must stay one segment of the path.
            scope = {**scope, "path": unquote(re.sub("%2f", _SLASH, raw, flags=re.IGNORECASE))}
            failure = self._failure(scope["method"], raw)
            if failure is not None and failure.status is not None:
                self.log.append(f"{scope['method']} {raw} -> {failure.status}")
                return await HubError(failure.status, "", "a failure requested by a test").response(
                    scope, receive, send
                )
            sent = 0

            async def watched(message):
                nonlocal sent
                if message["type"] == "http.response.start":
                    self.log.append(f"{scope['method']} {raw} -> {message['status']}")
                elif failure is not None:
                    body = message.get("body", b"")[: max(0, failure.after - sent)]
                    sent += len(body)
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                    raise ConnectionResetError("a failure requested by a test")
                await send(message)

            handled = failure is None or failure.late or scope["method"] in ("GET", "HEAD")
            await (inner if handled else Response(b"x" * 100))(scope, receive, watched)

        return app

    def _failure(self, method, path):
        for failure in self.failures:
            if failure.times and method == failure.method and re.search(failure.path, path):
                failure.times -= 1
                return failure
        return None


def _endpoint(handler):
    """Return an endpoint that receives the whole body and then calls a handler."""

    async def endpoint(request):
        return handler(request, await request.body())

    return endpoint


async def _error_response(request, error):
    return error.response
