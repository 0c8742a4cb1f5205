"""Which short clips share one window of the model: a function of seed and epoch, nothing else.

Whisper takes 30 seconds whatever a clip's length; several clips joined in one window leave hardly any silence to
compute. Clips are joined with their neighbours: in the order of the corpus, clips of one speaker first. Every clip is
in exactly one window of an epoch, and every epoch has the same number of windows, since a schedule of the learning
rate counts steps. Letters as in :mod:`hf_asr.utterance`; N clips.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# A window's clips, by their places in the table.
Pieces = tuple[int, ...]

# A stream is packed so many clips at a time, and so is a table in its own order: both then have the same windows.
CLIPS_AT_ONCE = 64
# Epochs whose windows are counted before training: without single clips to play with, rotating the order moves the
# number a little. An epoch that needs more takes the first epoch's windows.
COUNTED_EPOCHS = 4
# How often the single clips of an epoch are drawn anew, fewer each time, before it does.
TRIES = 3


@dataclass(frozen=True)
class Room:
    """What one window holds.

    Attributes:
        frames: Frames of the model's window (M of a batch).
        tokens: Label tokens that clips may have together.
    """

    frames: int
    tokens: int


@dataclass(frozen=True, eq=False)
class ClipSizes:
    """What decides which clips fit together.

    Attributes:
        frames: Frames that each clip takes inside a window, (N,).
        tokens: Label tokens that each clip takes there, (N,).
        speakers: Speaker of each clip; those without one are taken for one speaker.
    """

    frames: Sequence[int]
    tokens: Sequence[int]
    speakers: Sequence[str]

    def __len__(self) -> int:
        return len(self.frames)

    def part(self, places: Sequence[int]) -> ClipSizes:
        """Return the sizes of some of the clips."""
        frames, tokens = ([column[place] for place in places] for column in (self.frames, self.tokens))
        return ClipSizes(frames, tokens, [self.speakers[place] for place in places])


def join_neighbours(sizes: ClipSizes, room: Room, order: Sequence[int], *, any_speaker: bool = False) -> list[Pieces]:
    """Join clips with those that follow them, speaker by speaker, as long as they fit.

    Args:
        sizes: What the clips take.
        room: What a window holds; a clip that is larger has a window of its own.
        order: The clips to join, in the order in which they follow each other.
        any_speaker: Then join each speaker's last window with other speakers' last ones, where they fit.

    Returns:
        Windows, by their first clip's place in ``order``.
    """
    by_speaker: dict[str, list[int]] = {}
    for clip in order:
        by_speaker.setdefault(sizes.speakers[clip], []).append(clip)
    windows, last = [], []
    for clips in by_speaker.values():
        *whole, rest = _next_fit(sizes, room, [(clip,) for clip in clips])
        windows += whole
        last.append(rest)
    rank = {clip: place for place, clip in enumerate(order)}
    windows += _next_fit(sizes, room, last) if any_speaker and last else last
    return sorted(windows, key=lambda window: rank[window[0]])


def plan_windows(
    sizes: ClipSizes,
    room: Room,
    *,
    share: float,
    any_speaker: bool,
    random: np.random.RandomState,
    rotate: bool = True,
    number: int | None = None,
) -> list[Pieces]:
    """Cut clips into windows of which a share holds several clips.

    Args:
        sizes: What the clips take.
        room: What a window holds.
        share: Windows that hold several clips, of all windows; fewer where clips cannot be joined.
        any_speaker: Whether clips of several speakers may share a window.
        random: Draws where each speaker's clips begin and which clips stay single.
        rotate: Whether to begin each speaker's clips at a drawn place; otherwise at the first.
        number: Windows that there must be; None for as many as the share asks for.

    Returns:
        Windows by the place of their first clip; with ``number``, more than that only where they cannot be fewer.
    """
    order = _rotated(sizes, random) if rotate else list(range(len(sizes)))
    full = join_neighbours(sizes, room, order, any_speaker=any_speaker)
    windows, singles = full, _singles_needed(full, len(sizes), share)
    drawn = [
        int(place) for place in random.permutation([clip for window in full if len(window) > 1 for clip in window])
    ]
    for _ in range(TRIES):
        alone = set(drawn[:singles])
        rest = [clip for clip in order if clip not in alone]
        windows = [(clip,) for clip in sorted(alone)] + join_neighbours(sizes, room, rest, any_speaker=any_speaker)
        if number is None or len(windows) <= number or not singles:
            break
        singles = max(0, singles - 2 * (len(windows) - number) - 1)
    windows = windows if number is None or len(windows) <= number else full
    target = _windows_wanted(windows, share) if number is None else number
    return sorted(_taken_apart(windows, target, random), key=min)


class WindowPlan:
    """The windows of every epoch.

    Args:
        sizes: What the clips take.
        ids: Their ids.
        room: What a window holds.
        share: ``data.pack_share``.
        any_speaker: Whether ``data.pack_speakers`` is ``any``.
        seed: ``experiment.seed``.
        shuffle: Whether every epoch has its own windows; otherwise rows are packed as they stand, as a stream is.
    """

    def __init__(
        self,
        sizes: ClipSizes,
        ids: Sequence[str],
        room: Room,
        *,
        share: float,
        any_speaker: bool,
        seed: int,
        shuffle: bool,
    ) -> None:
        assert len(sizes) == len(ids) > 0 and 0 <= share <= 1
        self.sizes, self.ids, self.room = sizes, ids, room
        self.share, self.any_speaker, self.seed, self.shuffle = share, any_speaker, seed, shuffle
        self.first = self._drawn(0, None) if shuffle else list(self._in_order())
        self.num_windows = max([len(self.first), *(self._fewest(epoch) for epoch in range(COUNTED_EPOCHS * shuffle))])

    def windows(self, epoch: int) -> list[Pieces]:
        """Return the windows of an epoch: always ``num_windows``, by the place of their first clip."""
        if not self.shuffle:
            return self.first
        drawn = self._drawn(epoch, self.num_windows)
        if len(drawn) > self.num_windows:
            drawn = sorted(_taken_apart(self.first, self.num_windows, _random_of(self.seed, epoch)), key=min)
        return drawn

    def filled(self) -> float:
        """Return which share of the first epoch's windows is speech; a clip that is too large fills its window."""
        frames = sum(min(self.sizes.frames[clip], self.room.frames) for window in self.first for clip in window)
        return frames / (len(self.first) * self.room.frames)

    def _drawn(self, epoch: int, number: int | None) -> list[Pieces]:
        random = _random_of(self.seed, epoch)
        shared: dict[str, Any] = {"share": self.share, "any_speaker": self.any_speaker}
        return plan_windows(self.sizes, self.room, random=random, number=number, **shared)

    def _fewest(self, epoch: int) -> int:
        order = _rotated(self.sizes, _random_of(self.seed, epoch))
        return len(join_neighbours(self.sizes, self.room, order, any_speaker=self.any_speaker))

    def _in_order(self) -> Iterator[Pieces]:
        for first in range(0, len(self.sizes), CLIPS_AT_ONCE):
            places = range(first, min(first + CLIPS_AT_ONCE, len(self.sizes)))
            part = self.sizes.part(places)
            shared: dict[str, Any] = {"share": self.share, "any_speaker": self.any_speaker, "seed": self.seed}
            for window in windows_of_part(part, self.ids[first], self.room, **shared):
                yield tuple(first + clip for clip in window)


