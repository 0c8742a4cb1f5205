"""How long clips are, read from their headers once and kept in a ``clip_durations.tsv``.

The file has Common Voice's own columns, ``clip`` and ``duration[ms]``, and one more, ``bytes``: the size that the clip
had, so that a clip encoded anew is read again. It lies beside the clips (for a folder ``clips``: beside that folder,
where Mozilla's own is), or in the cache where that place is read-only, has a file that is not ours, or is an archive.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from rich.console import Console
from rich.progress import track

from hf_asr.data.archives import cache_folder, file_key, is_archive
from hf_asr.data.audio import BrokenAudio, duration_of
from hf_asr.data.tables import Region, byte_lines
from hf_asr.files import write_whole
from hf_asr.utterance import AudioRef, Drops, Seconds, Utterance

NAME = "clip_durations.tsv"
_LOG = logging.getLogger(__name__)
_COLUMNS = ("clip", "duration[ms]", "bytes")
_SHOW_PROGRESS = 1000
# Reading a header waits for the disk or the network more than for the CPU (0.2 ms a clip).
_THREADS = 8


def fill_durations(
    utterances: Iterable[Utterance], drops: Drops, folder: str | os.PathLike[str] | None = None
) -> list[Utterance]:
    """Give every utterance its duration: from its own times, a side-car that knows the clip, or the clip's header.

    Args:
        utterances: What a reader yielded; those that have a duration pass through.
        drops: Takes clips whose header cannot be read, as ``broken_audio``.
        folder: Where the side-car belongs when the clips lie in several folders below it; without it such a side-car
            is kept in the cache.

    Returns:
        The utterances in their order, each with a duration, without the broken ones.
    """
    rows = list(utterances)
    wanted = list(dict.fromkeys(_whole(row.audio) for row in rows if row.duration is None and row.audio.end is None))
    sidecar = _find_sidecar(wanted, folder)
    lengths: dict[AudioRef, Seconds | BrokenAudio] = {**sidecar.lookup(wanted)}
    # In an archive's order: a table names clips in another, and a disk that turns would seek for each.
    unread = sorted((audio for audio in wanted if audio not in lengths), key=lambda audio: (audio.path, audio.offset))
    lengths.update(zip(unread, _read_headers(unread), strict=True))
    sidecar.add({audio: length for audio in unread if not isinstance(length := lengths[audio], BrokenAudio)})
    return [filled for row in rows if (filled := _filled(row, lengths, drops)) is not None]


@lru_cache(maxsize=2)
def read_durations(region: Region, key: str) -> Mapping[str, tuple[Seconds, int | None]]:
    """Read a ``clip_durations.tsv``, Mozilla's or ours; lines that make no sense are left out, those clips are read.

    Args:
        region: Where it is.
        key: The file's :func:`file_key`; while it stays the same, the file is not read again (a split is filled block
            by block).

    Returns:
        Clip to (seconds, bytes of the clip, None where the file does not tell). Empty where it has not the columns.
    """
    lines = (line.decode("utf-8", "replace").split("\t") for _, line in byte_lines(region))
    header = next(lines, [])
    if not {"clip", "duration[ms]"} <= set(header):
        return {}
    clip, length = header.index("clip"), header.index("duration[ms]")
    size = header.index("bytes") if "bytes" in header else None
    known = {}
    for fields in lines:
        if len(fields) == len(header) and (seconds := _milliseconds(fields[length])):
            known[fields[clip]] = seconds, int(fields[size]) if size is not None and fields[size].isdecimal() else None
    return known


def _milliseconds(text: str) -> Seconds:
    """Return a positive number of milliseconds in seconds, 0 for anything else."""
    try:
        seconds = float(text) / 1000
    except ValueError:
        return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


@dataclass(slots=True)
class _Sidecar:
    """Where lengths are kept.

    Attributes:
        base: Folder that the clips' names in it are relative to.
        beside: Path beside the clips; None where it does not belong there.
        cached: Path in the cache.
        known: What our own files say, by name: (seconds, bytes).
    """

    base: str
    beside: Path | None
    cached: Path
    known: dict[str, tuple[Seconds, int | None]] = field(default_factory=dict)

    def lookup(self, wanted: Sequence[AudioRef]) -> dict[AudioRef, Seconds]:
        """Return what is known of these files and still true: they have the size they had."""
        for path in (self.cached, self.beside):
            try:
                self.known |= read_durations(Region(path), file_key(path)) if path and path.is_file() else {}
            except OSError as error:
                _LOG.info("durations in %s cannot be read: %s", path, error)
        found = {}
        for audio in wanted:
            seconds, size = self.known.get(self._name(audio), (0.0, None))
            if seconds and size in (None, _size(audio)):
                found[audio] = seconds
        return found

    def add(self, lengths: Mapping[AudioRef, Seconds]) -> None:
        """Keep more lengths, beside the clips or in the cache; what cannot be written is only read again."""
        fresh = {self._name(audio): (seconds, _size(audio)) for audio, seconds in lengths.items() if audio.data is None}
        if not fresh:
            return
        self.known |= {name: entry for name, entry in fresh.items() if not {"\t", "\n"} & set(name)}
        for path in (self.beside, self.cached):
            if path is not None and _is_ours(path) and self._write(path):
                return

    def _write(self, path: Path) -> bool:
        entries = sorted(self.known.items())
        rows = [f"{name}\t{seconds * 1000:.3f}\t{'' if size is None else size}" for name, (seconds, size) in entries]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, "\n".join(("\t".join(_COLUMNS), *rows, "")), errors="surrogateescape")
        except OSError as error:
            _LOG.info("durations are not kept in %s: %s", path, error)
            return False
        _LOG.info("%d durations are kept in %s", len(self.known), path)
        return True

    def _name(self, audio: AudioRef) -> str:
        name = os.path.relpath(audio.path, self.base).replace(os.sep, "/") if audio.path else ""
        return f"{name}@{audio.offset}" if audio.size else name


def _find_sidecar(wanted: Sequence[AudioRef], folder: str | os.PathLike[str] | None) -> _Sidecar:
    """Choose the side-car's places from where the files are."""
    folders = {os.path.dirname(os.path.abspath(audio.path)) for audio in wanted if audio.data is None}
    base = os.path.commonpath(folders) if folders else ""
    below = os.path.abspath(folder) if folder is not None else None
    beside: Path | None = None
    if len(folders) == 1:
        beside = (Path(base).parent if Path(base).name == "clips" else Path(base)) / NAME
    elif below and folders and Path(below) in (Path(base), *Path(base).parents):
        base, beside = below, Path(below) / NAME
    if any(is_archive(audio.path) for audio in wanted):
        beside = None
    key = hashlib.sha256(base.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return _Sidecar(base, beside, cache_folder("durations") / f"{key}.tsv")


def _is_ours(path: Path) -> bool:
    """Tell whether a side-car may be written: it is absent or ours, and its folder is not marked read-only.

    The mark counts for root as well, whom the system would let write: a shared corpus stays as it is.
    """
    try:
        if not os.stat(path.parent).st_mode & 0o222:
            return False
        return next(byte_lines(Region(path)), (1, b""))[1] == "\t".join(_COLUMNS).encode()
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _read_headers(files: Sequence[AudioRef]) -> list[Seconds | BrokenAudio]:
    with ThreadPoolExecutor(_THREADS) as pool:
        lengths = pool.map(_length, files)
        console = Console(stderr=True)  # stdout belongs to results
        return list(track(lengths, "durations", len(files), console=console, disable=len(files) <= _SHOW_PROGRESS))


def _length(audio: AudioRef) -> Seconds | BrokenAudio:
    try:
        return duration_of(audio)
    except BrokenAudio as error:
        return error


def _filled(row: Utterance, lengths: Mapping[AudioRef, Seconds | BrokenAudio], drops: Drops) -> Utterance | None:
    if row.duration is not None:
        return row
    if row.audio.end is not None:
        return replace(row, duration=row.audio.end - row.audio.start)
    length = lengths[_whole(row.audio)]
    if isinstance(length, BrokenAudio) or length <= row.audio.start:
        reason = f"lasts {length} s, the clip would start at {row.audio.start} s"
        drops.add("broken_audio", row.id, str(length) if isinstance(length, BrokenAudio) else reason)
        return None
    return replace(row, duration=length - row.audio.start)


def _whole(audio: AudioRef) -> AudioRef:
    return replace(audio, start=0.0, end=None)


def _size(audio: AudioRef) -> int | None:
    """Return the bytes of a file now; None where it cannot be looked at (its header then cannot be read either)."""
    if audio.size or audio.data is not None:
        return audio.size
    try:
        return os.stat(audio.path).st_size
    except (OSError, ValueError):
        return None
