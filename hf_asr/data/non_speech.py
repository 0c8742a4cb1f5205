"""The built-in set of clips in which nobody speaks: whatever a model writes for them is invented.

24 clips of 1 to 25 s, made here from fixed seeds, the same on every machine with the same numpy: digital
silence, noise of several colours and levels, noise that swells and fades as speech does, mains hum, tones, chords that
change as music does, clicks. They are made by formulas and not recorded: rooms, streets and music are other sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.utterance import AudioRef, Seconds, Utterance

Samples = NDArray[np.float64]
Make = Callable[[int, np.random.Generator], Samples]

# Name of the set in evaluation.also, and of the corpus in its rows.
BUILTIN = "builtin"
# Average spectrum of speech falls by about 9 dB an octave above 500 Hz (ANSI S3.5, long-term average).
SPEECH_CORNER = 500.0
SPEECH_SLOPE = -9.0
# Syllables come about four times a second, the peak of speech's modulation spectrum.
SYLLABLES = 4.0
CHORDS = ((220.0, 277.2, 329.6), (174.6, 220.0, 261.6), (196.0, 246.9, 293.7), (220.0, 261.6, 329.6))
CHORD_SECONDS = 0.8


def silence(number: int, generator: np.random.Generator) -> Samples:
    """Return digital silence."""
    return np.zeros(number)


def coloured(number: int, generator: np.random.Generator, slope: float = 0.0, corner: float = 20.0) -> Samples:
    """Return noise whose power falls by ``slope`` dB an octave above ``corner`` Hz (0: white, -3: pink, -6: brown)."""
    spectrum = np.fft.rfft(generator.standard_normal(number))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(number, 1 / SAMPLE_RATE), corner) / corner)
    return np.fft.irfft(spectrum * 10 ** (slope * octaves / 20), number)


def babble(number: int, generator: np.random.Generator) -> Samples:
    """Return noise with the spectrum of speech that swells and fades at the rate of syllables."""
    noise = coloured(number, generator, SPEECH_SLOPE, SPEECH_CORNER)
    time = np.arange(number) / SAMPLE_RATE
    swell = np.zeros(number)
    for rate in SYLLABLES * generator.uniform(0.5, 1.5, 6):
        swell += np.sin(2 * np.pi * (rate * time + generator.random()))
    return noise * np.maximum(swell, 0.0)


def hum(number: int, generator: np.random.Generator) -> Samples:
    """Return mains hum of 50 Hz with its odd harmonics, a little noise behind it."""
    time = np.arange(number) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * 50 * order * time) / order for order in (1, 3, 5, 7))
    return np.asarray(tones + 0.01 * generator.standard_normal(number))


def tone(number: int, generator: np.random.Generator) -> Samples:
    """Return a tone of 440 Hz, as a telephone's."""
    return np.sin(2 * np.pi * 440 * np.arange(number) / SAMPLE_RATE)


def chords(number: int, generator: np.random.Generator) -> Samples:
    """Return chords of decaying tones with overtones, one after the other, as music has them."""
    made = np.zeros(number)
    step = int(CHORD_SECONDS * SAMPLE_RATE)
    for place, first in enumerate(range(0, number, step)):
        length = min(step, number - first)
        time = np.arange(length) / SAMPLE_RATE
        for pitch in CHORDS[place % len(CHORDS)]:
            for order in (1, 2, 3, 4):
                made[first : first + length] += np.sin(2 * np.pi * order * pitch * time) * np.exp(-3 * time) / order
    return made


def clicks(number: int, generator: np.random.Generator) -> Samples:
    """Return short bursts of noise at irregular times, as keys and doors make them."""
    made = 0.001 * generator.standard_normal(number)
    length = SAMPLE_RATE // 100
    for first in generator.integers(0, max(1, number - length), max(1, 3 * number // SAMPLE_RATE)):
        burst = generator.standard_normal(length) * np.exp(-np.arange(length) / (length / 5))
        made[first : first + length] += burst[: number - first]
    return made


PINK, BROWN = partial(coloured, slope=-3.0), partial(coloured, slope=-6.0)
# Name, maker, level of the root mean square in dBFS, seconds.
CLIPS: tuple[tuple[str, Make, float, Seconds], ...] = (
    ("silence", silence, 0, 1),
    ("silence", silence, 0, 5),
    ("silence", silence, 0, 10),
    ("silence", silence, 0, 25),
    ("white_noise", coloured, -60, 5),
    ("white_noise", coloured, -40, 10),
    ("white_noise", coloured, -20, 3),
    ("white_noise", coloured, -20, 25),
    ("pink_noise", PINK, -50, 8),
    ("pink_noise", PINK, -30, 2),
    ("pink_noise", PINK, -20, 15),
    ("brown_noise", BROWN, -30, 6),
    ("brown_noise", BROWN, -20, 20),
    ("babble_like", babble, -40, 4),
    ("babble_like", babble, -25, 8),
    ("babble_like", babble, -20, 20),
    ("hum", hum, -40, 5),
    ("hum", hum, -20, 12),
    ("tone", tone, -20, 2),
    ("chords", chords, -30, 6),
    ("chords", chords, -20, 12),
    ("chords", chords, -20, 25),
    ("clicks", clicks, -40, 3),
    ("clicks", clicks, -30, 10),
)


def builtin_clips() -> Iterator[Utterance]:
    """Yield the clips as rows whose text is empty; ``extra`` names the sound."""
    for place, (sound, _, level, seconds) in enumerate(CLIPS):
        samples = builtin_samples(place)
        yield Utterance(
            id=f"{place:02d}_{sound}_{seconds:g}s" + (f"_{level:g}dB" if sound != "silence" else ""),
            audio=AudioRef(data=encode(samples, SAMPLE_RATE, "flac")),
            text="",
            duration=float(seconds),
            corpus=BUILTIN,
            extra={"sound": sound},
        )


def builtin_samples(place: int) -> NDArray[np.float32]:
    """Return samples (T,) of the clip at a place of :data:`CLIPS`."""
    _, make, level, seconds = CLIPS[place]
    made = make(int(seconds * SAMPLE_RATE), np.random.default_rng(place))
    power = float(np.sqrt(np.mean(np.square(made))))
    scaled = made * (10 ** (level / 20) / power) if power else made
    # A click may pass full scale where its mean is loud.
    return np.asarray(np.clip(scaled, -1, 1), dtype=np.float32)


def sound_of(id: str) -> str:
    """Return the sound of a clip; its id begins with its place."""
    return CLIPS[int(id.partition("_")[0])][0]
