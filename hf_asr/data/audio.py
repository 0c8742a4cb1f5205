"""One way from an encoded clip to samples: float32, one channel, 16 kHz.

The only module that imports soundfile. Its wheel brings libsndfile, which decodes WAV, FLAC, MP3, Ogg Vorbis and Opus
(and AIFF, AU, CAF ...) without system libraries. A file that cannot be trusted is a :class:`BrokenAudio`, whose text
says why; callers drop and count it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
import soundfile
import torch
import torchaudio

from hf_asr.data.containers import SEGMENT_SLACK, inspect, with_length
from hf_asr.utterance import AudioRef, Seconds

SAMPLE_RATE = 16_000
LEVELS = ("none", "peak", "rms")
# Name to libsndfile's format and subtype. "wav_float" keeps values beyond full scale, and NaN.
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "wav_float": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_16"),
    "flac24": ("FLAC", "PCM_24"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}

# Decoding starts this long before a segment. An MP3 frame leans on the bytes of up to ten before it: without, one of
# five segments at 22,050 Hz was wrong by 0.1 of full scale; from 0.05 s on all are exact. WAV, FLAC and Vorbis need
# none. Opus has libsndfile's own 80 ms (RFC 7845, section 4.6): to the sample in place, 60 to 85 % of segments of real
# speech bit for bit, the others within 0.002 of full scale; 2 s more did not make it exact for every signal.
_LEAD_IN: dict[str, Seconds] = {"MPEG_LAYER_III": 0.5}
# Longer MP3s are not walked for their length: at 320 kbit/s they last 7 minutes, and a header's estimate will do.
_WALKED_BYTES = 16 * 2**20
# A FLAC written into a pipe has no length in its header: libsndfile says 2**63 - 1, and cannot read to its end.
_UNKNOWN_LENGTH = 2**48
_BLOCK = 2**20  # samples a read: 4 MB a channel
_RATES = range(1_000, 768_001)
# Output samples of a block in resampling. From 48 kHz a clip of 5.4 s took 0.45 to 0.55 ms with 16 or 32, 0.7 with 64
# and 1.1 with 8 or 128; the convolution 2.1 ms.
_BLOCK_OUTPUTS = 32
_PEAK_LEVEL = 10 ** (-1 / 20)  # -1 dBFS
_RMS_LEVEL = 10 ** (-20 / 20)  # -20 dBFS, a usual level of speech
# Below a third of 16-bit's smallest step there is only silence; scaling it up would make noise, or infinity.
_SILENCE = 1e-5
_TRIM_FRAME = SAMPLE_RATE // 50  # 20 ms
_TRIM_MARGIN = SAMPLE_RATE // 10  # 100 ms stay on both sides
_TRIM_BELOW_LOUDEST = 10 ** (-40 / 20)  # a frame 40 dB below the loudest one is silence


class BrokenAudio(ValueError):
    """A clip that cannot be decoded or trusted; the text says why. Callers drop, count and name the clip."""


def load(audio: AudioRef) -> np.ndarray:
    """Decode a clip.

    Args:
        audio: Where it is. With ``start`` or ``end`` only that part (and a short lead-in) is decoded.

    Returns:
        Float32 samples (T,), mean of the channels, at 16 kHz; never empty, always finite.

    Raises:
        BrokenAudio: The file is missing, empty, no audio, cut short, or holds no or no finite samples.
    """
    if audio.start == 0 and audio.end is None:
        samples, rate = _decode_whole(audio)
    else:
        samples, rate = _decode_segment(audio)
    if not len(samples):
        raise BrokenAudio(f"no samples in {_name(audio)}")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise BrokenAudio(f"NaN or infinite samples in {_name(audio)}")
    return resample(mono, rate)


def duration_of(audio: AudioRef) -> Seconds:
    """Tell how long a clip is from its header, or from a segment's own times; nothing is decoded.

    The frames of an MP3 without a Xing header are counted, so that variable bit rates and tags do not matter.

    Raises:
        BrokenAudio: The file is missing, empty, or no audio.
    """
    if audio.end is not None:
        return audio.end - audio.start
    data = encoded_bytes(audio) if audio.data is not None or audio.size else None
    with _open(audio) if data is None else _open_bytes(data, audio) as file:
        seconds = file.frames / file.samplerate
        is_mp3 = file.subtype == "MPEG_LAYER_III"
    if is_mp3 and _size(audio) <= _WALKED_BYTES:
        container = inspect(encoded_bytes(audio) if data is None else data)
        seconds = seconds if container.has_length else (container.samples or 0) / container.rate
    if seconds <= 0:
        raise BrokenAudio(f"no samples in {_name(audio)}")
    if seconds <= audio.start:
        raise BrokenAudio(f"{_name(audio)} lasts {seconds:.3f} s, the clip would start at {audio.start:.3f} s")
    return seconds - audio.start


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Bring samples (T,) of ``rate`` Hz to 16 kHz (windowed sinc of torchaudio).

    torchaudio's kernel is laid out for whole blocks of output samples and applied as one matrix product, which is four
    times as fast as its convolution from 48 kHz and equal within 4e-7.

    Raises:
        BrokenAudio: No recording has such a rate; the header is damaged.
    """
    if rate == SAMPLE_RATE:
        return samples
    if rate not in _RATES:
        raise BrokenAudio(f"a sampling rate of {rate} Hz")
    resampler = _resampler(rate)
    return samples if resampler is None else resampler(samples)


