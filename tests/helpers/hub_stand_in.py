"""A stand-in for the Hub's API on this machine: takes what huggingface_hub really sends, and keeps it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class HubStandIn:
    """What the stand-in was sent.

    Attributes:
        refuse_with: HTTP status that every request is answered with; 0 takes them all.
        lfs: Whether weights are asked for as large files; else everything comes inside the commit.
        endpoint: Value for ``HF_ENDPOINT``.
        requests: (method, path) of every request.
        tokens: Authorization headers of whatever was posted.
        created: Bodies of the repositories that were made.
        objects: Large files by their SHA-256.
        files: Path in the repository to content, as committed.
    """

    refuse_with: int = 0
    lfs: bool = True
    endpoint: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Do what one request asks for and return (status, JSON)."""
        if method == "PUT":
            self.objects[path.rsplit("/", 1)[-1]] = body
            return 200, {}
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            asked = self.created[-1]
            return 200, {"url": f"{self.endpoint}/{asked['organization']}/{asked['name']}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            return 200, {"files": [self._upload_mode(file["path"]) for file in json.loads(body)["files"]]}
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"objects": [self._upload_action(item) for item in json.loads(body)["objects"]]}
        if "/commit/" in path:
            self._commit(body)
            repo = path.removeprefix("/api/models/").split("/commit/")[0]
            return 200, {"commitUrl": f"{self.endpoint}/{repo}/commit/1", "commitOid": "1"}
        return 404, {"error": "no such address"}

    def _upload_mode(self, path: str) -> dict[str, Any]:
        mode = "lfs" if self.lfs and path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False}

    def _upload_action(self, item: dict[str, Any]) -> dict[str, Any]:
        return item | {"actions": {"upload": {"href": f"{self.endpoint}/objects/{item['oid']}"}}}

    def _commit(self, body: bytes) -> None:
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                self.files[value["path"]] = self.objects[value["oid"]]


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: HubStandIn) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        hub.endpoint = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        hub, path = self.server.hub, self.path.split("?")[0]
        hub.requests.append((self.command, path))
        if self.command == "POST":
            hub.tokens.add(self.headers["Authorization"])
        body = self._body()
        refused = hub.refuse_with
        status, answer = (refused, {"error": "you may not"}) if refused else hub.answer(self.command, path, body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_POST = do_PUT = _serve

    def log_message(self, format: str, *args: object) -> None:
        """Keep pytest's output free of one line a request."""


@contextmanager
def hub_stand_in(*, refuse_with: int = 0, lfs: bool = True) -> Iterator[HubStandIn]:
    """Run a stand-in for the Hub on a free port of this machine while the block lasts."""
    hub = HubStandIn(refuse_with, lfs)
    server = _Server(hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
