"""Whole recordings to text: moving on by Whisper's own timestamps, or in windows cut at quiet points.

``sequential`` is Whisper's long-form decoding (Radford et al. 2022, section 4.5), ``generate`` of transformers; it
needs a checkpoint whose timestamps were trained. ``chunked`` cuts a recording into windows without overlap, at the
quietest point of each window's second half, and decodes each by itself: any family can, windows go in batches.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object

from hf_asr.config.arguments import Arguments
from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, load
from hf_asr.data.recordings import Recording
from hf_asr.errors import UserError
from hf_asr.inference.formats import Segment
from hf_asr.inference.generate import Conditions, decoding, progress_bar
from hf_asr.inference.transcribe import LOOPS, NO_SPEECH, Transcriber, missing_timestamps
from hf_asr.inference.transcribe_ctc import CtcTranscriber
from hf_asr.inference.transcribe_windows import WindowTranscriber
from hf_asr.models.family import ModelFamily
from hf_asr.utterance import Drops, Seconds

logger = logging.getLogger(__name__)

SEQUENTIAL, CHUNKED = "sequential", "chunked"


@dataclass(frozen=True)
class Decoder:
    """A model with a way to write a recording down.

    Attributes:
        method: ``sequential`` or ``chunked``.
        transcriber: What decodes.
        options: What ``generate`` is told, for the results; empty for other families' own decoding.
        no_times: Why segments have no times of their own, but the windows'; empty when they have.
    """

    method: str
    transcriber: Transcriber | CtcTranscriber | WindowTranscriber
    options: Mapping[str, Any]
    no_times: str

    def write(self, name: str, samples: np.ndarray) -> list[Segment]:
        """Return the segments of samples (T,); a CTC model's are its words."""
        writer = self.transcriber
        if isinstance(writer, CtcTranscriber):
            return [Segment(word.start, word.end, word.text) for word in writer.words(samples)]
        if isinstance(writer, WindowTranscriber):
            return writer.segments(name, samples)
        return writer.sequential(name, samples) if self.method == SEQUENTIAL else writer.chunked(name, samples)


@dataclass(frozen=True, slots=True)
class Written:
    """What was written for recordings, the same on every process.

    Attributes:
        segments: Recording's id to its segments.
        wall_seconds: Time of the slowest process, decoding of the files included.
        drops: Recordings that could not be decoded.
    """

    segments: dict[str, list[Segment]]
    wall_seconds: Seconds
    drops: Drops


def make_decoder(
    family: ModelFamily, model: Any, processor: Any, arguments: Arguments, conditions: Conditions
) -> Decoder:
    """Make what decodes recordings as ``evaluation.long_form`` says.

    Args:
        family: The model's family.
        model: The model on its device.
        processor: Its processor.
        arguments: The whole configuration.
        conditions: dtype, batch size and generation options.

    Raises:
        UserError: The model cannot be decoded so.
    """
    method = arguments.evaluation.long_form
    assert method in (SEQUENTIAL, CHUNKED), method
    shared: dict[str, Any] = {"batch_size": conditions.batch_size, "dtype": conditions.dtype}
    if family.name == "whisper":
        return _whisper(Transcriber(model, family, processor, **shared), arguments, conditions)
    _refuse_whispers_own(family, arguments)
    if family.name == "ctc" and conditions.generation.get("beam", 1) == 1:
        return Decoder(method, CtcTranscriber(model, family, processor, **shared), conditions.generation, "")
    options = dict(conditions.generation)
    windows = WindowTranscriber(model, family, processor, arguments, options=options, **shared)
    why = "a beam search keeps no times" if family.name == "ctc" else windows.no_timestamps
    return Decoder(method, windows, options, why)


def write_down(decoder: Decoder, model: Any, recordings: Sequence[Recording], dtype: str) -> Written:
    """Decode recordings, each once, dealt to all processes."""
    state = PartialState()
    mine, drops = list[tuple[str, list[Segment]]](), list[tuple[str, str]]()
    started = time.perf_counter()
    with decoding(model, dtype), progress_bar(state.is_main_process) as bar:
        for recording in bar.track(recordings[state.process_index :: state.num_processes], description="decoding"):
            try:
                samples = load(recording.audio)
            except BrokenAudio as error:
                drops.append((recording.id, str(error)))
                continue
            found = decoder.write(recording.id, samples)
            length = len(samples) / SAMPLE_RATE
            # What is written beyond the end, in the window's padding, nobody said.
            kept = [Segment(part.start, min(part.end, length), part.text) for part in found if part.start < length]
            mine.append((recording.id, kept))
    elapsed = time.perf_counter() - started
    all_drops = Drops()
    for id, detail in gather_object(drops):
        all_drops.add("broken_audio", id, detail)
    return Written(dict(gather_object(mine)), max(gather_object([elapsed])), all_drops)


def _whisper(transcriber: Transcriber, arguments: Arguments, conditions: Conditions) -> Decoder:
    evaluation, method = arguments.evaluation, str(arguments.evaluation.long_form)
    lacking = missing_timestamps(transcriber.model)
    if method == SEQUENTIAL and lacking:
        raise UserError(
            f"evaluation.long_form: expected a checkpoint with timestamps, by which sequential decoding moves on, "
            f"found that {lacking}. Use chunked."
        )
    options = {**LOOPS, **(NO_SPEECH if method == SEQUENTIAL else {}), **conditions.generation}
    told: dict[str, Any] = {}
    if evaluation.prompt:
        told["prompt_ids"] = _prompt_ids(transcriber, evaluation.prompt)
        if method == SEQUENTIAL:
            every = evaluation.condition_on_previous_text
            told["prompt_condition_type"] = "all-segments" if every else "first-segment"
    if evaluation.condition_on_previous_text:
        told["condition_on_prev_tokens"] = True
    transcriber.options = {**options, **told}
    stored = options | {key: value for key, value in told.items() if key != "prompt_ids"}
    return Decoder(method, transcriber, stored, "" if method == SEQUENTIAL else "chunked windows are decoded without")


def _prompt_ids(transcriber: Transcriber, prompt: str) -> Any:
    """Return a prompt's tokens on the model's device.

    Raises:
        UserError: It takes more than half of the decoder's positions, which is all that Whisper reads of a prompt.
    """
    ids = transcriber.processor.get_prompt_ids(prompt, return_tensors="pt")  # type: ignore[attr-defined]
    most = transcriber.model.config.max_target_positions // 2 - 1
    if len(ids) > most:
        raise UserError(f"evaluation.prompt: expected at most {most} tokens, found {len(ids)}. Shorten it.")
    return ids.to(transcriber.model.device)


def _refuse_whispers_own(family: ModelFamily, arguments: Arguments) -> None:
    evaluation = arguments.evaluation
    if family.scoring != "words":
        raise UserError(f"evaluation.long_form: expected a model that writes words, found a {family.name}.")
    if evaluation.long_form == SEQUENTIAL:
        raise UserError(
            f"evaluation.long_form: expected chunked for a {family.name} model, as only a Whisper moves on by "
            "timestamps, found sequential. Use chunked."
        )
    if evaluation.prompt:
        raise UserError(f"evaluation.prompt: expected none for a {family.name} model, only a Whisper reads one.")
