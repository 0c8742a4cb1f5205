"""A stand-in for the Hub's API on this machine: takes what huggingface_hub really sends, and keeps it."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
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
        part_size: Bytes of a part of a large file; 0 for files in one piece.
        public: Whether the repository is public, whatever was asked for.
        faults: Pattern of an address to what its next requests meet: a status, or 0 for a connection that is cut.
        headers: Sent with every fault.
        parts: Parts of large files by (SHA-256, number).
        commits: How many there were.
        log: What every request was answered: "POST /api/repos/create 200 59 B".
        datasets: ``datasets/ORG/NAME`` to the files of that data set; ``files`` are those of the one model.
    """

    refuse_with: int = 0
    lfs: bool = True
    endpoint: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    part_size: int = 0
    public: bool = False
    faults: dict[str, list[int]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    commits: int = 0
    log: list[str] = field(default_factory=list)
    datasets: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def next_fault(self, path: str) -> int | None:
        """Take the fault that this request meets off its list; None for a request that is served."""
        for part, left in self.faults.items():
            if left and re.search(part, path):
                return left.pop(0)
        return self.refuse_with or None

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Do what one request asks for and return (status, JSON)."""
        if path.startswith("/objects/"):
            return self._receive(path, body)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            return 200, {"files": [self._upload_mode(file["path"]) for file in json.loads(body)["files"]]}
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"objects": [self._upload_action(item) for item in json.loads(body)["objects"]]}
        if "/commit/" in path:
            address = path.removeprefix("/api/").split("/commit/")[0]
            self._commit(body, self.files_of(address))
            repo = address.removeprefix("models/").removeprefix("datasets/")
            return 200, {"commitUrl": f"{self.endpoint}/{repo}/commit/1", "commitOid": "1"}
        if method == "GET" and path.startswith(("/api/models/", "/api/datasets/")):
            names = [{"rfilename": name} for name in self.files_of(path.removeprefix("/api/"))]
            return 200, {"id": path.split("/", 3)[3], "sha": "1", "private": not self.public, "siblings": names}
        return 404, {"error": "no such address"}

    def _create(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        kind = "datasets/" if asked.get("type") == "dataset" else ""
        url = f"{self.endpoint}/{kind}{asked['organization']}/{asked['name']}"
        again = any(known["name"] == asked["name"] for known in self.created)
        self.created.append(asked)
        return (409, {"error": "You already created this repo", "url": url}) if again else (200, {"url": url})

    def _upload_mode(self, path: str) -> dict[str, Any]:
        large = self.lfs and path.endswith((".safetensors", ".parquet"))
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _upload_action(self, item: dict[str, Any]) -> dict[str, Any]:
        oid, size = item["oid"], item["size"]
        if oid in self.objects:
            return item  # it is there: nothing to upload
        upload: dict[str, Any] = {"href": f"{self.endpoint}/objects/{oid}"}
        if self.part_size:
            parts = range(1, -(-size // self.part_size) + 1)
            urls = {f"{part:05d}": f"{self.endpoint}/objects/{oid}/{part}" for part in parts}
            upload["header"] = {"chunk_size": str(self.part_size), **urls}
        return item | {"actions": {"upload": upload}}

    def _receive(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Take a large file, a part of one, or the word that all parts have come."""
        _, _, oid, *part = path.split("/")
        if part:
            self.parts[oid, int(part[0])] = body
            return 200, {}
        if self.part_size:
            body = b"".join(self.parts[oid, entry["partNumber"]] for entry in json.loads(body)["parts"])
        if sha256(body).hexdigest() != oid:
            return 422, {"error": "this is not what was announced"}
        self.objects[oid] = body
        return 200, {}

    def files_of(self, address: str) -> dict[str, bytes]:
        """Return the files of a repository: of the model, or of a data set."""
        return self.datasets.setdefault(address, {}) if address.startswith("datasets/") else self.files

    def _commit(self, body: bytes, files: dict[str, bytes]) -> None:
        self.commits += 1
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]


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
        fault = hub.next_fault(path)
        if fault == 0:
            hub.log.append(f"{self.command} {path} cut")
            self._cut()
            return
        body = self._body()
        status, answer = (fault, {"error": "you may not"}) if fault else hub.answer(self.command, path, body)
        hub.log.append(f"{self.command} {path} {status} {len(body):,} B")
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
        for name, value in hub.headers.items() if fault else ():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _cut(self) -> None:
        """Hang up in the middle of what is being sent."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

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
def hub_stand_in(*, refuse_with: int = 0, lfs: bool = True, part_size: int = 0) -> Iterator[HubStandIn]:
    """Run a stand-in for the Hub on a free port of this machine while the block lasts."""
    hub = HubStandIn(refuse_with, lfs, part_size=part_size)
    with serving(_Server(hub)):
        yield hub


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Have a server answer in a thread while the block lasts."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
