"""From one corpus row to a model's inputs and labels: pure, the same for cached, streamed and on-the-fly rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, prepare
from hf_asr.features.spectrogram import spectrogram
from hf_asr.text import apply_pipeline
from hf_asr.utterance import AudioRef

# Part of every cache's fingerprint: raise it whenever the same row would give other features or labels.
EXTRACTOR_VERSION = 2

# Frames that are pure padding have one value: log10 of the spectrogram's floor 1e-10, raised to 8 below the clip's
# maximum, then (x + 4) / 4. See WhisperFeatureExtractor.
QUIETEST = -1.5
RANGE = 2.0

# What a loss leaves out; the same as in hf_asr.features.collate.
NOT_LEARNT = -100

# A clip may pass a limit by this much: resampling and rounded headers are off by a few samples.
TOLERANCE_SECONDS = 0.001


class LogMelExtractor(Protocol):
    """What is used of WhisperFeatureExtractor."""

    dither: float
    feature_size: int
    hop_length: int
    mel_filters: np.ndarray
    n_fft: int
    n_samples: int
    nb_max_frames: int
    sampling_rate: int

    def __call__(self, raw_speech: np.ndarray, **options: Any) -> Mapping[str, Any]: ...


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    def __call__(self, text: str, **options: Any) -> Mapping[str, Any]: ...

    def decode(self, token_ids: list[int], **options: Any) -> str:
        """Return the text of ids."""


def log_mel(samples: np.ndarray, extractor: LogMelExtractor) -> np.ndarray:
    """Compute the log-mel spectrogram of a clip, without the silence that a window is filled up with.

    Only the clip and one STFT window of zeros are looked at: 1.5 ms instead of 9 ms for 5.4 s. The frames left out hold
    one constant, :func:`padding_value`; with it the result equals the extractor's full window (largest difference seen
    2.4e-7). An extractor that adds dither is run itself.

    Args:
        samples: (T,) float32 at the extractor's rate, T at most its window (a longer one is cut).
        extractor: The model's own.

    Returns:
        (M, F) float32, M counting every frame whose STFT window touches a sample.
    """
    touched, length = extent(samples, extractor)
    if not extractor.dither:
        return np.ascontiguousarray(spectrogram(samples, length, extractor)[:touched])
    outputs = extractor(
        samples,
        sampling_rate=extractor.sampling_rate,
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="np",
    )
    return np.ascontiguousarray(outputs["input_features"][0][:, :touched].T)


def extent(samples: np.ndarray, extractor: LogMelExtractor) -> tuple[int, int]:
    """Return the frames whose STFT window touches a sample, and how many samples are looked at for them."""
    assert len(samples) > 0, "a clip without samples has no spectrogram"
    touched = min((len(samples) + extractor.n_fft // 2 - 1) // extractor.hop_length + 1, extractor.nb_max_frames)
    return touched, min(touched * extractor.hop_length + extractor.n_fft, extractor.n_samples)


def padding_value(features: np.ndarray) -> float:
    """Return the value of silent frames after a clip with these (M, F) log-mel features."""
    if features.size == 0:
        return QUIETEST
    return max(QUIETEST, float(features.max()) - RANGE)


class FrontEnd(Protocol):
    """From samples to what a model's encoder takes, without padding."""

    @property
    def feature_size(self) -> int:
        """F: numbers a frame; 1 for a waveform."""

    @property
    def frames_per_second(self) -> float:
        """Frames that a second of audio takes."""

    @property
    def longest_seconds(self) -> float:
        """The model's window; infinity where it has none."""

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return (M, F) float32 of a clip's (T,) samples."""


@dataclass(frozen=True, eq=False)
class LogMel:
    """Whisper's log-mel spectrogram, see :func:`log_mel`.

    Attributes:
        extractor: The checkpoint's own.
    """

    extractor: LogMelExtractor

    @property
    def feature_size(self) -> int:
        """Mel bins."""
        return self.extractor.feature_size

    @property
    def frames_per_second(self) -> float:
        """100 for every published Whisper."""
        return self.extractor.sampling_rate / self.extractor.hop_length

    @property
    def longest_seconds(self) -> float:
        """30 for every published Whisper."""
        return self.extractor.n_samples / self.extractor.sampling_rate

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return the frames (M, F) that a sample touches."""
        return log_mel(samples, self.extractor)


@dataclass(frozen=True, eq=False)
class OneClip:
    """Any transformers extractor, run on one clip without padding: fbank, or the normalised waveform itself.

    Attributes:
        extractor: The checkpoint's own.
        name: Its output: ``input_features``, or ``input_values`` of a waveform, which becomes (T, 1).
        feature_size: Numbers a frame.
        frames_per_second: Frames that a second of audio takes.
        longest_seconds: The model's window; infinity where it has none.
        options: What else the extractor is called with.
    """

    extractor: Any
    name: str
    feature_size: int
    frames_per_second: float
    longest_seconds: float = float("inf")
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return (M, F)."""
        outputs = self.extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="np", **self.options)
        return np.ascontiguousarray(outputs[self.name][0].reshape(-1, self.feature_size), dtype=np.float32)


