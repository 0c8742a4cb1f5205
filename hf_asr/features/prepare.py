"""All splits of a run at once: what recipes and verbs call before they batch anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from hf_asr.config.arguments import Arguments
from hf_asr.data.corpora import Split
from hf_asr.features.augmented import prepare_augmented
from hf_asr.features.cache import PreparedSplit, prepare_features
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.packed import with_packing
from hf_asr.features.packing import check_packing


def prepare_splits(
    splits: Mapping[str, Split],
    encoder: ClipEncoder,
    arguments: Arguments,
    *,
    trained_on: Collection[str] = ("train",),
) -> dict[str, PreparedSplit]:
    """Encode every split into its cache, or on the fly when ``features.cache`` is off; train with its augmentations.

    A clip whose text the model cannot learn is left out of training only. Validation and test decode and score it: a
    rate without the clips that the model must fail on would be too good.

    The cache is told apart by the content of extractor and tokenizer (``encoder.identity``), not by the model's name:
    a fine-tuned checkpoint reuses the features of its base.

    With ``data.pack`` the training split also knows how its clips are joined; a stream is then one of windows.

    Args:
        splits: From :func:`hf_asr.data.corpora.build_splits`.
        encoder: The family's encoder.
        arguments: The whole configuration.
        trained_on: Names of the splits that are trained on; all others are only scored.
    """
    scoring = scoring_encoder(encoder)
    features, on_bad_clip = arguments.features, arguments.data.on_bad_clip
    augments = bool(arguments.augment.chosen())
    if trained_on:
        check_packing(arguments, encoder)
    prepared = {
        name: prepare_augmented(split, encoder, arguments)
        if augments and name in trained_on
        else prepare_features(
            split,
            encoder if name in trained_on else scoring,
            fingerprint={},
            features=features,
            on_bad_clip=on_bad_clip,
        )
        for name, split in splits.items()
    }
    return {
        name: with_packing(split, encoder, arguments) if name in trained_on else split
        for name, split in prepared.items()
    }


def scoring_encoder(encoder: ClipEncoder) -> ClipEncoder:
    """Return the encoder of splits that are only scored, see :func:`prepare_splits`."""
    return replace(encoder, learns=False, joining=None) if encoder.labeller.writes_text else encoder
