"""Which column of a table, a JSON line or a Hub data set holds what, and the utterance that a row makes."""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Seconds, Utterance

_LOG = logging.getLogger(__name__)

# A root, a drive of Windows, or a part that is "..", with either kind of slash.
_OUTWARDS = re.compile(r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:$|[/\\])")
# Names that a role's column has in the wild, the first that is there wins. data.columns says otherwise.
GUESSES: dict[str, tuple[str, ...]] = {
    "id": ("id", "utt_id", "utterance_id", "utt", "uttid", "key", "sid", "segment_id"),
    "audio": ("audio", "path", "file", "file_name", "filename", "filepath", "wav", "audio_filepath", "audio_path"),
    "text": ("text", "sentence", "transcript", "transcription", "transcripts", "normalized_text", "raw_text", "txt"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk_id", "spk", "user_id"),
    "duration": ("duration", "seconds", "duration_seconds", "duration_s", "audio_duration"),
    "label": ("label",),
    "split": ("split",),
    "language": ("locale", "language", "lang"),  # not a key of data.columns
}
# What other corpora call our three splits; a name that is there as written comes first.
SPLIT_NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "dev", "valid", "val"),
    "test": ("test", "testing", "eval"),
}


def unique_ids(utterances: Iterable[Utterance], drops: Drops) -> Iterator[Utterance]:
    """Let each id pass once: two clips of one name could not be told apart in predictions."""
    seen: set[str] = set()
    for utterance in utterances:
        if utterance.id in seen:
            drops.add("duplicate_id", utterance.id, "a second row of this name; data.columns.id names a column of ids")
        else:
            seen.add(utterance.id)
            yield utterance


def leaves_folder(name: str) -> bool:
    """Tell whether a path inside a release leads out of it: absolute, of another drive, or through ``..``."""
    return _OUTWARDS.search(name) is not None


def outvoted(row: Mapping[str, Any]) -> str:
    """Say why a Common Voice row fails the vote filter, up_votes > down_votes; empty when it passes or has no votes."""
    up, down = row.get("up_votes"), row.get("down_votes")
    if up is None or down is None:
        return ""
    try:
        return "" if int(up) > int(down) else f"{up} up, {down} down"
    except ValueError:
        return f"votes that are no numbers: {up!r} up, {down!r} down"


def as_text(value: Any) -> str:
    """Return a cell as text; what is no text, number or boolean (a list, a struct, nothing) is empty."""
    return str(value) if isinstance(value, str | int | float) else ""


def as_seconds(value: Any) -> Seconds | None:
    """Return a cell as a positive number of seconds; None for anything else, then the header is asked."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 < seconds < float("inf") else None


@dataclass(frozen=True, slots=True)
class Columns:
    """Role (``audio``, ``text``, ...) to the name of its column; roles that have none are missing."""

    names: Mapping[str, str]

    @classmethod
    def choose(
        cls, found: Sequence[str], given: Mapping[str, str], where: str, needed: Sequence[str] = ("audio", "text")
    ) -> Columns:
        """Choose columns: those of data.columns, else guesses from their names, which the log tells.

        Args:
            found: Columns that there are.
            given: ``data.columns``.
            where: What messages call the table.
            needed: Roles that must have a column.

        Raises:
            UserError: A column of data.columns is not there, or a needed role has none.
        """
        wrong = [f"data.columns.{role}: {name}" for role, name in given.items() if name not in found]
        if wrong:
            raise UserError(f"{where} has no column for {', '.join(wrong)}; its columns are {', '.join(found)}")
        lower = {name.casefold(): name for name in reversed(found)}
        guesses = {role: [lower[name] for name in known if name in lower] for role, known in GUESSES.items()}
        names = {role: there[0] for role, there in guesses.items() if there and role not in given}
        missing = [role for role in needed if role not in names and role not in given]
        if missing:
            keys = ", ".join(f"data.columns.{role}" for role in missing)
            raise UserError(
                f"no column of {where} looks like {' or '.join(missing)}; its columns are {', '.join(found)}; "
                f"say which it is in {keys}"
            )
        if names:
            _LOG.info("%s: columns taken by their names: %s", where, ", ".join(f"{r}={c}" for r, c in names.items()))
        return cls({**names, **given})

    def text(self, row: Mapping[str, Any], role: str) -> str:
        """Return a row's text in a role; empty where the role has no column."""
        return as_text(row.get(self.names[role])) if role in self.names else ""

    def utterance(self, row: Mapping[str, Any], audio: AudioRef, id: str, corpus: str, language: str) -> Utterance:
        """Make an utterance of a row.

        Args:
            row: Column to value.
            audio: Where the row's audio is.
            id: Its id where there is no column of ids, or an empty one.
            corpus: Name of the corpus.
            language: Language where the row does not tell.
        """
        taken = set(self.names.values())
        return Utterance(
            id=self.text(row, "id") or id,
            audio=audio,
            text=self.text(row, "text"),
            speaker=self.text(row, "speaker"),
            duration=as_seconds(row.get(self.names["duration"])) if "duration" in self.names else None,
            language=self.text(row, "language") or language,
            corpus=corpus,
            label=self.text(row, "label"),
            extra={name: text for name, value in row.items() if name not in taken and (text := as_text(value))},
        )


def in_split(value: str, split: str) -> bool:
    """Tell whether a cell of the split column names a split, as written or by another corpus's word for it."""
    return value == split or value.casefold() in SPLIT_NAMES.get(split, ())


def join(folder: str, name: str) -> str:
    """Join a folder inside an archive with a name, ``/`` between them on every system."""
    return posixpath.normpath(posixpath.join(folder, name))
