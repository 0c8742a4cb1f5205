"""What the checks of `hf-asr doctor` look at: the text side of a model, and a sample of each split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import datasets
from transformers import PreTrainedConfig

from hf_asr.config.arguments import Arguments
from hf_asr.data import checks
from hf_asr.data.checks import Check, Transcript
from hf_asr.data.corpora import Split
from hf_asr.data.stream import Stream
from hf_asr.features.extract import ClipEncoder
from hf_asr.models.family import ModelFamily
from hf_asr.text import apply_pipeline
from hf_asr.utterance import AudioRef, Drops

# What is looked at of each split; 10,000 texts take about 3 s to encode and decode.
MAX_TEXTS = 10_000
# Rows of a stream may hold their audio: 500 of 100 kB are no burden, 10,000 would be.
MAX_STREAMED = 500
# Decoding takes 1 ms (a 5-s MP3) to 11 ms (a segment inside a long Opus file): 7 s at most.
MAX_DECODED = 600


@dataclass(frozen=True)
class TextSide:
    """What is loaded of a model: all but its weights.

    Attributes:
        family: Its family.
        config: Its configuration.
        encoder: Makes labels.
        notes: What the family has to say about the language.
    """

    family: ModelFamily
    config: PreTrainedConfig
    encoder: ClipEncoder
    notes: list[str]


@dataclass
class Sample:
    """A split as far as it is looked at.

    Attributes:
        split: The split.
        beginning: The first rows of a stream, read once; a table's rows are read where they are asked for.
        drops: What is left out; of a stream what its list and its beginning tell, each clip once.
    """

    split: Split
    beginning: list[dict[str, Any]] = field(init=False)
    drops: Drops = field(init=False)

    def __post_init__(self) -> None:
        self.beginning, self.drops = [], self.split.drops
        if isinstance(self.split.rows, Stream):
            self.beginning, self.drops = list(islice(self.split.rows, MAX_STREAMED)), Drops()
            self.drops.merge(self.split.drops)
            for id, error in self.split.rows.take_drops():
                reason, _, detail = error.partition(": ")
                self.drops.add(reason, id, detail)

    @property
    def size(self) -> int | None:
        """Number of clips; None for a stream."""
        return len(self.split.rows) if isinstance(self.split.rows, datasets.Dataset) else None

    def rows(self, limit: int, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield an evenly spread sample of a table, or the beginning of a stream."""
        if isinstance(self.split.rows, Stream):
            yield from self.beginning[:limit]
        else:
            table = self.split.rows.select_columns(list(columns))
            yield from table.select(checks.spread(len(table), limit))


def transcripts_of(sample: Sample, arguments: Arguments) -> Iterator[Transcript]:
    """Yield the texts of a split as the checks take them."""
    for row in sample.rows(MAX_TEXTS, ("id", "text", "duration", "language")):
        spoken = apply_pipeline(arguments.data.text_pipeline, row["text"])
        language = row["language"] or arguments.data.language or ""
        yield Transcript(f"{sample.split.name}: {row['id']}", row["text"], spoken, row["duration"], language)


def check_sample_of_audio(samples: Sequence[Sample], most: int | None = None) -> Check:
    """Decode some clips of every split, ``most`` together; by default ``MAX_DECODED``."""
    most = MAX_DECODED if most is None else most
    clips = [
        (f"{sample.split.name}: {row['id']}", AudioRef(**row["audio"]))
        for sample in samples
        for row in sample.rows(most // len(samples), ("id", "audio"))
    ]
    total = sum(len(sample.beginning) if sample.size is None else sample.size for sample in samples)
    return checks.check_audio([place for place, _ in clips], [audio for _, audio in clips], total)
