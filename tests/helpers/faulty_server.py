"""A web server on this machine that serves a folder, and spoils as many answers as it is told to."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# What can go wrong with an answer. "cut" gives half of what is left, "slow" nothing for longer than anyone waits,
# "reset" closes without an answer, "whole" overlooks a Range.
FAULTS = ("500", "503", "429", "cut", "slow", "reset", "whole")


@dataclass
class Plan:
    """Which faults come.

    Attributes:
        faults: Name of a file to the faults of its answers, one after the other; then it is served well.
        stall: Seconds that "slow" takes.
        injected: How often each fault was injected.
        gone: Files that are not there.
    """

    faults: dict[str, list[str]] = field(default_factory=dict)
    stall: float = 0.5
    injected: Counter[str] = field(default_factory=Counter)
    gone: Sequence[str] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, name: str) -> str:
        """Return the fault of the next answer; empty for none."""
        with self.lock:
            left = self.faults.get(name, [])
            fault = left.pop(0) if left else ""
            self.injected.update([fault] if fault else [])
            return fault


class Handler(BaseHTTPRequestHandler):
    """Serves files with Range and ETag, as web servers do."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, plan: Plan, *args: object) -> None:
        self.folder, self.plan = folder, plan
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer, or spoil the answer."""
        name = self.path.lstrip("/")
        if name in self.plan.gone or not (self.folder / name).is_file():
            return self.refuse(404)
        fault = self.plan.next(name)
        if fault in ("500", "503", "429"):
            return self.refuse(int(fault), {"Retry-After": "0"} if fault != "500" else {})
        if fault == "slow":
            time.sleep(self.plan.stall)
        if fault in ("slow", "reset"):
            self.close_connection = True
            return None
        return self.send_file((self.folder / name).read_bytes(), fault)

    def refuse(self, code: int, headers: dict[str, str] | None = None) -> None:
        """Answer with a code and no content."""
        self.send_response(code)
        for key, value in {**(headers or {}), "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()

    def send_file(self, data: bytes, fault: str) -> None:
        """Send a file from the byte that was asked for."""
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and fault != "whole" else 0
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{len(data)}"')
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        rest = data[start:]
        self.wfile.write(rest[: len(rest) // 2] if fault == "cut" else rest)
        self.close_connection = fault == "cut"


@contextmanager
def faulty_server(folder: Path, plan: Plan) -> Iterator[str]:
    """Serve a folder; yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, folder, plan))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
