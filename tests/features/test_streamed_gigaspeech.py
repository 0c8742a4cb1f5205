"""Real long Opus files of GigaSpeech's layout, streamed against cached: the same clips, features and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.tiny_whisper import tiny_tokenizer
from transformers import WhisperFeatureExtractor

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, FeatureArguments, ModelArguments
from hf_asr.data.corpora import build_splits
from hf_asr.features.extract import ClipEncoder, LogMel, TokenLabels
from hf_asr.features.prepare import prepare_splits

CLIPS = 40


def test_features_and_labels(shared_data: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    prefix = (tokenizer.get_vocab()["<|notimestamps|>"],)
    labeller = TokenLabels(tokenizer, prefix=prefix, end_token=tokenizer.eos_token_id, max_tokens=448)
    encoder = ClipEncoder(LogMel(WhisperFeatureExtractor()), labeller)
    section = {"path": str(shared_data / "gigaspeech_layout"), "splits": {"train": "S"}, "limit": {"train": CLIPS}}
    rows = []
    for streaming in (False, True):
        arguments = Arguments(
            experiment=ExperimentArguments(name="tiny"),
            model=ModelArguments(name_or_path="none"),
            data=DataArguments(corpus="gigaspeech", shuffle_buffer=1, streaming=streaming, **section),
            features=FeatureArguments(cache_dir=str(tmp_path), num_proc=1),
        )
        splits = build_splits(arguments.data, seed=0, names=["train"])
        rows.append(list(prepare_splits(splits, encoder, arguments)["train"].rows))
    cached, streamed = rows
    assert [row["id"] for row in streamed] == [row["id"] for row in cached] and len(cached) == CLIPS
    for one, other in zip(cached, streamed, strict=True):
        np.testing.assert_array_equal(one["input_features"], other["input_features"])
        assert (list(one["labels"]), one["text"]) == (list(other["labels"]), other["text"])
        assert other["error"] == ""
