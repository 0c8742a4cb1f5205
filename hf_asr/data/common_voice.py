"""Mozilla Common Voice releases, and Mozilla Data Collective archives, which have the same layout.

::

    cv-corpus-22.0-2025-06-20/          data.path: this folder (with data.language: ru), the folder ru,
        ru/                             or a .tar / .tar.gz of either
            train.tsv dev.tsv test.tsv validated.tsv invalidated.tsv other.tsv
            clip_durations.tsv          clip, duration[ms]
            clips/
                common_voice_ru_18849003.mp3

A split is the name of a TSV (``validation`` is ``dev.tsv``) or a TSV file of one's own with the same columns. Columns
are found by the header, so that releases from 1 to 25 read alike. data.transcripts names a folder of TSVs, or one TSV,
kept apart from the clips.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hf_asr.config.arguments import DataArguments
from hf_asr.data.archives import Member, file_key, plain_tar, tar_index
from hf_asr.data.columns import join, leaves_folder, outvoted, unique_ids
from hf_asr.data.durations import NAME as DURATIONS
from hf_asr.data.durations import read_durations
from hf_asr.data.tables import Region, check_file, open_table
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance

_LOG = logging.getLogger(__name__)
# Columns that an Utterance has fields for; "accents" is what releases from 8 on call "accent".
_FIELDS = {"client_id", "path", "sentence", "locale"}
_RENAMED = {"accents": "accent"}
# A language folder may lie this deep: data.path / cv-corpus-22.0-2025-06-20 / ru.
_DEEPEST = 2


@dataclass(frozen=True, slots=True)
class Release:
    """One language of a release.

    Attributes:
        name: What messages call it.
        folder: The language folder; inside the archive where there is one.
        archive: The uncompressed .tar, or None for a folder.
        members: What the archive holds, empty for a folder.
        tables: Stem of each TSV (``train``) to where it is.
    """

    name: str
    folder: str
    archive: Path | None
    members: Mapping[str, Member]
    tables: Mapping[str, Region]

    def find(self, clip: str) -> AudioRef | None:
        """Return where a clip is, None where it is missing. Names without ``.mp3`` are old releases'."""
        for name in (clip, f"{clip}.mp3"):
            if self.archive is not None:
                member = self.members.get(join(self.folder, f"clips/{name}"))
                if member is not None:
                    return AudioRef(path=str(self.archive), offset=member.offset, size=member.size)
            elif os.path.isfile(path := os.path.join(self.folder, "clips", name)):  # False for a loop of links
                return AudioRef(path=path)
        return None


def read(data: DataArguments, split: str, drops: Drops) -> Iterator[Utterance]:
    """Yield the clips of one TSV; no audio is opened.

    Args:
        data: The ``data`` section.
        split: Name of a TSV with or without ``.tsv``, or the path of one.
        drops: Takes rows that cannot be used: ``bad_row`` (fields missing, NUL, not UTF-8), ``votes``
            (data.filter_votes), ``outside_release`` (a path that leaves the release is refused), ``missing_audio``,
            ``duplicate_id``.

    Raises:
        UserError: There is no release, language or TSV of that name, or the TSV lacks columns or rows.
    """
    release = open_release(data)
    table = open_table(_table_of(release, split), "\t")
    table.require("path", "sentence")
    if data.filter_votes and not {"up_votes", "down_votes"} <= set(table.columns):
        _LOG.info("%s has no votes, so none are compared", table.region)
    seconds = _durations(release)
    rows = (_utterance(release, row, line, seconds, data, drops) for line, row in table.rows(drops))
    yield from unique_ids((row for row in rows if row is not None), drops)


def _utterance(
    release: Release, row: dict[str, str], line: int, seconds: Mapping[str, float], data: DataArguments, drops: Drops
) -> Utterance | None:
    clip = row["path"]
    id = os.path.splitext(clip.rpartition("/")[2])[0] or f"line {line}"
    refused = leaves_folder(clip)
    audio = None if refused else release.find(clip)
    if data.filter_votes and (votes := outvoted(row)):
        drops.add("votes", id, votes)
    elif refused:
        drops.add("outside_release", id, f"line {line}: {clip} is refused, it leads out of the release")
    elif audio is None:
        drops.add("missing_audio", id, f"line {line}: no {clip or 'path'} in clips/ of {release.name}")
    else:
        extra = {_RENAMED.get(name, name): value for name, value in row.items() if value and name not in _FIELDS}
        return Utterance(
            id=id,
            audio=audio,
            text=row["sentence"],
            speaker=row.get("client_id", ""),
            duration=seconds.get(clip) or seconds.get(f"{clip}.mp3"),
            language=row.get("locale") or data.language or "",
            corpus="common_voice",
            label=row.get(data.columns.get("label", ""), ""),
            extra=extra,
        )
    return None


