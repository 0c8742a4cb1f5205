"""What a model writes of the profile's clips, freely decoded, and its WER and CER with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from hf_asr.evaluation.counts import count_errors
from hf_asr.evaluation.intervals import summarize
from hf_asr.features.cache import PreparedSplit
from hf_asr.inference.generate import DTYPES, Conditions, generate_dataset
from hf_asr.inference.transcribe import Transcriber
from hf_asr.profiling.clips import ProfileClip
from hf_asr.profiling.subject import Subject
from hf_asr.utterance import Drops

# Clips decoded together for the WER rows.
BATCH = 8


@dataclass(frozen=True)
class FreeDecoding:
    """Text of clips, as ``hf-asr evaluate`` writes it, or as ``hf-asr transcribe`` does beyond the model's window.

    Attributes:
        subject: What is profiled.
        model: It, in its variant.
        window: ``full`` or ``thinned``.
        options: Options of the family's decoding beside its own defaults.
    """

    subject: Subject
    model: Any
    window: str
    options: Mapping[str, Any]

    def __call__(self, clips: Sequence[ProfileClip], batch_size: int = BATCH) -> list[str]:
        """Return one text a clip."""
        longest = max(len(clip.samples()) for clip in clips) / 16_000
        if longest > self.subject.longest_seconds and self.subject.long_form:
            return self._long(clips, batch_size)
        subject, names = self.subject, {dtype: name for name, dtype in DTYPES.items()}
        rows = [self._row(clip) for clip in clips]
        table = datasets.Dataset.from_list([{"id": row["id"], "duration": row["duration"]} for row in rows])
        options = {**subject.family.decoding_options(subject.arguments), **self.options}
        conditions = Conditions(self.window, names[self.model.dtype], batch_size, options)
        prepared = PreparedSplit("profile", rows, table, Drops())
        generated = generate_dataset(
            self.model, subject.family, subject.processor, prepared, conditions, progress=False
        )
        return [hypothesis.text for hypothesis in generated.hypotheses]

    def _long(self, clips: Sequence[ProfileClip], batch_size: int) -> list[str]:
        names = {dtype: name for name, dtype in DTYPES.items()}
        writer = Transcriber(
            self.model,
            self.subject.family,
            self.subject.processor,
            batch_size=batch_size,
            dtype=names[self.model.dtype],
        )
        files = [(Path(clip.path), clip.id) for clip in clips]
        transcripts, _ = writer.transcribe(files, progress=False)
        return [transcript.text for transcript in transcripts]

    def _row(self, clip: ProfileClip) -> dict[str, Any]:
        row = self.subject.row(clip.id, clip.samples())
        return {**row, "text": clip.text}


def score(clips: Sequence[ProfileClip], texts: Sequence[str], normalizer: str, seed: int) -> dict[str, Any]:
    """Return WER and CER with their intervals.

    Args:
        clips: The clips, with their references.
        texts: What was written of each.
        normalizer: Text pipeline of both sides, one for all models of a profile.
        seed: Of the bootstrap.
    """
    counts = count_errors([clip.text for clip in clips], texts, normalizer=normalizer, ids=[clip.id for clip in clips])
    speakers = [clip.speaker for clip in clips]
    found = summarize(counts, speakers if all(speakers) else None, seed)
    names = ("wer", "wer_interval", "wer_interval_by", "cer", "cer_interval", "normalizer", "num_words")
    return {**{name: found[name] for name in names}, "wer_clips": len(clips)}
