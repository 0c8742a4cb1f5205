"""Training rows that are changed anew in every epoch, in whatever process they are read.

With a transform of the waveform the training split is decoded and encoded while training, since a cache holds one
version of a clip; SpecAugment alone works on features, cached ones too. Validation and test never come here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np

from hf_asr.config.arguments import Arguments
from hf_asr.config.augmentations import SpecAugment
from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, prepare
from hf_asr.data.augment import WAVEFORM, Augmenter, Clip, build_augmenter, random_of
from hf_asr.data.augment_features import masked
from hf_asr.data.corpora import Split
from hf_asr.data.sampling import Epoch
from hf_asr.data.stream import Stream
from hf_asr.errors import UserError
from hf_asr.features.cache import CachedRows, LiveRows, PreparedSplit, encode_row, prepare_features
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.packing import check_packing
from hf_asr.features.streamed import StreamRows
from hf_asr.utterance import AudioRef, Drops

logger = logging.getLogger(__name__)

# Transforms that need other clips of the split.
OTHERS = {"concatenate", "mix"}
# Languages written without spaces between words.
UNSPACED = ("zh", "ja", "yue", "th", "lo", "km", "my")


class TableNeighbours:
    """Gives other clips of a table; which one, the generator that is handed in decides.

    Args:
        table: The training split, with ``ROW_TYPES``.
        encoder: Says how clips are prepared.
    """

    def __init__(self, table: datasets.Dataset, encoder: ClipEncoder) -> None:
        self.table = table
        self.encoder = encoder
        places: dict[str, list[int]] = {}
        for place, speaker in enumerate(table["speaker"]):
            places.setdefault(speaker, []).append(place)
        places.pop("", None)
        self.places = {speaker: np.asarray(found) for speaker, found in places.items()}
        self.everywhere = np.arange(len(table))

    def __call__(self, clip: Clip, random: np.random.RandomState, same_speaker: bool) -> Clip | None:
        """Draw another clip, one of the same speaker when asked so and there is one; None where it cannot be had."""
        own = self.places.get(clip.speaker, self.everywhere) if same_speaker else self.everywhere
        places = own if len(own) > 1 else self.everywhere
        drawn = random.randint(len(places))
        row = self.table[int(places[drawn])]
        if row["id"] == clip.id:
            row = self.table[int(places[(drawn + 1) % len(places)])]
        if row["id"] == clip.id:
            return None
        try:
            samples = prepare(AudioRef(**row["audio"]), self.encoder.level, self.encoder.trim_silence)
        except BrokenAudio:
            return None
        return Clip(row["id"], samples, row["text"], row["speaker"])


@dataclass(frozen=True, eq=False)
class Masker:
    """SpecAugment on encoded rows, by the clip's id and the epoch.

    Attributes:
        settings: How many masks, and how long; None for none.
        seed: ``experiment.seed``.
        epoch: The epoch now.
    """

    settings: SpecAugment | None
    seed: int
    epoch: Epoch

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return an encoded row, its features masked where the draw says so."""
        if self.settings is None or row.get("error"):
            return row
        random = random_of(self.seed, self.epoch.value, row["id"], "spec_augment")
        if random.random_sample() >= self.settings.probability:
            return row
        return row | {"input_features": masked(np.asarray(row["input_features"]), self.settings, random)}


@dataclass(frozen=True, eq=False)
class RowAugmenter:
    """Decodes, changes, encodes and masks a corpus row; in the same epoch always alike.

    Attributes:
        encoder: The family's encoder.
        waveform: The chain of transforms.
        masker: SpecAugment.
        on_bad_clip: ``skip`` sets a row's ``error``, ``raise`` stops.
    """

    encoder: ClipEncoder
    waveform: Augmenter
    masker: Masker
    on_bad_clip: str

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row as it is in this epoch."""
        return self.masker(self.encoded(row))

    def encoded(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Encode a row after its transforms; where the model could not learn from that, without them.

        A joined text may have more tokens than the decoder has places, a fast clip fewer frames than letters.
        """
        try:
            samples = prepare(AudioRef(**row["audio"]), self.encoder.level, self.encoder.trim_silence)
        except BrokenAudio:
            return encode_row(row, self.encoder, self.on_bad_clip)  # it says what is wrong
        clip = Clip(row["id"], samples, row["text"], row["speaker"])
        for without in ((), ("concatenate",)):
            changed = self.waveform(clip, self.masker.epoch.value, without)
            result = self.encoder.encode({**row, "text": changed.text}, changed.samples)
            if not result["error"]:
                return result
        return encode_row(row, self.encoder, self.on_bad_clip)