def open_release(data: DataArguments) -> Release:
    """Find the language folder that data.path and data.language mean.

    Raises:
        UserError: data.path is missing or holds no release, or not this language's.
    """
    if not data.path:
        raise UserError("data.corpus common_voice needs data.path: the release folder, or its .tar or .tar.gz")
    if os.path.isdir(data.path):
        folder = _choose_language(_language_folders(Path(data.path)), data)
        return Release(folder, folder, None, {}, _tables_in(Path(folder)) | _transcripts(data))
    if not os.path.exists(data.path):
        raise UserError(f"expected a Common Voice release at data.path {data.path}, found nothing there")
    archive = plain_tar(data.path)
    members = tar_index(archive)
    folder = _choose_language(_folders_in(members), data)
    tables = {
        PurePosixPath(name).stem: Region(archive, place.offset, place.size, f"{data.path}/{name}")
        for name, place in members.items()
        if name.endswith(".tsv") and str(PurePosixPath(name).parent) == folder
    }
    return Release(data.path, folder, archive, members, tables | _transcripts(data))


def _folders_in(members: Iterable[str]) -> list[str]:
    """Return the folders of an archive that hold TSVs or clips."""
    tables = {str(PurePosixPath(name).parent) for name in members if name.endswith(".tsv")}
    clips = {name.rpartition("/")[0] for name in members}
    return sorted(tables | {str(PurePosixPath(folder).parent) for folder in clips if folder.split("/")[-1] == "clips"})


def _language_folders(root: Path) -> list[str]:
    """Return the folders that hold TSVs or clips: ``root`` itself, or those below it."""
    level = [root]
    try:
        for _ in range(_DEEPEST + 1):
            found = [str(path) for path in level if (path / "clips").is_dir() or any(path.glob("*.tsv"))]
            if found:
                return found
            level = sorted(path for parent in level for path in parent.iterdir() if path.is_dir())
    except OSError as error:
        raise UserError(f"the folder {error.filename} cannot be read: {error.strerror}") from error
    return []


def _choose_language(folders: list[str], data: DataArguments) -> str:
    """Pick the folder of data.language: by its whole tag, else by its first part (``sv`` finds ``sv-SE``)."""
    if not folders:
        raise UserError(f"expected TSVs and clips/ of a Common Voice release in {data.path}, found neither")
    if len(folders) == 1:
        return folders[0]
    names = {PurePosixPath(folder.replace(os.sep, "/")).name.casefold(): folder for folder in folders}
    language = (data.language or "").casefold()
    similar = [folder for name, folder in names.items() if name.split("-")[0] == language.split("-")[0]]
    if language in names or len(similar) == 1:
        return names.get(language) or similar[0]
    raise UserError(
        f"{data.path} holds {', '.join(sorted(names))}; set data.language to one of them, found {data.language!r}"
    )


def _tables_in(folder: Path) -> dict[str, Region]:
    return {path.stem: Region(path) for path in sorted(folder.glob("*.tsv"))}


def _transcripts(data: DataArguments) -> dict[str, Region]:
    """Return the TSVs of data.transcripts, empty when it is not set."""
    if not data.transcripts:
        return {}
    if os.path.isdir(data.transcripts):
        return _tables_in(Path(_choose_language(_language_folders(Path(data.transcripts)), data)))
    return {Path(data.transcripts).stem: Region(check_file(data.transcripts, "a TSV"))}


def _table_of(release: Release, split: str) -> Region:
    """Return the TSV of a split."""
    stem = split.removesuffix(".tsv")
    for name in (stem, "dev") if stem == "validation" else (stem,):
        if name in release.tables:
            return release.tables[name]
    if os.path.isfile(split):
        return Region(Path(split))
    known = ", ".join(sorted(set(release.tables) - {Path(DURATIONS).stem})) or "none"
    raise UserError(f"no {stem}.tsv in {release.name}; its TSVs are {known}; name one in data.splits, or give a file")


def _durations(release: Release) -> Mapping[str, float]:
    """Return what Mozilla's clip_durations.tsv says; ours, which also has sizes to check, is read when filling."""
    region = release.tables.get(Path(DURATIONS).stem)
    try:
        known = read_durations(region, file_key(region.path)) if region else {}
    except OSError as error:
        _LOG.warning("%s cannot be read, the clips' headers are: %s", region, error.strerror)
        return {}
    return {clip: seconds for clip, (seconds, size) in known.items() if size is None}