class Labeller(Protocol):
    """From a row's text or label to what the model learns."""

    @property
    def dtype(self) -> str:
        """``int32`` for ids, ``float32`` for numbers."""

    @property
    def writes_text(self) -> bool:
        """Whether labels are those of the row's text, so that two clips can be joined into one."""

    def __call__(self, row: Mapping[str, Any]) -> Sequence[int] | Sequence[float]:
        """Return a row's labels."""

    def read(self, labels: Sequence[Any]) -> str:
        """Return what labels say, for people; special tokens are shown."""

    def problem(self, row: Mapping[str, Any], labels: Sequence[Any], frames: int) -> str:
        """Return "reason: detail" for a row that cannot be learnt from, given its features' frames, else nothing."""

    def fingerprint(self) -> dict[str, Any]:
        """Return everything that decides what a row's labels are, JSON-able."""


@dataclass(frozen=True, eq=False)
class TokenLabels:
    """Labels of a model that writes tokens one after the other.

    Attributes:
        tokenizer: The checkpoint's own.
        prefix: Token ids before the text, without the start token (language, task ...).
        end_token: Token id after the text.
        max_tokens: Positions of the decoder; the start token and the labels must fit.
        text_prefix: Put before a text that is not empty; a space where the model writes one before its first word.
        text_pipeline: Pipeline of :mod:`hf_asr.text` that the label text passes.
    """

    tokenizer: Tokenizer
    prefix: tuple[int, ...]
    end_token: int
    max_tokens: int
    text_prefix: str = ""
    text_pipeline: str = "none"
    dtype: str = "int32"
    writes_text: bool = True

    def __call__(self, row: Mapping[str, Any]) -> list[int]:
        """Return the label ids of a row's transcript: prefix, text, one end token; no start token."""
        return self.encode(row["text"])

    def encode(self, text: str) -> list[int]:
        """Return the label ids of a transcript.

        Special tokens written out in a transcript are spelt as plain text, so they can neither start nor end it.
        """
        spoken = apply_pipeline(self.text_pipeline, text).strip()
        if spoken:
            spoken = self.text_prefix + spoken
        ids = self.tokenizer(spoken, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [*self.prefix, *ids, self.end_token]

    def read(self, labels: Sequence[Any]) -> str:
        """Return the labels decoded back, special tokens included."""
        return str(self.tokenizer.decode(list(labels), skip_special_tokens=False))

    def problem(self, row: Mapping[str, Any], labels: Sequence[Any], frames: int) -> str:
        """Tell when the decoder has too few positions."""
        needed = len(labels) + 1
        if needed > self.max_tokens:
            return f"label_too_long: {needed} tokens, the decoder has {self.max_tokens} positions"
        return ""

    def fingerprint(self) -> dict[str, Any]:
        """Return prefix, end, limits and pipeline; the tokenizer's content is the encoder's identity."""
        return {
            "label_prefix": list(self.prefix),
            "end_token": self.end_token,
            "text_prefix": self.text_prefix,
            "max_label_tokens": self.max_tokens,
            "text_pipeline": self.text_pipeline,
        }


class Joining(Protocol):
    """How clips are joined to one window (``data.pack``): what is kept of each beside its own features."""

    def context(self, samples: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Return the frames that a clip's (T,) samples give behind another clip, where they differ from its (M, F)."""

    def fingerprint(self) -> dict[str, Any]:
        """Return everything that decides what is kept, JSON-able."""


@dataclass(frozen=True, eq=False)
class ClipEncoder:
    """Turns a row of a corpus into features and labels; picklable, and the same row gives the same output.

    Attributes:
        front_end: From samples to features.
        labeller: From the row to labels.
        identity: What tells this extractor and tokenizer from others (content hashes), for the cache.
        level: Loudness treatment, see :func:`hf_asr.data.audio.normalize_level`.
        trim_silence: Whether silence at both ends is cut.
        min_seconds: Shorter clips are refused.
        max_seconds: Longer clips are refused, as are those beyond the front end's window.
        store_dtype: ``float16`` or ``float32``; rounding happens here, so that every way gives the same features.
        learns: Whether rows are trained on. Where they are only decoded and scored, one whose text cannot be learnt
            (too long for its frames or for the decoder, in letters that the model does not write) is no failure: its
            one label is ignored by the loss, and what the model cannot write counts as errors.
        joining: For rows that are joined later (``data.pack``); they then also have ``joint``, what it keeps of them.
    """

    front_end: FrontEnd
    labeller: Labeller
    identity: Mapping[str, str] = field(default_factory=dict)
    level: str = "none"
    trim_silence: bool = False
    min_seconds: float = 0.3
    max_seconds: float = 30.0
    store_dtype: str = "float16"
    learns: bool = True
    joining: Joining | None = None

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Encode one row (``Utterance.as_row``).

        Returns:
            What :meth:`encode` returns; without features and labels when the audio cannot be read.
        """
        samples = self.samples(row)
        return self.failed(row, 0.0, samples) if isinstance(samples, str) else self.encode(row, samples)

    def samples(self, row: Mapping[str, Any]) -> np.ndarray | str:
        """Return a row's audio, decoded and prepared: (T,) float32 at 16 kHz, or why it cannot be read."""
        try:
            return prepare(AudioRef(**row["audio"]), self.level, self.trim_silence)
        except BrokenAudio as error:
            return f"broken_audio: {error}"

    def encode(self, row: Mapping[str, Any], samples: np.ndarray, exact: np.ndarray | None = None) -> dict[str, Any]:
        """Encode a row whose audio is already decoded and prepared.

        Args:
            row: A row; its ``audio`` is not looked at.
            samples: (T,) float32 at 16 kHz.
            exact: Its features (M, F) in float32 where they are known; by default the front end computes them.

        Returns:
            ``id``, ``text``, ``label`` (as the corpus has them), ``speaker``, ``duration`` (seconds, prepared),
            ``input_features`` (M, F) in ``store_dtype``, ``labels`` (list of L ids) and ``error``: empty, or
            "reason: detail" with (0, F) features and no labels.
        """
        seconds = len(samples) / SAMPLE_RATE
        problem = self.length_problem(seconds)
        if problem:
            return self.failed(row, seconds, problem)
        labels = self.labeller(row)
        if exact is None:
            exact = self.front_end(samples)
        features = exact.astype(self.store_dtype)
        problem = self.labeller.problem(row, labels, len(features))
        if problem and (self.learns or not self.labeller.writes_text):
            return self.failed(row, seconds, problem)
        encoded = _encoded(row, seconds, features, [NOT_LEARNT] if problem else list(labels), "")
        if self.joining is not None:
            encoded["joint"] = self.joining.context(samples, exact).astype(self.store_dtype)
        return encoded

    def fingerprint(self) -> dict[str, Any]:
        """Return everything that decides what a row becomes, JSON-able."""
        return {
            "extractor_version": EXTRACTOR_VERSION,
            "identity": dict(self.identity),
            **self.labeller.fingerprint(),
            "level": self.level,
            "trim_silence": self.trim_silence,
            "min_seconds": self.min_seconds,
            "max_seconds": self.max_seconds,
            "store_dtype": self.store_dtype,
            **({} if self.learns else {"learns": False}),
            **({} if self.joining is None else self.joining.fingerprint()),
        }

    @property
    def bytes_per_second(self) -> float:
        """Bytes that the features of one second of audio take."""
        front_end = self.front_end
        return front_end.frames_per_second * front_end.feature_size * np.dtype(self.store_dtype).itemsize

    def length_problem(self, seconds: float) -> str:
        """Tell when a clip of so many seconds is not taken: "reason: detail", else nothing."""
        window = self.front_end.longest_seconds
        longest = min(self.max_seconds, window)
        if seconds == 0 or seconds < self.min_seconds - TOLERANCE_SECONDS:
            return f"too_short: {seconds:.2f} s, data.min_seconds is {self.min_seconds:g}"
        if seconds > longest + TOLERANCE_SECONDS:
            limit = "data.max_seconds" if self.max_seconds <= window else "the model's window"
            return f"too_long: {seconds:.2f} s, {limit} is {longest:g}"
        return ""

    def failed(self, row: Mapping[str, Any], seconds: float, error: str) -> dict[str, Any]:
        """Return what :meth:`encode` gives for a row that cannot be used, with the reason."""
        nothing = np.zeros((0, self.front_end.feature_size), dtype=self.store_dtype)
        return _encoded(row, seconds, nothing, [], error) | ({} if self.joining is None else {"joint": nothing})


def _encoded(
    row: Mapping[str, Any], seconds: float, features: np.ndarray, labels: list[Any], error: str
) -> dict[str, Any]:
    return {
        "id": row["id"],
        "text": row["text"],
        "label": row["label"],
        "speaker": row["speaker"],
        "duration": seconds,
        "input_features": features,
        "labels": labels,
        "error": error,
    }