class AugmentedRows(LiveRows):
    """Rows decoded, changed and encoded when they are asked for."""

    def __init__(self, table: datasets.Dataset, augmenter: RowAugmenter) -> None:
        super().__init__(table, augmenter.encoder, augmenter.on_bad_clip)
        self.augmenter = augmenter

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.augmenter(self.table[index])


class MaskedRows(CachedRows):
    """Cached rows, masked when they are asked for; the cache stays as it is."""

    def __init__(self, rows: CachedRows, masker: Masker) -> None:
        super().__init__(rows.table, rows.feature_size, str(rows.dtype))
        self.masker = masker

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.masker(super().__getitem__(index))


def prepare_augmented(split: Split, encoder: ClipEncoder, arguments: Arguments) -> PreparedSplit:
    """Prepare the training split with its augmentations, which change with the epoch.

    Args:
        split: The training split.
        encoder: The family's encoder.
        arguments: The whole configuration, with at least one transform that acts.

    Raises:
        UserError: A transform does not go with this model, or its folder holds nothing to use.
    """
    chosen = arguments.augment.chosen()
    check_fits(chosen, encoder)
    epoch, seed = Epoch(), arguments.experiment.seed
    # Clips that are joined are masked afterwards, in their window.
    masker = Masker(None if encoder.joining else chosen.get("spec_augment"), seed, epoch)
    waveform = [name for name in chosen if name in WAVEFORM]
    told = ", ".join(f"{name} {settings.probability:g}" for name, settings in chosen.items())
    streams = isinstance(split.rows, Stream)
    if not waveform and not streams and arguments.features.cache:
        logger.info("augment: %s with probability %s; its cached features stay as they are", split.name, told)
        prepared = prepare_features(
            split, encoder, fingerprint={}, features=arguments.features, on_bad_clip=arguments.data.on_bad_clip
        )
        assert isinstance(prepared.rows, CachedRows)
        return replace(prepared, rows=MaskedRows(prepared.rows, masker), epoch=epoch)
    logger.info(
        "augment: %s with probability %s. It is not cached: every clip is decoded and encoded in every epoch, about "
        "10 ms for 5 s of audio, and the transforms' own time (docs/augmentation.md); data.num_workers hides it",
        split.name,
        told,
    )
    augmenter = RowAugmenter(encoder, _chain(chosen, split, encoder, arguments), masker, arguments.data.on_bad_clip)
    if isinstance(split.rows, Stream):
        return PreparedSplit(split.name, StreamRows(split.rows, augmenter), None, Drops(), epoch=epoch)
    return PreparedSplit(split.name, AugmentedRows(split.rows, augmenter), split.rows, Drops(), epoch=epoch)


def caches_train(arguments: Arguments) -> bool:
    """Tell whether the training split's features are cached: a waveform that changes with the epoch has none."""
    return arguments.features.cache and not any(name in WAVEFORM for name in arguments.augment.chosen())


def check_augmentation(arguments: Arguments, encoder: ClipEncoder) -> None:
    """See, before there is a run folder, that transforms and joining suit the model, and that folders hold something.

    Raises:
        UserError: They do not, or one is empty.
    """
    check_packing(arguments, encoder)
    chosen = arguments.augment.chosen()
    check_fits(chosen, encoder)
    build_augmenter({name: settings for name, settings in chosen.items() if name not in OTHERS}, 0)


def check_fits(chosen: Mapping[str, Any], encoder: ClipEncoder) -> None:
    """See that the transforms go with what the model learns and takes.

    Raises:
        UserError: One does not.
    """
    writes_text = encoder.labeller.writes_text
    for name, wanted in (("concatenate", True), ("mix", False)):
        if name in chosen and writes_text is not wanted:
            models = ("a model that writes text", "a classifier")
            raise UserError(
                f"augment.{name}: expected {models[not wanted]}, found {models[not writes_text]}: two clips have "
                f"{'two labels' if wanted else 'two texts'}. Remove augment.{name}."
            )
    spec_augment = chosen.get("spec_augment")
    if spec_augment is not None and spec_augment.frequency_masks and encoder.front_end.feature_size == 1:
        raise UserError(
            "augment.spec_augment.frequency_masks: expected a model that takes spectra, found one that takes the "
            "waveform, which has no bands to mask. Set it to 0."
        )


def _chain(chosen: Mapping[str, Any], split: Split, encoder: ClipEncoder, arguments: Arguments) -> Augmenter:
    needed = OTHERS & set(chosen)
    language = (arguments.data.language or "").split("-")[0].lower()
    return build_augmenter(
        chosen,
        arguments.experiment.seed,
        neighbours=TableNeighbours(split.rows, encoder) if needed else None,
        separator="" if language in UNSPACED else " ",
        shortest=int(np.ceil(encoder.min_seconds * SAMPLE_RATE)),
        longest=min(encoder.max_seconds, encoder.front_end.longest_seconds) * SAMPLE_RATE,
    )
