"""Whole files and folders to text with times, however long the files are.

Which road a file takes:

1. A file within the model's window (30 s for Whisper), when no times are asked for, is decoded plainly.
2. Else the model's own timestamps are used, provided that they work: longer files go through Whisper's sequential
   long-form decoding, which moves on by them (Radford et al. 2022, section 4.5, ``generate`` of transformers).
3. Where they do not work, a longer file is cut into windows without overlap, at the quietest point of each window's
   second half, each window is decoded plainly, and the only times there are are the windows' bounds.

Timestamps work when the checkpoint has such tokens, when these were trained (their rows of the output head differ),
and when a trial agrees: the loudest window of the first file that needs them, decoded with and without timestamps,
gives alike texts (ratio of common words at least :data:`ALIKE`) and segments that end after they start. Checkpoints
fine-tuned without timestamps forget them to any degree, so nothing in their files tells; only a trial does.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from transformers import PreTrainedModel, ProcessorMixin
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, load
from hf_asr.errors import UserError
from hf_asr.inference.cutting import cut_at_quiet, join
from hf_asr.inference.formats import Segment, Transcript, one_line
from hf_asr.inference.generate import auto_dtype, bare_model, decoding, progress_bar, seed_by_ids, to_device
from hf_asr.inference.transcribe_ctc import CtcTranscriber
from hf_asr.inference.transcribe_windows import WindowTranscriber
from hf_asr.models import get_family
from hf_asr.models.family import ModelFamily
from hf_asr.text import apply_pipeline, cer_first
from hf_asr.utterance import AudioRef, Drops, Seconds

# What libsndfile reads; files with other names in a folder are not taken for audio.
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64")

# Whisper's own remedy for loops: a text that compresses too well is sampled again, hotter each time. 1.35 is the
# threshold transformers' documentation gives for its measure, which compresses token ids and not text.
LOOPS: dict[str, Any] = {"temperature": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "compression_ratio_threshold": 1.35}
# Beside it, in long-form decoding, Whisper's rule for windows without speech.
NO_SPEECH: dict[str, Any] = {"logprob_threshold": -1.0, "no_speech_threshold": 0.6}

# Share of common words from which the trial's two texts count as the same speech. A second decoding of unclear
# speech seldom shares less than two thirds; unrelated or broken-off texts share next to none.
ALIKE = 0.5


@dataclass(frozen=True, slots=True)
class _Job:
    """One file on its way: samples (T,), its windows as (first, end) samples, and the road it takes."""

    name: str
    samples: np.ndarray
    language: str
    windows: list[tuple[int, int]]
    timed: bool

    @property
    def duration(self) -> Seconds:
        return len(self.samples) / SAMPLE_RATE

    def pieces(self) -> list[tuple[str, str, np.ndarray]]:
        """Return each window's id, language and samples."""
        return [(f"{self.name}@{first}", self.language, self.samples[first:end]) for first, end in self.windows]


def find_audio(source: Path) -> list[tuple[Path, str]]:
    """List the audio files of an input, sorted, each with the name it is reported under.

    Args:
        source: A file, or a folder that is searched with all folders in it (links to folders are not followed).

    Raises:
        UserError: There is no such input, the file's suffix is none of :data:`AUDIO_SUFFIXES`, or the folder has none.
    """
    known = ", ".join(AUDIO_SUFFIXES)
    if source.is_dir():
        found = sorted(
            Path(folder, name)
            for folder, _, names in os.walk(source)
            for name in names
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
        )
        if not found:
            raise UserError(f"--input: expected a folder with audio ({known}), found none in {source}; give another")
        return [(path, path.relative_to(source).as_posix()) for path in found]
    if not source.exists():
        raise UserError(f"--input: expected an audio file or a folder, found nothing at {source}; check the path")
    if source.suffix.lower() not in AUDIO_SUFFIXES:
        raise UserError(f"--input: expected an audio file ({known}), found {source}; convert it first")
    return [(source, str(source))]


