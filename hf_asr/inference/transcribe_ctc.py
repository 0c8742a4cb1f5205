"""Files of any length to text with times, by a CTC model.

A file is cut at quiet points into windows of at most :data:`WINDOW` samples, each is decoded by itself, and the times
of words are those of the frames they are written in. Segments end at pauses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ProcessorMixin

from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, load
from hf_asr.inference.alignment import TextSpan, best_spans, log_probs_of, words
from hf_asr.inference.cutting import cut_at_quiet, join
from hf_asr.inference.formats import Segment, Transcript
from hf_asr.inference.generate import bare_model, decoding, progress_bar
from hf_asr.models.ctc_decoding import pieces_of
from hf_asr.models.ctc_processor import make_front_end, seconds_per_state
from hf_asr.models.family import ModelFamily
from hf_asr.utterance import AudioRef, Drops, Seconds

# Encoders with full attention take memory with the square of the length; training clips are 30 s at most.
WINDOW = 30 * SAMPLE_RATE
# A pause that ends a segment, and the length from which any gap between words does: a subtitle of 7 s is the longest
# that broadcasters' guidelines allow.
PAUSE: Seconds = 0.6
LONG: Seconds = 7.0


class CtcTranscriber:
    """A CTC model that writes down files of any length.

    Attributes:
        no_timestamps: Empty: frames always have their times.
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
            model: A CTC model.
            family: Its family.
            processor: Its feature extractor and vocabulary.
            batch_size: Windows decoded together.
            dtype: Arithmetic, as ``inference.generate.resolve_conditions`` chose it.
        """
        self.wrapped = model
        self.model: Any = bare_model(model)
        self.family = family
        self.processor = processor
        self.batch_size = batch_size
        self.dtype = dtype
        self.no_timestamps = ""
        self.pieces = pieces_of(processor.tokenizer)
        self.frame = seconds_per_state(self.model.config, make_front_end(processor.feature_extractor))

    def transcribe(
        self, files: Sequence[tuple[Path, str]], *, timestamps: bool = False, progress: bool = True
    ) -> tuple[list[Transcript], Drops]:
        """Write down files, in order; those that cannot be decoded are left out, named and counted.

        Args:
            files: Paths with the names they are reported under.
            timestamps: Of no account: segments always have the times of their frames.
            progress: Whether to show a bar on stderr.
        """
        done, drops = [], Drops()
        with decoding(self.wrapped, self.dtype), progress_bar(progress) as bar:
            for path, name in bar.track(files, description="transcribing"):
                try:
                    samples = load(AudioRef(path=str(path)))
                except BrokenAudio as error:
                    drops.add("broken_audio", name, str(error))
                    continue
                segments = segments_of(self.words(samples))
                done.append(Transcript(name, join(segments, ""), len(samples) / SAMPLE_RATE, "", tuple(segments)))
        return done, drops

    def words(self, samples: np.ndarray) -> list[TextSpan]:
        """Return the words of a file's samples (T,), with their times in the file."""
        windows, found = cut_at_quiet(samples, WINDOW), list[TextSpan]()
        blank = int(self.model.config.pad_token_id)
        for start in range(0, len(windows), self.batch_size):
            batch = windows[start : start + self.batch_size]
            scores = log_probs_of(self.model, self.family, self.processor, [samples[a:b] for a, b in batch])
            for (first, end), log_probs in zip(batch, scores, strict=True):
                spans = words(best_spans(log_probs, blank), self.pieces, self.frame)
                found += [_moved(span, first / SAMPLE_RATE, end / SAMPLE_RATE) for span in spans]
        return found


def segments_of(spoken: Sequence[TextSpan]) -> list[Segment]:
    """Join words to segments that end at pauses, or at the next word when they are long."""
    groups: list[list[TextSpan]] = []
    for word in spoken:
        if groups and word.start - groups[-1][-1].end < PAUSE and word.end - groups[-1][0].start <= LONG:
            groups[-1].append(word)
        else:
            groups.append([word])
    return [Segment(group[0].start, group[-1].end, " ".join(word.text for word in group)) for group in groups]


def _moved(span: TextSpan, start: Seconds, end: Seconds) -> TextSpan:
    return TextSpan(span.text, min(start + span.start, end), min(start + span.end, end), span.score)
