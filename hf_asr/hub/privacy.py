"""What may leave this machine: local paths cut to names, speakers' ids hashed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

_ROOT = r"(?:file:/+|[A-Za-z]:[\\/]|\\\\|~[\w.-]*[\\/]|\.{1,2}[\\/]|/)"
# A value that begins like a path is one, spaces and all.
_WHOLE_PATH = re.compile(rf"{_ROOT}.*", re.DOTALL)
# A web address is matched first, and kept, so that its slashes are not taken for a path's.
_PATH_IN_TEXT = re.compile(
    r"(?P<address>\b(?!file:)[A-Za-z][A-Za-z0-9+.-]+://\S+)"
    rf"|(?P<quote>['\"])(?P<quoted>{_ROOT}.*?)(?P=quote)"
    rf"|(?<![\w/.~-])(?P<path>{_ROOT}[^\s'\",;()\[\]{{}}]*)"
)
SPEAKER_KEYS = frozenset({"speaker", "speakers", "speaker_id", "client_id"})


def last_part(path: str) -> str:
    """Return a path's last part, whichever system wrote it; the path ``/`` has none and becomes ``.``."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "."


def cut_paths(text: str) -> str:
    """Replace every absolute, home or dotted path in a text by its last part.

    A Hub id (``openai/whisper-small``), a plain relative path and a web address stay as they are.
    """
    if _WHOLE_PATH.fullmatch(text):
        return last_part(text)
    return _PATH_IN_TEXT.sub(_public_form, text)


def _public_form(match: re.Match[str]) -> str:
    if match["address"] is not None:
        return match["address"]
    if match["quoted"] is not None:
        return match["quote"] + last_part(match["quoted"]) + match["quote"]
    return last_part(match["path"])


def hash_speaker(speaker: str) -> str:
    """Return a name for a speaker that is the same everywhere and does not tell the id; empty stays empty."""
    return f"speaker-{hashlib.sha256(speaker.encode()).hexdigest()[:12]}" if speaker else ""


def public_value(value: Any, *, key: str = "") -> Any:
    """Return a copy of a JSON-like value that may be published.

    Args:
        value: Mappings, lists and scalars, nested at will.
        key: Name under which the value stands; under a name of ``SPEAKER_KEYS`` texts are speakers' ids.
    """
    if isinstance(value, Mapping):
        return {public_value(name): public_value(item, key=str(name)) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [public_value(item, key=key) for item in value]
    if not isinstance(value, str):
        return value
    return hash_speaker(value) if key in SPEAKER_KEYS else cut_paths(value)
