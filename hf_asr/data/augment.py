"""Augmentation of training clips: each transform of :mod:`hf_asr.config.augmentations`, and the chain of them.

Whether a transform acts on a clip, and how, is a function of (seed, epoch, the clip's id, the transform's name) alone:
workers, processes, batches, resuming, and which other transforms are used change nothing. Every transform gives float32
samples (T,) at 16 kHz, finite, with no sample beyond full scale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torchaudio

from hf_asr.config.augmentations import (
    BandLimit,
    Clipping,
    Codec,
    Concatenate,
    Gain,
    Mix,
    Noise,
    Pitch,
    Reverb,
    Shift,
    Speed,
)
from hf_asr.data.audio import SAMPLE_RATE, encode, load
from hf_asr.data.augment_folders import Recordings, open_recordings
from hf_asr.data.augment_signals import (
    clipped,
    fitted,
    from_db,
    from_direct_sound,
    generated_room,
    in_band,
    in_room,
    limited,
    pink_noise,
    silence,
    white_noise,
    with_noise,
)
from hf_asr.utterance import AudioRef

# Finest step of a speed or a pitch. A windowed-sinc kernel has numerator x denominator entries: 1/200 costs 8 ms for
# 5 s, 1/1000 costs 30 ms and 4 MB.
STEPS = 200
# STFT of the phase vocoder: 32 ms windows, a quarter apart.
N_FFT, HOP = 512, 128
GENERATED = {"white": white_noise, "pink": pink_noise}
# libsndfile's MP3 encoder refuses 1.
HIGHEST_COMPRESSION = {"opus": 1.0, "mp3": 0.99}


@dataclass(frozen=True)
class Clip:
    """A clip on its way through the transforms.

    Attributes:
        id: The corpus's.
        samples: (T,) float32 at 16 kHz.
        text: Its transcript.
        speaker: Speaker's id; empty when unknown.
    """

    id: str
    samples: np.ndarray
    text: str = ""
    speaker: str = ""

    def sounding(self, samples: np.ndarray) -> Clip:
        """Return it with other samples (T,), as float32 within full scale."""
        return replace(self, samples=limited(samples))


# Gives another clip of the training split: of the same speaker where there is one, when asked so. None: no other one
# that can be decoded.
Neighbours = Callable[[Clip, np.random.RandomState, bool], Clip | None]
Transform = Callable[[Clip, np.random.RandomState], Clip]


def random_of(seed: int, epoch: int, clip_id: str, transform: str) -> np.random.RandomState:
    """Return the generator of one transform of one clip in one epoch.

    ``RandomState`` is numpy's only generator whose numbers are promised never to change (NEP 19).
    """
    key = "\0".join((str(seed), str(epoch), transform, clip_id)).encode()
    words = np.frombuffer(hashlib.blake2b(key, digest_size=16).digest(), dtype="<u4")
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(words.tolist())))


def drawn(limits: Sequence[float], random: np.random.RandomState) -> float:
    """Draw a number evenly from a range [low, high]."""
    low, high = limits
    return low + (high - low) * float(random.random_sample())


@dataclass(frozen=True)
class ChangeSpeed:
    """Resampling: faster is shorter and higher (Ko et al. 2015)."""

    settings: Speed

    def __call__(self, clip: Clip, random: np.random.RandomState) -> Clip:
        """Draw a factor and apply it."""
        factor = nearest_ratio(drawn(self.settings.factor, random))
        return clip.sounding(resampled(clip.samples, factor))


@dataclass(frozen=True)
class ChangePitch:
    """Phase vocoder (Flanagan and Golden 1966) and resampling: higher or lower, of the same length."""

    settings: Pitch

    def __call__(self, clip: Clip, random: np.random.RandomState) -> Clip:
        """Draw an interval and apply it; a clip below one STFT window stays as it is."""
        ratio = nearest_ratio(2 ** (drawn(self.settings.semitones, random) / 12))
        if len(clip.samples) < N_FFT or ratio == 1:
            return clip
        pitched = resampled(stretched(clip.samples, float(ratio)), ratio)
        length = len(clip.samples)
        return clip.sounding(np.pad(pitched[:length], (0, max(0, length - len(pitched)))))


@dataclass(frozen=True)
class JoinNeighbour:
    """Another clip, of the same speaker where there is one, stands behind, and its text behind the text.

    Attributes:
        settings: Ranges.
        neighbours: Gives the other clip.
        separator: Between the texts: a space, nothing in languages written without.
    """

    settings: Concatenate
    neighbours: Neighbours
    separator: str = " "

    def __call__(self, clip: Clip, random: np.random.RandomState) -> Clip:
        """Draw a gap and a clip."""
        gap = silence(drawn(self.settings.gap_seconds, random))
        other = self.neighbours(clip, random, True)
        if other is None:
            return clip
        text = self.separator.join(part for part in (clip.text.strip(), other.text.strip()) if part)
        return replace(clip.sounding(np.concatenate([clip.samples, gap, other.samples])), text=text)


@dataclass(frozen=True)
class MixNeighbour:
    """Another clip, of any speaker, is heard quietly below.

    Attributes:
        settings: Ranges.
        neighbours: Gives the other clip.
    """

    settings: Mix
    neighbours: Neighbours

    def __call__(self, clip: Clip, random: np.random.RandomState) -> Clip:
        """Draw a level and a clip."""
        snr_db = drawn(self.settings.snr_db, random)
        other = self.neighbours(clip, random, False)
        if other is None:
            return clip
        return clip.sounding(with_noise(clip.samples, fitted(other.samples, len(clip.samples), random), snr_db))


@dataclass(frozen=True)
class AddSilence:
    """Silence before and after: speech does not always begin at once."""

    settings: Shift

    def __call__(self, clip: Clip, random: np.random.RandomState) -> Clip:
        """Draw both lengths."""
        before, after = (silence(drawn(self.settings.seconds, random)) for _ in range(2))
        return clip.sounding(np.concatenate([before, clip.samples, after]))


@dataclass(frozen=True)
class AddRoom:
    """Convolution with an impulse response, recorded or generated.

    Attributes:
        settings: Ranges.
        responses: Recorded ones; None for generated ones.
    """

    settings: Reverb
    responses: Recordings | None = None

    def __call__(self, clip: Clip, random: np.random.RandomState) -> Clip:
        """Draw a room."""
        if self.responses is not None:
            return clip.sounding(in_room(clip.samples, from_direct_sound(self.responses.draw(random))))
        rt60, wet_db = drawn(self.settings.rt60, random), drawn(self.settings.wet_db, random)
        return clip.sounding(in_room(clip.samples, generated_room(rt60, wet_db, random)))


@dataclass(frozen=True)
class AddNoise:
    """Noise at a signal-to-noise ratio over the whole clip.

    Attributes:
        settings: Ranges.
        recordings: Recorded noise, drawn as often as each generated kind; None for generated noise alone.
    """

    settings: Noise
    recordings: Recordings | None = None

    def __call__(self, clip: Clip, random: np.random.RandomState) -> Clip:
        """Draw a ratio, a kind, and the noise."""
        snr_db, length = drawn(self.settings.snr_db, random), len(clip.samples)
        kinds = [*self.settings.kinds, *(["folder"] if self.recordings else [])]
        kind = kinds[random.randint(len(kinds))]
        if kind != "folder" or self.recordings is None:
            noise = GENERATED[kind](length, random)
        else:
            noise = fitted(self.recordings.draw(random, length / SAMPLE_RATE), length, random)
        return clip.sounding(with_noise(clip.samples, noise, snr_db))


@dataclass(frozen=True)
class ChangeGain:
    """Louder or quieter."""

    settings: Gain

    def __call__(self, clip: Clip, random: np.random.RandomState) -> Clip:
        """Draw a gain."""
        return clip.sounding(clip.samples * from_db(drawn(self.settings.db, random)))


@dataclass(frozen=True)
class ClipLoudest:
    """Samples above a level are cut off."""

    settings: Clipping

    def __call__(self, clip: Clip, random: np.random.RandomState) -> Clip:
        """Draw a share."""
        return clip.sounding(clipped(clip.samples, drawn(self.settings.share, random)))


@dataclass(frozen=True)
class LimitBand:
    """Only a band is left."""

    settings: BandLimit

    def __call__(self, clip: Clip, random: np.random.RandomState) -> Clip:
        """Draw both edges."""
        low, high = drawn(self.settings.low_hz, random), drawn(self.settings.high_hz, random)
        return clip.sounding(in_band(clip.samples, low, high))


@dataclass(frozen=True)
class RoundTrip:
    """Encoded and decoded again."""

    settings: Codec

    def __call__(self, clip: Clip, random: np.random.RandomState) -> Clip:
        """Draw a codec and its compression; the length stays."""
        format = self.settings.formats[random.randint(len(self.settings.formats))]
        compression = min(drawn(self.settings.compression, random), HIGHEST_COMPRESSION[format])
        data = encode(limited(clip.samples), SAMPLE_RATE, format, compression=compression)
        decoded = load(AudioRef(data=data))[: len(clip.samples)]
        return clip.sounding(np.pad(decoded, (0, len(clip.samples) - len(decoded))))


@dataclass(frozen=True)
class Augmenter:
    """The chain of transforms, each with its probability.

    Attributes:
        transforms: By name, in the order in which they act.
        probabilities: By name.
        seed: ``experiment.seed``.
        shortest: Samples below which a clip is not made.
        longest: Samples beyond which a clip is not made: a transform that would is not applied.
    """

    transforms: Mapping[str, Transform]
    probabilities: Mapping[str, float]
    seed: int
    shortest: int = 1
    longest: float = float("inf")

    def __call__(self, clip: Clip, epoch: int, without: Collection[str] = ()) -> Clip:
        """Return the clip as it is in an epoch.

        Args:
            clip: As it was decoded and prepared.
            epoch: Counted from 0.
            without: Transforms to leave out.
        """
        for name, transform in self.transforms.items():
            random = random_of(self.seed, epoch, clip.id, name)
            if name in without or random.random_sample() >= self.probabilities[name]:
                continue
            changed = transform(clip, random)
            if self.shortest <= len(changed.samples) <= self.longest:
                clip = changed
        return clip


def build_augmenter(
    chosen: Mapping[str, Any],
    seed: int,
    *,
    neighbours: Neighbours | None = None,
    separator: str = " ",
    shortest: int = 1,
    longest: float = float("inf"),
) -> Augmenter:
    """Make the chain of the waveform's transforms.

    Args:
        chosen: Name to settings, from ``AugmentArguments.chosen``; others than the waveform's are left alone.
        seed: ``experiment.seed``.
        neighbours: Gives other clips, for ``concatenate`` and ``mix``.
        separator: Between joined texts.
        shortest: Samples below which a clip is not made.
        longest: Samples beyond which a clip is not made.

    Raises:
        UserError: A folder is missing, or holds nothing that can be decoded.
    """
    transforms: dict[str, Transform] = {}
    for name, settings in chosen.items():
        if name in PLAIN:
            transforms[name] = PLAIN[name](settings)
        elif name in RECORDED:
            key = f"augment.{name}.folder"
            transforms[name] = RECORDED[name](
                settings, open_recordings(settings.folder, key) if settings.folder else None
            )
        elif name in WAVEFORM:
            assert neighbours is not None, f"{name} needs other clips"
            joins = name == "concatenate"
            transforms[name] = (
                JoinNeighbour(settings, neighbours, separator) if joins else MixNeighbour(settings, neighbours)
            )
    return Augmenter(transforms, {name: chosen[name].probability for name in transforms}, seed, shortest, longest)


PLAIN: dict[str, Callable[[Any], Transform]] = {
    "speed": ChangeSpeed,
    "pitch": ChangePitch,
    "shift": AddSilence,
    "gain": ChangeGain,
    "clipping": ClipLoudest,
    "band_limit": LimitBand,
    "codec": RoundTrip,
}
RECORDED: dict[str, Callable[[Any, Recordings | None], Transform]] = {"reverb": AddRoom, "noise": AddNoise}
# Transforms of the waveform; spec_augment is the features'.
WAVEFORM = (*PLAIN, *RECORDED, "concatenate", "mix")


def nearest_ratio(factor: float) -> Fraction:
    """Return the nearest ratio with a small denominator, to 1/400 of its value near 1."""
    return Fraction(factor).limit_denominator(STEPS)


def resampled(samples: np.ndarray, factor: Fraction) -> np.ndarray:
    """Play (T,) samples ``factor`` times as fast (windowed sinc): (T / factor,)."""
    with torch.no_grad():
        return _resampler(factor.numerator, factor.denominator)(torch.from_numpy(samples)).numpy()


def stretched(samples: np.ndarray, factor: float) -> np.ndarray:
    """Make (T,) samples ``factor`` times as long, at the same pitch (phase vocoder)."""
    window = torch.hann_window(N_FFT)
    with torch.no_grad():
        spectrum = torch.stft(torch.from_numpy(samples), N_FFT, HOP, window=window, return_complex=True)
        advance = torch.linspace(0, torch.pi * HOP, N_FFT // 2 + 1)[:, None]
        longer = torchaudio.functional.phase_vocoder(spectrum, 1 / factor, advance)
        return torch.istft(longer, N_FFT, HOP, window=window, length=round(len(samples) * factor)).numpy()


@lru_cache(maxsize=64)
def _resampler(rate: int, new_rate: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(rate, new_rate)