def missing_timestamps(model: PreTrainedModel) -> str:
    """Tell why a checkpoint cannot have working timestamps by its files alone; empty when it may have."""
    before = model.generation_config.to_dict().get("no_timestamps_token_id")
    if before is None:
        return "its generation_config names no no_timestamps_token_id"
    rows = model.get_output_embeddings().weight[before + 1 :]
    if not len(rows):
        return "its vocabulary has no timestamp tokens"
    if bool((rows == rows[0]).all()):
        return "its timestamp tokens were never trained: all have the same embedding"
    return ""


def failed_trial(plain: str, segments: Sequence[Segment], language: str) -> str:
    """Tell why a window decoded with timestamps shows that they do not work; empty when they do.

    Args:
        plain: The window's text, decoded without timestamps.
        segments: The same window, decoded with them.
        language: Language code, which decides whether words or characters are compared.
    """
    if any(segment.end <= segment.start for segment in segments if segment.text):
        return "in a trial its segments did not end after they started"
    sides = (plain, join(segments, language))
    texts = [apply_pipeline("basic", side) for side in sides]
    units = [list(text) if cer_first(language) else text.split() for text in texts]
    ratio = difflib.SequenceMatcher(None, units[0], units[1], autojunk=False).ratio()
    return "" if ratio >= ALIKE else f"in a trial it wrote another text with them than without (alike by {ratio:.2f})"


