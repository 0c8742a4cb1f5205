"""A stand-in for the Hub's reading side: one data set's files from a folder, as huggingface_hub and datasets ask."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from helpers.hub_stand_in import serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubFiles:
    """The stand-in.

    Attributes:
        folder: Holds the files of the data set.
        repo: Its name, ``ORG/NAME``.
        endpoint: Value for ``HF_ENDPOINT``.
        faults: Statuses that the next requests for a file's content are answered with.
        unknown: Addresses that were asked for and are not served.
        answered: How often each status was given for a file's content.
    """

    folder: Path
    repo: str
    endpoint: str = ""
    faults: list[int] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    answered: Counter[int] = field(default_factory=Counter)

    def entries(self, below: str = "", *, everything: bool = True) -> list[dict[str, Any]]:
        """Return what is in a folder as the Hub lists it, in the folders inside it as well."""
        paths = sorted((self.folder / below).rglob("*") if everything else (self.folder / below).iterdir())
        return [self.entry(path.relative_to(self.folder).as_posix()) for path in paths]

    def entry(self, name: str) -> dict[str, Any]:
        """Return what the Hub says of a file or folder."""
        if (self.folder / name).is_dir():
            return {"type": "directory", "path": name, "oid": sha1(name.encode()).hexdigest()}
        content = (self.folder / name).read_bytes()
        return {"type": "file", "path": name, "size": len(content), "oid": sha1(content).hexdigest()}

    def answer(self, path: str, body: dict[str, Any], *, everything: bool) -> Any:
        """Answer a question about the data set; None for one that is not known."""
        api = f"/api/datasets/{self.repo}"
        if path in (api, *(f"{api}/revision/{name}" for name in ("main", COMMIT))):
            siblings = [{"rfilename": entry["path"]} for entry in self.entries() if entry["type"] == "file"]
            return {"id": self.repo, "sha": COMMIT, "private": False, "siblings": siblings, "tags": []}
        if path.startswith(f"{api}/paths-info/"):
            names = [name.strip("/") for name in body["paths"]]
            return [self.entry(name) for name in names if (self.folder / name).exists()]
        if path.startswith(f"{api}/tree/"):
            below = "/".join(path.removeprefix(f"{api}/tree/").split("/")[1:])
            return self.entries(below, everything=everything) if (self.folder / below).is_dir() else None
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: HubFiles, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def _serve(self) -> None:
        path = unquote(self.path.split("?")[0])
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        start, resolve, rest = path.partition("/resolve/")
        if resolve and start == f"/datasets/{self.hub.repo}":
            self._send_file(self.hub.folder / rest.partition("/")[2])
            return
        everything = "recursive=true" in self.path.casefold()
        found = self.hub.answer(path, _parsed(body), everything=everything)
        if found is None:
            self.hub.unknown.append(f"{self.command} {path}")
        self._send(200 if found is not None else 404, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _send_file(self, path: Path) -> None:
        if self.hub.faults and self.command == "GET":
            self._count_and_send(self.hub.faults.pop(0), b"busy", {})
            return
        if not path.is_file():
            self._count_and_send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = path.read_bytes()
        headers = {"ETag": f'"{sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if asked := self.headers["Range"]:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin = int(first) if first else len(content) - int(last)
            end = int(last) if first and last else len(content) - 1
            part = content[begin : end + 1]
            headers["Content-Range"] = f"bytes {begin}-{begin + len(part) - 1}/{len(content)}"
            self._count_and_send(206, part, headers)
            return
        self._count_and_send(200, content, headers)

    def _count_and_send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.hub.answered[status] += 1
        self._send(status, content, headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_HEAD = _serve

    def log_message(self, format: str, *args: object) -> None:
        """Keep pytest's output free of one line a request."""


def _parsed(body: bytes) -> dict[str, Any]:
    """Read JSON, or a form: the client has sent both."""
    try:
        found: dict[str, Any] = json.loads(body or b"{}")
    except ValueError:
        pairs = [pair.partition("=") for pair in unquote(body.decode()).split("&")]
        found = {"paths": [value for name, _, value in pairs if name == "paths"]}
    return found


@contextmanager
def hub_files(folder: Path, repo: str) -> Iterator[HubFiles]:
    """Serve a folder as a data set of the Hub on a free port of this machine while the block lasts."""
    hub = HubFiles(folder, repo)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield hub