def windows_of_part(
    sizes: ClipSizes, first_id: str, room: Room, *, share: float, any_speaker: bool, seed: int
) -> list[Pieces]:
    """Pack some clips in their order: the next ones of a stream, or of a table that is not shuffled.

    Args:
        sizes: What they take.
        first_id: Id of the first, which with the seed decides which clips stay single.
        room: What a window holds.
        share: Windows that hold several clips.
        any_speaker: Whether clips of several speakers may share a window.
        seed: ``experiment.seed``.
    """
    random = _random_of(seed, zlib.crc32(first_id.encode()))
    return plan_windows(sizes, room, share=share, any_speaker=any_speaker, random=random, rotate=False)


def share_packed(windows: Sequence[Pieces]) -> float:
    """Return which share of windows holds several clips."""
    return sum(len(window) > 1 for window in windows) / len(windows)


def _next_fit(sizes: ClipSizes, room: Room, blocks: Sequence[Pieces]) -> list[Pieces]:
    """Put blocks of clips into windows in their order; at least one window."""
    windows: list[list[int]] = [[]]
    frames = tokens = 0
    for block in blocks:
        more_frames = sum(sizes.frames[clip] for clip in block)
        more_tokens = sum(sizes.tokens[clip] for clip in block)
        if windows[-1] and (frames + more_frames > room.frames or tokens + more_tokens > room.tokens):
            windows.append([])
            frames = tokens = 0
        windows[-1] += block
        frames, tokens = frames + more_frames, tokens + more_tokens
    return [tuple(window) for window in windows]


def _rotated(sizes: ClipSizes, random: np.random.RandomState) -> list[int]:
    """Return all clips, each speaker's beginning at a drawn place and going round."""
    by_speaker: dict[str, list[int]] = {}
    for clip, speaker in enumerate(sizes.speakers):
        by_speaker.setdefault(speaker, []).append(clip)
    order: list[int] = []
    for clips in by_speaker.values():
        first = int(random.randint(len(clips)))
        order += clips[first:] + clips[:first]
    return order


def _singles_needed(full: Sequence[Pieces], clips: int, share: float) -> int:
    """Return how many clips to take out before joining, so that about ``share`` of the windows hold several.

    With P windows of several clips among N clips in all, taking S out leaves about P (N - S) / N; that is to be
    share / (1 - share) times the single ones, S and those that are single anyway.
    """
    if share >= 1:
        return 0
    packed = sum(len(window) > 1 for window in full)
    joined = sum(len(window) for window in full if len(window) > 1)
    if not packed:
        return 0
    odds = share / (1 - share)
    single = (packed - odds * (clips - joined)) / (packed / joined + odds)
    return min(max(0, int(single)), joined)


def _windows_wanted(windows: Sequence[Pieces], share: float) -> int:
    """Return how many windows there are once enough clips are taken out of those that hold several."""
    if share <= 0:
        return sum(map(len, windows))
    packed = sum(len(window) > 1 for window in windows)
    return max(len(windows), round(packed / share))


def _taken_apart(windows: Sequence[Pieces], number: int, random: np.random.RandomState) -> list[Pieces]:
    """Take clips out of windows, the last of each, until there are ``number`` windows; largest-holding ones first."""
    parts = [list(window) for window in windows]
    for least in (3, 2):
        while len(parts) < number:
            able = [place for place, window in enumerate(parts) if len(window) >= least]
            if not able:
                break
            for place in random.permutation(able)[: number - len(parts)]:
                parts.append([parts[place].pop()])
    return [tuple(window) for window in parts]


def _random_of(*words: int) -> np.random.RandomState:
    """Return numpy's generator whose numbers are promised never to change (NEP 19)."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(list(words))))