def normalize_level(samples: np.ndarray, level: str) -> np.ndarray:
    """Scale samples (T,) to one level.

    Args:
        samples: Float32 samples.
        level: ``none``; ``peak`` (largest sample at -1 dBFS); ``rms`` (root mean square at -20 dBFS, less where a
            sample would pass full scale).

    Returns:
        Samples of the same shape; digital silence stays as it is.

    Raises:
        ValueError: There is no such level.
    """
    if level not in LEVELS:
        raise ValueError(f"data.level must be one of {', '.join(LEVELS)}, found {level!r}")
    if level == "none":
        return samples
    peak = float(np.abs(samples).max(initial=0.0))
    if peak < _SILENCE:
        return samples
    if level == "peak":
        return samples * np.float32(_PEAK_LEVEL / peak)
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return samples * np.float32(min(_RMS_LEVEL / rms, 1 / peak))


def trim_silence(samples: np.ndarray) -> np.ndarray:
    """Cut silence off both ends of samples (T,) at 16 kHz, keeping 100 ms beside the sound.

    Silent are 20-ms frames more than 40 dB below the loudest one. Never returns fewer samples than one frame; a clip
    of digital silence is returned whole.
    """
    frames = len(samples) // _TRIM_FRAME
    if not frames or float(np.abs(samples).max()) < _SILENCE:
        return samples
    energy = np.square(samples[: frames * _TRIM_FRAME].reshape(frames, _TRIM_FRAME), dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(energy >= energy.max() * _TRIM_BELOW_LOUDEST**2)
    first = max(0, int(loud[0]) * _TRIM_FRAME - _TRIM_MARGIN)
    # What is left over behind the last whole frame belongs to the end when that frame is loud: the margin covers it.
    return samples[first : (int(loud[-1]) + 1) * _TRIM_FRAME + _TRIM_MARGIN]


def prepare(audio: AudioRef, level: str = "none", trim: bool = False) -> np.ndarray:
    """Decode a clip as an experiment asks for it: :func:`load`, then trimming, then the level.

    Returns:
        Float32 samples (T,) at 16 kHz.

    Raises:
        BrokenAudio: As :func:`load`.
    """
    samples = load(audio)
    return normalize_level(trim_silence(samples) if trim else samples, level)


def encode(samples: np.ndarray, rate: int, format: str, *, compression: float | None = None) -> bytes:
    """Encode samples, for tests, demos and codec augmentation.

    Args:
        samples: Float samples in [-1, 1], (T,) or (T, channels).
        rate: Their sampling rate in Hz.
        format: One of :data:`FORMATS`; Opus takes 8, 12, 16, 24 and 48 kHz only.
        compression: libsndfile's level, from 0 (best) to 1 (smallest; MP3 takes less than 1); None for its own.

    Returns:
        The bytes of a file.

    Raises:
        ValueError: There is no such format, or it cannot take this rate.
    """
    if format not in FORMATS:
        raise ValueError(f"the format must be one of {', '.join(FORMATS)}, found {format!r}")
    container, subtype = FORMATS[format]
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    buffer = BytesIO()
    try:
        with soundfile.SoundFile(
            buffer, "w", rate, channels, subtype, format=container, compression_level=compression
        ) as file:
            # libsndfile 1.2 keeps a whole write on the stack when it encodes Vorbis: minutes at once crash it.
            for first in range(0, len(samples), SAMPLE_RATE):
                file.write(samples[first : first + SAMPLE_RATE])
    except soundfile.SoundFileError as error:
        raise ValueError(f"{format} cannot hold {channels} channels at {rate} Hz: {error}") from error
    return buffer.getvalue()


class _Resampler(NamedTuple):
    """A windowed sinc for one rate.

    Attributes:
        matrix: (input samples, output samples) of a block.
        step: Input samples from one block to the next.
        left: Zeros before the first sample.
        up: Output samples for ``down`` input samples.
        down: See ``up``.
    """

    matrix: torch.Tensor
    step: int
    left: int
    up: int
    down: int

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return the samples at 16 kHz."""
        length = -(-self.up * len(samples) // self.down)
        inputs, outputs = self.matrix.shape
        padded = torch.zeros((-(-length // outputs) - 1) * self.step + inputs)
        there = min(len(samples), len(padded) - self.left)
        padded[self.left : self.left + there] = torch.from_numpy(samples[:there])
        with torch.no_grad():
            return (padded.unfold(0, inputs, self.step) @ self.matrix).reshape(-1)[:length].numpy()


@lru_cache(maxsize=32)
def _resampler(rate: int) -> _Resampler | None:
    # The kernel has numerator x denominator entries: a rate such as 15,999 Hz would take gigabytes. Within
    # 1/1000 of a step the ratio is exact for every rate in use (44,100 Hz is 441/160), else right to 60 ppm.
    ratio = Fraction(rate, SAMPLE_RATE).limit_denominator(1000)
    if ratio == 1:
        return None
    down, up = ratio.numerator, ratio.denominator
    sinc = torchaudio.transforms.Resample(down, up)
    kernel, repeats = sinc.kernel[:, 0].T, max(1, _BLOCK_OUTPUTS // up)
    matrix = torch.zeros((repeats - 1) * down + len(kernel), repeats * up)
    for block in range(repeats):
        matrix[block * down : block * down + len(kernel), block * up : (block + 1) * up] = kernel
    return _Resampler(matrix, repeats * down, sinc.width, up, down)


def _decode_whole(audio: AudioRef) -> tuple[np.ndarray, int]:
    """Decode all of a file: samples (T, channels) and their rate."""
    data = encoded_bytes(audio)
    container = inspect(data)
    if container.fault:
        raise BrokenAudio(f"{_name(audio)} is {container.fault}")
    with _open_whole(data, audio) as file:
        promised = file.frames if container.samples is None else container.samples
        # An MPEG file whose frames could not be counted has only an estimate of its length.
        counted = file.format != "MP3" or container.samples is not None
        falls_short = promised - file.frames > container.frame
        samples, rate = _read(file, file.frames, audio), file.samplerate
    if falls_short:
        with _open_bytes(with_length(data, container), audio) as file:
            samples = _read(file, file.frames, audio)
    # Encoder delay and padding cost up to three MPEG frames.
    if counted and abs(promised - len(samples)) > 4 * container.frame:
        raise BrokenAudio(f"{_name(audio)} holds {promised} samples and decodes to {len(samples)}")
    return samples, rate


def _decode_segment(audio: AudioRef) -> tuple[np.ndarray, int]:
    """Decode from ``start`` to ``end``: samples (T, channels) and their rate."""
    with _open(audio) as file:
        rate = file.samplerate
        _check_segment(audio, file.frames / rate)
        first = round(audio.start * rate)
        last = file.frames if audio.end is None else min(file.frames, round(audio.end * rate))
        lead_in = min(first, round(_LEAD_IN.get(file.subtype, 0.0) * rate))
        samples = _read(file, lead_in + last - first, audio, first - lead_in)[lead_in:]
    if len(samples) + SEGMENT_SLACK * rate < last - first:
        raise BrokenAudio(f"{_name(audio)} decodes to {len(samples)} of the {last - first} samples of a segment")
    return samples, rate


def _check_segment(audio: AudioRef, seconds: Seconds) -> None:
    """Refuse a segment that its file, ``seconds`` long, does not hold."""
    end = seconds if audio.end is None else audio.end
    if not 0 <= audio.start < end:
        raise BrokenAudio(f"a segment from {audio.start} s to {end} s of {_name(audio)}")
    if end > seconds + SEGMENT_SLACK or audio.start >= seconds:
        raise BrokenAudio(f"{_name(audio)} lasts {seconds:.3f} s, a segment of it {audio.start:.3f} to {end:.3f} s")


def _read(file: soundfile.SoundFile, frames: int, audio: AudioRef, first: int = 0) -> np.ndarray:
    """Read up to ``frames`` float32 samples (T, channels) from sample ``first`` on, block by block."""
    blocks = [np.zeros((0, file.channels), dtype=np.float32)]
    try:
        if first:
            file.seek(first)
        while frames > 0 and len(block := file.read(min(frames, _BLOCK), dtype="float32", always_2d=True)):
            blocks.append(block)
            frames -= len(block)
    except soundfile.SoundFileError as error:
        raise BrokenAudio(f"{_name(audio)} does not decode: {error}") from error
    return blocks[1] if len(blocks) == 2 else np.concatenate(blocks)


def _open(audio: AudioRef) -> soundfile.SoundFile:
    """Open a clip's file; a member of an archive and a Parquet cell through memory."""
    if audio.data is not None or audio.size:
        return _open_bytes(encoded_bytes(audio), audio)
    _size(audio)
    return _open_file(audio.path, audio)


@contextmanager
def _open_whole(data: bytes, audio: AudioRef) -> Iterator[soundfile.SoundFile]:
    """Open a clip's bytes; from its own file, where it has one.

    libsndfile reads bytes through some 200 calls back into Python a clip. It is given the file's number and not its
    name: from an unknown ending it would guess a format that has no header.
    """
    if audio.data is not None or audio.size or audio.offset:
        with _open_bytes(data, audio) as file:
            yield file
    else:
        with open(audio.path, "rb") as stream, _open_file(stream.fileno(), audio) as file:
            yield file


def _open_bytes(data: bytes, audio: AudioRef) -> soundfile.SoundFile:
    return _open_file(BytesIO(data), audio)


def _open_file(source: str | int | BytesIO, audio: AudioRef) -> soundfile.SoundFile:
    try:
        file = soundfile.SoundFile(source, closefd=False)
    except soundfile.SoundFileError as error:
        head = encoded_bytes(audio)[:12]  # also tells when permission is what is missing
        raise BrokenAudio(f"{_name(audio)} is no audio that libsndfile knows; it begins with {head!r}") from error
    if file.frames >= _UNKNOWN_LENGTH:
        file.close()
        raise BrokenAudio(f"{_name(audio)} was written into a pipe and does not say its length; encode it into a file")
    return file


def encoded_bytes(audio: AudioRef) -> bytes:
    """Read a clip's encoded bytes, whole; :class:`BrokenAudio` when they are not there."""
    size = _size(audio)
    if audio.data is not None:
        return audio.data
    try:
        with open(audio.path, "rb") as file:
            file.seek(audio.offset)
            data = file.read(size)
    except OSError as error:
        raise BrokenAudio(f"{_name(audio)} cannot be read: {error.strerror}") from error
    if len(data) < size:
        raise BrokenAudio(f"{_name(audio)} is truncated: {len(data)} of {size} bytes are there")
    return data


def _size(audio: AudioRef) -> int:
    """Return the number of encoded bytes, having made sure that there is a regular file with some."""
    if audio.data is not None:
        size = len(audio.data)
    else:
        try:
            status = os.stat(audio.path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise BrokenAudio(f"{_name(audio)} cannot be read: {error}") from error
        # A pipe would wait for ever, a folder gives libsndfile's least helpful message.
        if not stat.S_ISREG(status.st_mode):
            raise BrokenAudio(f"{_name(audio)} is not a file")
        size = audio.size or status.st_size - audio.offset
    if size <= 0:
        raise BrokenAudio(f"{_name(audio)} is empty")
    return size


def _name(audio: AudioRef) -> str:
    return audio.path or "audio bytes"
