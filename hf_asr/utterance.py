"""The two records that everything passes on, and the legend of every shape in this package.

Shape legend, used in all docstrings:

=====  ==================================================================
``B``  clips in a batch
``T``  samples of a waveform at 16 kHz
``M``  log-mel (or fbank) frames of a clip, 100 a second
``S``  encoder states, what the decoder attends to
``F``  mel bins
``L``  label tokens of a clip
``V``  entries of the vocabulary
=====  ==================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Seconds = float


@dataclass(frozen=True, slots=True)
class AudioRef:
    """Where a clip's encoded audio is; nothing is read or decoded.

    Attributes:
        path: File on disk; empty when ``data`` is given.
        data: Encoded bytes (a Parquet cell); then ``path`` is at most a name for messages.
        offset: First byte inside ``path`` (a member of an uncompressed tar archive).
        size: Bytes from ``offset``; 0 means the whole file.
        start: Beginning of the clip inside the decoded audio, in seconds.
        end: End of the clip inside the decoded audio, in seconds; None means to the end.
    """

    path: str = ""
    data: bytes | None = None
    offset: int = 0
    size: int = 0
    start: Seconds = 0.0
    end: Seconds | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """One transcribed clip, undecoded, so that filters cost nothing.

    Attributes:
        id: Unique within its corpus.
        audio: Where its audio is.
        text: Transcript as the corpus has it.
        speaker: Speaker's id in the corpus; empty when unknown.
        duration: Length in seconds; None when not known yet.
        language: Language tag of the corpus row; empty when unknown.
        corpus: Name of the corpus it came from.
        label: Class name or number, for classifiers.
        extra: Other columns of the corpus row (gender, age, accent ...), as text.
    """

    id: str
    audio: AudioRef
    text: str
    speaker: str = ""
    duration: Seconds | None = None
    language: str = ""
    corpus: str = ""
    label: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """Turn it into a row of a ``datasets`` table; ``extra`` becomes JSON text."""
        row = {name: value for name, value in asdict(self).items() if name != "extra"}
        return row | {"extra": json.dumps(dict(self.extra), ensure_ascii=False, sort_keys=True)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Utterance:
        """Undo :meth:`as_row`; columns that are not ours are left alone."""
        values = {name: row[name] for name in ("id", "text", "speaker", "duration", "language", "corpus", "label")}
        return cls(audio=AudioRef(**row["audio"]), extra=json.loads(row["extra"]), **values)


# Arrow types of Utterance.as_row, by name, for datasets.Features: strings so that nothing heavy is imported here.
ROW_TYPES: dict[str, Any] = {
    "id": "string",
    "audio": {
        "path": "string",
        "data": "binary",
        "offset": "int64",
        "size": "int64",
        "start": "float64",
        "end": "float64",
    },
    "text": "string",
    "speaker": "string",
    "duration": "float64",
    "language": "string",
    "corpus": "string",
    "label": "string",
    "extra": "string",
}


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a model wrote for the clip with this id."""

    id: str
    text: str


@dataclass(slots=True)
class Drops:
    """What was left out, by reason, each with its id: nothing is silently lost.

    Attributes:
        reasons: Reason (``too_short``, ``broken_audio`` ...) to a list of (id, detail).
    """

    reasons: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, reason: str, id: str, detail: str = "") -> None:
        """Count one utterance left out."""
        self.reasons.setdefault(reason, []).append((id, detail))

    def merge(self, other: Drops) -> None:
        """Take over what another part left out."""
        for reason, items in other.reasons.items():
            self.reasons.setdefault(reason, []).extend(items)

    def counts(self) -> dict[str, int]:
        """Return reason to number, the form that reports store."""
        return {reason: len(items) for reason, items in sorted(self.reasons.items())}

    def total(self) -> int:
        """Return how many were left out in all."""
        return sum(len(items) for items in self.reasons.values())

    def lines(self, limit: int = 20) -> Iterator[str]:
        """Yield one line a reason, naming the first ``limit`` ids with their details."""
        for reason, items in sorted(self.reasons.items()):
            named = "; ".join(f"{id} ({detail})" if detail else id for id, detail in items[:limit])
            rest = f"; and {len(items) - limit} more" if len(items) > limit else ""
            yield f"{reason}: {len(items)} left out: {named}{rest}"

    def to_dict(self) -> dict[str, list[list[str]]]:
        """Return a JSON-able copy; :meth:`from_dict` undoes it."""
        return {reason: [list(item) for item in items] for reason, items in self.reasons.items()}

    @classmethod
    def from_dict(cls, saved: Mapping[str, list[list[str]]]) -> Drops:
        """Read back what :meth:`to_dict` returned."""
        return cls({reason: [(id, detail) for id, detail in items] for reason, items in saved.items()})
