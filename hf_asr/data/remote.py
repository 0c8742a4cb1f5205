"""Files of another machine, fetched whole: what breaks off goes on where it stopped, and no part is taken for a whole.

``https://`` and ``http://`` are read as they are, ``hf://datasets/ORG/NAME[@REVISION]/PATH`` from the Hub with the
token that huggingface_hub keeps. A shard is fetched once into the cache, and read from there by every worker.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfFileSystem, constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers

from hf_asr.errors import UserError

_LOG = logging.getLogger(__name__)

SCHEMES = ("http://", "https://", "hf://")
# Attempts without one new byte, and the seconds between them: doubled from the first to the longest, 2 minutes in all.
ATTEMPTS = 8
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0
# Seconds without an answer, or without a byte, after which a server is taken for gone.
TIMEOUT = 30.0
# Answers that another attempt may change (RFC 9110, RFC 6585); all others from 400 on are final.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_BLOCK = 2**18


class Unreachable(Exception):
    """A file that cannot be fetched; the text says why."""


class _Again(Exception):
    """An attempt that failed; ``wait`` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def is_remote(path: str) -> bool:
    """Tell whether a path is an address of another machine."""
    return path.startswith(SCHEMES)


def fetch(address: str, target: Path) -> None:
    """Download a file under a temporary name, as often as it takes, then rename it.

    Args:
        address: One of :data:`SCHEMES`.
        target: Where it goes.

    Raises:
        Unreachable: It is not there, or :data:`ATTEMPTS` in a row brought nothing.
        OSError: The disk is full or cannot be written.
    """
    url, headers = _request(address)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        with httpx2.Client(timeout=TIMEOUT, follow_redirects=True) as client, part.open("wb") as file:
            _Download(client, address, url, headers, file).run()
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


class _Download:
    """One file's download, over several attempts."""

    def __init__(self, client: httpx2.Client, address: str, url: str, headers: Mapping[str, str], file: object) -> None:
        self.client, self.address, self.url, self.headers = client, address, url, dict(headers)
        self.file: object = file
        self.tag = ""

    def run(self) -> None:
        """Try until the file is whole."""
        failures = 0
        while True:
            before = self._position()
            try:
                self._attempt()
                return
            except (_Again, httpx2.TransportError) as error:
                failures = 1 if self._position() > before else failures + 1
                reason = str(error) or type(error).__name__
                if failures >= ATTEMPTS:
                    raise Unreachable(f"{failures} attempts in a row brought nothing, the last: {reason}") from error
                wait = error.wait if isinstance(error, _Again) and error.wait is not None else 0.0
                wait = max(wait, min(LONGEST_WAIT, FIRST_WAIT * 2 ** (failures - 1)))
                _LOG.info("%s: %s; again in %.1f s from byte %d", self.address, reason, wait, self._position())
                time.sleep(wait)

    def _position(self) -> int:
        return int(self.file.tell())  # type: ignore[attr-defined]

    def _attempt(self) -> None:
        start = self._position()
        asked = {"Range": f"bytes={start}-", "If-Range": self.tag} if start and self.tag else {}
        if start and not asked:
            start = self._restart()
        # An encoding on the way would make lengths those of something else.
        with self.client.stream("GET", self.url, headers={**self.headers, "Accept-Encoding": "identity", **asked}) as r:
            self._check(r)
            if start and r.status_code != httpx2.codes.PARTIAL_CONTENT:
                start = self._restart()
            self.tag = r.headers.get("ETag", "")
            for block in r.iter_raw(_BLOCK):
                self.file.write(block)  # type: ignore[attr-defined]
            promised = r.headers.get("Content-Length")
        if promised is not None and self._position() - start < int(promised):
            raise _Again(f"it broke off after {self._position() - start} of {promised} bytes")

    def _restart(self) -> int:
        self.file.seek(0)  # type: ignore[attr-defined]
        self.file.truncate()  # type: ignore[attr-defined]
        return 0

    def _check(self, response: httpx2.Response) -> None:
        code = response.status_code
        if code in TRANSIENT:
            raise _Again(f"the server answers {code}", _seconds_asked(response.headers.get("Retry-After", "")))
        if code == httpx2.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._restart()
            raise _Again("the file has changed on the server")
        if code >= 400:
            raise Unreachable(f"the server answers {code} {response.reason_phrase}".rstrip())


def _seconds_asked(value: str) -> float | None:
    """Read Retry-After: seconds, or a date (RFC 9110, section 10.2.3)."""
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _request(address: str) -> tuple[str, dict[str, str]]:
    """Return URL and headers of an address."""
    if not address.startswith("hf://"):
        return address, {}
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"expected the Hub to be switched on for {address}, found HF_HUB_OFFLINE set. Fetch the data set first "
            "and give its folder, or unset it."
        )
    place: Any = HfFileSystem().resolve_path(address)
    url = hf_hub_url(place.repo_id, place.path_in_repo, repo_type=place.repo_type, revision=place.revision)
    return url, build_hf_headers()
