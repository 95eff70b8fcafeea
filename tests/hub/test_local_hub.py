"""Tests of the local Hub: concurrent requests and permissions."""

import base64
import http.client
import json

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError


class SlowRequest:
    """A request that first sends its headers and one byte of its body. `finish` sends the remaining bytes."""

    def __init__(self, hub, method, path, body):
        self.rest = body[1:]
        self.connection = http.client.HTTPConnection(hub.url.removeprefix("http://"))
        self.connection.putrequest(method, path)
        self.connection.putheader("Authorization", "Bearer hf_alice")
        self.connection.putheader("Content-Length", str(len(body)))
        self.connection.endheaders(body[:1])
        # When the server has answered this second request, it has also received the headers of the first request.
        HfApi().whoami()

    def finish(self):
        """Send the remaining bytes, and return the status and the content of the response."""
        self.connection.send(self.rest)
        response = self.connection.getresponse()
        content = response.read()
        self.connection.close()
        return response.status, content


def commit_body(path, content, parent=None):
    """Return the body of a request that commits one file."""
    header = {"key": "header", "value": {"summary": path, **({"parentCommit": parent} if parent else {})}}
    file = {"key": "file", "value": {"path": path, "content": base64.b64encode(content).decode()}}
    return "\n".join(json.dumps(line) for line in (header, file)).encode()


@pytest.mark.parametrize(("names_parent", "status"), [(True, 412), (False, 200)])
def test_a_slow_commit_does_not_overwrite_a_faster_commit(names_parent, status, hub):
    parent = hub.commit("alice/tiny", {"first.txt": "1"})
    body = commit_body("slow.txt", b"slow", parent if names_parent else None)
    slow = SlowRequest(hub, "POST", "/api/models/alice/tiny/commit/main", body)
    HfApi().upload_file(path_or_fileobj=b"fast", path_in_repo="fast.txt", repo_id="alice/tiny")
    assert slow.finish()[0] == status
    files = hub.files("alice/tiny")
    assert files["fast.txt"] == b"fast" and files["first.txt"] == b"1"
    assert ("slow.txt" in files) == (status == 200)


def test_the_later_of_two_concurrent_requests_for_a_branch_fails(hub):
    hub.commit("alice/tiny", {"first.txt": "1"})
    slow = SlowRequest(hub, "POST", "/api/models/alice/tiny/branch/next", b"{}")
    HfApi().create_branch(repo_id="alice/tiny", branch="next")
    hub.commit("alice/tiny", {"second.txt": "2"}, ref="next")
    assert slow.finish()[0] == 409
    assert "second.txt" in hub.files("alice/tiny", ref="next")


def test_the_later_of_two_concurrent_requests_for_a_repository_fails(hub):
    body = json.dumps({"name": "tiny", "type": "model"}).encode()
    slow = SlowRequest(hub, "POST", "/api/repos/create", body)
    HfApi().create_repo("alice/tiny")
    hub.commit("alice/tiny", {"first.txt": "1"})
    assert slow.finish()[0] == 409
    assert "first.txt" in hub.files("alice/tiny")


def test_a_slow_preupload_request_sees_that_its_file_was_deleted(hub):
    """When the request is complete, the file no longer exists. So the response contains no id of its content."""
    hub.commit("alice/tiny", {"a.txt": "old"})
    body = json.dumps({"files": [{"path": "a.txt", "size": 3, "sample": ""}]}).encode()
    slow = SlowRequest(hub, "POST", "/api/models/alice/tiny/preupload/main", body)
    hub.commit("alice/tiny", {"a.txt": None})
    status, content = slow.finish()
    assert status == 200 and "oid" not in json.loads(content)["files"][0]


def test_only_members_of_a_namespace_may_delete_its_repositories(hub, monkeypatch):
    hub.commit("alice/tiny", {"first.txt": "1"})
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    with pytest.raises(HfHubHTTPError, match="may not delete"):
        HfApi().delete_repo("alice/tiny")
    assert ("model", "alice/tiny") in hub.repos