class Transcriber:
    """A model that writes down files of any length.

    Attributes:
        no_timestamps: Why the model's timestamps are not used; empty when they are, None while nothing needed them.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        family: ModelFamily,
        processor: ProcessorMixin,
        *,
        batch_size: int = 8,
        dtype: str = "float32",
    ) -> None:
        """Take a loaded model.

        Args:
            model: A Whisper, its language set in its generation_config, or unset to detect one in each file.
            family: Its family.
            processor: Its feature extractor and tokenizer.
            batch_size: Windows decoded together.
            dtype: Arithmetic, as ``inference.generate.resolve_conditions`` chose it.
        """
        self.wrapped = model
        self.model: Any = bare_model(model)
        self.family = family
        self.extractor = processor.feature_extractor
        self.processor = processor
        self.batch_size = batch_size
        self.dtype = dtype
        self.window: int = self.extractor.n_samples
        self.generation = self.model.generation_config.to_dict()
        self.no_timestamps: str | None = missing_timestamps(self.model) or None
        # Over LOOPS and NO_SPEECH: what an evaluation asks of generate.
        self.options: dict[str, Any] = {}

    def transcribe(
        self, files: Sequence[tuple[Path, str]], *, timestamps: bool = False, progress: bool = True
    ) -> tuple[list[Transcript], Drops]:
        """Write down files, in order; those that cannot be decoded are left out, named and counted.

        Args:
            files: Paths with the names they are reported under, from :func:`find_audio`.
            timestamps: Whether segments should carry the model's own times, in short files too.
            progress: Whether to show a bar on stderr.
        """
        done: list[Transcript] = []
        waiting: list[_Job] = []
        drops = Drops()
        with decoding(self.wrapped, self.dtype), progress_bar(progress) as bar:
            for path, name in bar.track(files, description="transcribing"):
                try:
                    samples = load(AudioRef(path=str(path)))
                except BrokenAudio as error:
                    drops.add("broken_audio", name, str(error))
                    continue
                waiting.append(self._plan(name, samples, timestamps))
                if sum(len(job.windows) for job in waiting) >= self.batch_size:
                    done += self._run(waiting)
                    waiting = []
            done += self._run(waiting)
        return done, drops

    def sequential(self, name: str, samples: np.ndarray) -> list[Segment]:
        """Return the segments of samples (T,) of any length, moving on by the model's timestamps."""
        return self._segments([(name, self._language(samples), samples)])[0]

    def chunked(self, name: str, samples: np.ndarray) -> list[Segment]:
        """Return a segment for each window of samples (T,), cut at quiet points and decoded without timestamps."""
        job = _Job(name, samples, self._language(samples), cut_at_quiet(samples, self.window), timed=False)
        texts = self._batched(self._texts, [job])
        bounds = ((first / SAMPLE_RATE, end / SAMPLE_RATE) for first, end in job.windows)
        return [Segment(*ends, text) for ends, text in zip(bounds, texts, strict=True)]

    def _plan(self, name: str, samples: np.ndarray, timestamps: bool) -> _Job:
        language = self._language(samples)
        job = _Job(name, samples, language, cut_at_quiet(samples, self.window), timed=False)
        wanted = timestamps or len(samples) > self.window
        if not wanted or not self._timestamps_work(job):
            return job
        return _Job(name, samples, language, [(0, len(samples))], timed=True)

    def _timestamps_work(self, job: _Job) -> bool:
        if self.no_timestamps is None:
            self.no_timestamps = self._trial(job)
        # Nothing is known yet after a file in which nothing was said; the next one is tried.
        return self.no_timestamps == ""

    def _trial(self, job: _Job) -> str | None:
        loudest = max(job.pieces(), key=lambda piece: float(np.square(piece[2], dtype=np.float64).sum()))
        plain = self._texts([loudest])[0]
        return failed_trial(plain, self._segments([loudest])[0], job.language) if plain else None

    def _run(self, jobs: Sequence[_Job]) -> list[Transcript]:
        """Decode jobs: windows of all files in common batches, files longer than a window one by one."""
        long = [job for job in jobs if job.timed and len(job.samples) > self.window]
        short = [job for job in jobs if job.timed and len(job.samples) <= self.window]
        plain = [job for job in jobs if not job.timed]
        segments = {job.name: self._segments(job.pieces())[0] for job in long}
        segments |= zip((job.name for job in short), self._batched(self._segments, short), strict=True)
        texts = iter(self._batched(self._texts, plain))
        for job in plain:
            segments[job.name] = [
                Segment(first / SAMPLE_RATE, end / SAMPLE_RATE, next(texts)) for first, end in job.windows
            ]
        return [self._transcript(job, segments[job.name]) for job in jobs]

    def _batched(self, decode: Any, jobs: Sequence[_Job]) -> list[Any]:
        pieces = [piece for job in jobs for piece in job.pieces()]
        starts = range(0, len(pieces), self.batch_size)
        return [result for start in starts for result in decode(pieces[start : start + self.batch_size])]

    def _transcript(self, job: _Job, segments: Sequence[Segment]) -> Transcript:
        # The model may write past the end, into the silence that fills its window: nobody said that.
        kept = tuple(
            Segment(part.start, min(part.end, job.duration), part.text)
            for part in segments
            if part.start < job.duration
        )
        return Transcript(job.name, join(kept, job.language), job.duration, job.language, kept)

    def _texts(self, pieces: Sequence[tuple[str, str, np.ndarray]]) -> list[str]:
        """Decode windows plainly."""
        seed_by_ids([id for id, _, _ in pieces])
        options = {**LOOPS, **self.options, "use_cache": True, "return_timestamps": False, **self._languages(pieces)}
        batch = {"input_features": self._features([samples for _, _, samples in pieces])}
        texts = self.family.decode(self.model, self.processor, to_device(batch, self.model), options)
        return [one_line(text) for text in texts]

    def _segments(self, pieces: Sequence[tuple[str, str, np.ndarray]]) -> list[list[Segment]]:
        """Decode with timestamps: several pieces within the window, or one of any length."""
        seed_by_ids([id for id, _, _ in pieces])
        samples = [piece for _, _, piece in pieces]
        fits = all(len(piece) <= self.window for piece in samples)
        features = self._features(samples) if fits else self._long(samples)
        mask = torch.ones(features.shape[0], features.shape[-1], dtype=torch.long)
        found = self.model.generate(
            **to_device({"input_features": features, "attention_mask": mask}, self.model),
            return_timestamps=True,
            return_segments=True,
            use_cache=True,
            **{**LOOPS, **NO_SPEECH, **self.options},
            **self._languages(pieces),
        )
        return [[self._segment(part) for part in parts] for parts in found["segments"]]

    def _segment(self, part: dict[str, Any]) -> Segment:
        tokens = [token for token in part["tokens"].tolist() if token <= self.generation["no_timestamps_token_id"]]
        text = self.processor.tokenizer.decode(tokens, skip_special_tokens=True)
        return Segment(float(part["start"]), float(part["end"]), one_line(text))

    def _features(self, samples: Sequence[np.ndarray]) -> torch.Tensor:
        """Return log-mel features (B, F, M) of windows, each padded to the model's window."""
        inputs = self.extractor(list(samples), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        return inputs["input_features"]

    def _long(self, samples: Sequence[np.ndarray]) -> torch.Tensor:
        """Return log-mel features (1, F, M) of one whole file, without padding."""
        assert len(samples) == 1, "files of several lengths would be padded to the longest"
        inputs = self.extractor(
            samples[0], sampling_rate=SAMPLE_RATE, truncation=False, padding="longest", return_tensors="pt"
        )
        return inputs["input_features"]

    def _languages(self, pieces: Sequence[tuple[str, str, np.ndarray]]) -> dict[str, Any]:
        return {"language": [f"<|{language}|>" for _, language, _ in pieces]} if self._multilingual else {}

    @property
    def _multilingual(self) -> bool:
        return bool(self.generation.get("lang_to_id")) and self.generation.get("is_multilingual") is not False

    def _language(self, samples: np.ndarray) -> str:
        """Return the code of the checkpoint's language, or of the one detected in the file's first window."""
        if not self._multilingual:
            return "en"
        if self.generation.get("language"):
            return _code(self.generation["language"])
        batch = to_device({"input_features": self._features([samples[: self.window]])}, self.model)
        ids = {id: token for token, id in self.generation["lang_to_id"].items()}
        return _code(ids[int(self.model.detect_language(**batch)[0])])


AnyTranscriber = Transcriber | CtcTranscriber | WindowTranscriber


def load_transcriber(name: str, *, language: str | None = None, batch_size: int = 8) -> AnyTranscriber:
    """Load a checkpoint onto this machine's best device.

    Args:
        name: Hub id or folder.
        language: BCP-47 tag of the speech; by default the checkpoint's own, else detected in each file.
        batch_size: Windows decoded together.

    Raises:
        UserError: There is no such checkpoint, it has no such language, or it writes no text.
    """
    arguments = Arguments(
        ExperimentArguments(name="transcribe"), ModelArguments(name_or_path=name), DataArguments(language=language)
    )
    family = get_family(arguments.model)
    if family.scoring != "words":
        raise UserError(
            f"model.name_or_path: expected a model that writes text, found a {family.name} in {name}. Score it on "
            "labelled clips with hf-asr evaluate."
        )
    processor = family.load_processor(arguments, None)
    device = PartialState().device
    model: Any = family.load_model(arguments, processor)
    model.to(device)
    options: dict[str, Any] = {"batch_size": batch_size, "dtype": auto_dtype(device, model.dtype)}
    if family.name == "whisper":
        return Transcriber(model, family, processor, **options)
    if family.name == "ctc":
        return CtcTranscriber(model, family, processor, **options)
    return WindowTranscriber(model, family, processor, arguments, **options)


def _code(language: str) -> str:
    """Turn what a generation_config calls a language (``<|ru|>``, ``russian``, ``ru``) into its code."""
    name = language.lower().removeprefix("<|").removesuffix("|>")
    return TO_LANGUAGE_CODE.get(name, name)
