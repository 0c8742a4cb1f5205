"""Keys and tokens that must not be published: found by their forms, named by file and line, never shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from huggingface_hub import get_token

from hf_asr.errors import UserError
from hf_asr.hub.run_files import PushFile

# Forms that their makers document. Lengths are the shortest in use, so that a word of a vocabulary is none.
FORMS: dict[str, re.Pattern[str]] = {
    "a Hugging Face token": re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}\b"),
    "an OpenAI or Anthropic key": re.compile(r"\bsk-(?:[A-Za-z]+-)*[A-Za-z0-9_-]{24,}"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})\b"),
    "a GitLab token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a Google key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    "a Slack token": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{16,}"),
    "a JSON web token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "a password in an address": re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s:@'\"]+:[^/\s:@'\"]{3,}@"),
    "a bearer token": re.compile(r"\bBearer\s+[A-Za-z0-9._~+/-]{20,}"),
}
# A value under a name that says what it is: at least 12 characters, of them a digit and a letter.
NAMED = re.compile(
    r"(?i)(?<![a-z])(?:api_?key|secret(?:_?(?:access_?)?key)?|access_?token|auth_?token|hub_?token|hf_?token|passw(?:or)?d)"
    r"['\"]?\s*[:=]\s*['\"]?(?=[^\s'\",}]*\d)(?=[^\s'\",}]*[A-Za-z])[^\s'\",}]{12,}"
)
NAMED_KIND = "a value named as a key or password"
# Numbers, not texts.
BINARY = (".safetensors", ".model", ".spm", ".parquet", ".bin")


@dataclass(frozen=True)
class Secret:
    """Where something stands that looks like a secret; not what it is.

    Attributes:
        place: The file.
        line: Its line, the first is 1.
        kind: What it looks like.
    """

    place: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.place}, line {self.line}: {self.kind}"


def find_secrets(text: str, place: str = "", known: Sequence[str] = ()) -> Iterator[Secret]:
    """Yield what looks like a secret, one for each line and kind.

    Args:
        text: The text.
        place: Name of the file for messages.
        known: Secrets of this machine, found wherever they stand.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        for kind, form in FORMS.items():
            if form.search(line):
                yield Secret(place, number, kind)
        if NAMED.search(line):
            yield Secret(place, number, NAMED_KIND)
        if any(secret in line for secret in known):
            yield Secret(place, number, "the Hub token of this machine")


def check_secrets(files: Sequence[PushFile]) -> None:
    """See that nothing that is to be pushed holds a secret.

    A line is that of the file on this machine where it stands in there too, else of the text that would be sent.

    Raises:
        UserError: Something does; it names file, line and kind, never the secret.
    """
    own = get_token()
    found = [secret for file in files for secret in _secrets_of(file, [own] if own else [])]
    if found:
        named = "; ".join(map(str, found[:10])) + (f"; and {len(found) - 10} more" if len(found) > 10 else "")
        raise UserError(
            f"push: expected no keys or passwords in what is published, found {len(found)}: {named}. Take them out "
            "(and revoke what was shown to others), then push again."
        )


def _secrets_of(file: PushFile, known: Sequence[str]) -> list[Secret]:
    if file.path.endswith(BINARY) or "tfevents" in file.path:
        return []
    sent = list(find_secrets(file.read().decode("utf-8", "replace"), file.path, known))
    if sent and file.content is not None and file.source.suffix not in BINARY and file.source.is_file():
        text = file.source.read_text(encoding="utf-8", errors="replace")
        kinds = {secret.kind for secret in sent}
        on_disk = [secret for secret in find_secrets(text, str(file.source), known) if secret.kind in kinds]
        return on_disk or sent
    return sent
