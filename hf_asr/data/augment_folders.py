"""A folder of recordings to draw from: noises, impulse responses."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, duration_of, load
from hf_asr.data.audiofolder import AUDIO_SUFFIXES
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recordings:
    """The audio files below a folder, in the order of their names, so that every process draws the same.

    Attributes:
        files: Their paths; at least one can be decoded.
    """

    files: tuple[str, ...]

    def draw(self, random: np.random.RandomState, seconds: float | None = None) -> np.ndarray:
        """Return a recording, drawn evenly; where it cannot be decoded, the next that can.

        Args:
            random: Draws the file, and the place in it.
            seconds: Longest stretch that is wanted, from a random place; None for the whole recording.

        Returns:
            (T,) float32 at 16 kHz, never empty.
        """
        first, place = random.randint(len(self.files)), random.random_sample()
        for number in range(len(self.files)):
            file = self.files[(first + number) % len(self.files)]
            try:
                return load(_stretch(file, seconds, place))
            except BrokenAudio as error:
                logger.warning("left out of augmentation: %s", error)
        raise UserError(f"augment: expected a recording that can be decoded, found none any more beside {file}.")


def open_recordings(folder: str, key: str) -> Recordings:
    """List a folder, folders in it included.

    Args:
        folder: Where the recordings are.
        key: The setting that names it, for the message.

    Raises:
        UserError: It is no folder, or holds nothing that can be decoded.
    """
    place = Path(folder)
    if not place.is_dir():
        found = "a file" if place.is_file() else "nothing there"
        raise UserError(f"{key}: expected a folder of recordings, found {found}: {folder}. Check the path.")
    there = sorted(path for path in place.rglob("*") if path.is_file())
    files = tuple(str(path) for path in there if path.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        found = f"{len(there)} files of other kinds" if there else "it empty"
        raise UserError(
            f"{key}: expected recordings ({', '.join(AUDIO_SUFFIXES)}) in {folder}, found {found}. Put some there, or "
            "remove the key."
        )
    fault = _first_fault(files)
    if fault is not None:
        raise UserError(
            f"{key}: expected recordings that can be decoded in {folder}, found none among {len(files)}: {fault}. "
            "Replace them, or remove the key."
        )
    return Recordings(files)


def _first_fault(files: tuple[str, ...]) -> BrokenAudio | None:
    """Return why the first cannot be decoded when none can; None as soon as one can."""
    first: BrokenAudio | None = None
    for file in files:
        try:
            load(_stretch(file, 1.0, 0.0))
            return None
        except BrokenAudio as error:
            first = first or error
    return first


def _stretch(file: str, seconds: float | None, place: float) -> AudioRef:
    """Return where a stretch of a recording is: only that is decoded, a noise may last for hours.

    Raises:
        BrokenAudio: The header cannot be read.
    """
    whole = AudioRef(path=file)
    if seconds is None or (length := duration_of(whole)) <= seconds + 1 / SAMPLE_RATE:
        return whole
    start = place * (length - seconds)
    return AudioRef(path=file, start=start, end=start + seconds)
