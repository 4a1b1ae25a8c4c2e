"""A small Hugging Face Hub on this machine: makes repositories and takes commits, for huggingface_hub's own client."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_writes"


class FakeHub(ThreadingHTTPServer):
    """Knows one token; keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.private: dict[str, bool] = {}
        """Repository → whether it is private."""
        self.commits: dict[tuple[str, str], dict[str, bytes]] = {}
        """(repository, branch) → path → content."""
        self.large: dict[str, bytes] = {}
        """SHA-256 → content that came through the large-file endpoint."""


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        repo = self.path.removeprefix("/api/models/")
        if repo not in self.server.private:
            return self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return self._answer(200, {"id": repo, "private": self.server.private[repo]})

    def do_PUT(self) -> None:
        self.server.large[self.path.rpartition("/")[2]] = self._body()
        self._answer(200, {})

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "Invalid username or password."})
        path = self.path.strip("/").split("/")
        if path[:2] == ["api", "validate-yaml"]:
            return self._answer(200, {"errors": [], "warnings": []})
        if path == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if path[-4:] == ["info", "lfs", "objects", "batch"]:
            return self._large(json.loads(body)["objects"])
        repo, verb, branch = "/".join(path[2:4]), path[4], path[5]
        if verb == "branch":
            self.server.commits.setdefault((repo, branch), {})
            return self._answer(200, {})
        if verb == "preupload":
            return self._answer(200, {"files": [_mode(file["path"]) for file in json.loads(body)["files"]]})
        return self._commit(repo, branch, [json.loads(line) for line in body.splitlines()])

    def _create(self, wanted: dict[str, Any]) -> None:
        repo = f"{wanted['organization']}/{wanted['name']}"
        known = repo in self.server.private
        self.server.private.setdefault(repo, wanted["visibility"] == "private")
        self._answer(409 if known else 200, {"url": f"{self.server.url}/{repo}"})

    def _large(self, objects: list[dict[str, Any]]) -> None:
        for each in objects:
            each["actions"] = {"upload": {"href": f"{self.server.url}/large/{each['oid']}"}}
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repo: str, branch: str, lines: list[dict[str, Any]]) -> None:
        files = self.server.commits.setdefault((repo, branch), {})
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        oid = "0" * 40
        self._answer(200, {"commitUrl": f"{self.server.url}/{repo}/commit/{oid}", "commitOid": oid})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["content-length"] or 0))

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "content-type": "application/json",
            "content-length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def _mode(path: str) -> dict[str, Any]:
    large = path.endswith(".safetensors")
    return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
