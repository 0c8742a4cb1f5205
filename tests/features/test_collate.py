"""Exact tensors of small batches, and what holds for every batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.features.collate import Seq2SeqCollator, WindowPadder

START, END, PAD = 1, 2, 0
COLLATE = Seq2SeqCollator(WindowPadder(6, 2), start_token=START, pad_token=PAD)


def row(id: str, labels: list[int], frames: int = 3, loudest: float = 1.0, **more: Any) -> dict[str, Any]:
    features = np.full((frames, 2), 0.25, dtype=np.float16)
    features[:1, 0] = loudest
    return {"id": id, "labels": labels, "input_features": features, "error": "", **more}


def broken(id: str) -> dict[str, Any]:
    nothing = np.zeros((0, 2), dtype=np.float16)
    return {"id": id, "labels": [], "input_features": nothing, "error": "broken_audio: no samples"}


def test_labels_and_decoder_inputs() -> None:
    batch = COLLATE([row("a", [7, 8, END]), row("b", [7, END])])
    torch.testing.assert_close(batch["labels"], torch.tensor([[7, 8, END], [7, END, -100]]))
    torch.testing.assert_close(batch["decoder_input_ids"], torch.tensor([[START, 7, 8], [START, 7, PAD]]))
    assert batch["labels"].dtype == batch["decoder_input_ids"].dtype == torch.int64
    assert batch["ids"] == ["a", "b"]
    assert batch["skipped"] == []


@pytest.mark.parametrize(("labels", "length"), [(1, 8), (8, 8), (9, 12), (12, 12)])
def test_labels_are_padded_to_a_bucket_within_the_decoder_s_positions(labels: int, length: int) -> None:
    collate = replace(COLLATE, label_multiple=8, most_labels=12)
    batch = collate([row("a", [7] * (labels - 1) + [END]), row("b", [END])])
    plain = COLLATE([row("a", [7] * (labels - 1) + [END]), row("b", [END])])
    for name, fill in (("labels", -100), ("decoder_input_ids", PAD)):
        assert batch[name].shape == (2, length)
        assert torch.equal(batch[name][:, :labels], plain[name])
        assert batch[name][:, labels:].eq(fill).all()


def test_features_are_filled_with_each_clips_own_silence() -> None:
    batch = COLLATE([row("loud", [END], frames=2), row("quiet", [END], frames=5, loudest=-1.0), row("full", [END], 6)])
    assert batch["input_features"].shape == (3, 2, 6)
    assert batch["input_features"].dtype == torch.float32
    expected = [[1.0, 0.25, -1, -1, -1, -1], [0.25, 0.25, -1, -1, -1, -1]]
    torch.testing.assert_close(batch["input_features"][0], torch.tensor(expected))
    # 0.25 is the loudest value of the second clip: 2 below it is under the floor of -1.5.
    torch.testing.assert_close(batch["input_features"][1, :, 5], torch.tensor([-1.5, -1.5]))
    torch.testing.assert_close(batch["input_features"][2, 1], torch.full((6,), 0.25))


def test_rows_with_errors_are_left_out_and_reported() -> None:
    batch = COLLATE([broken("bad"), row("good", [7, END]), broken("worse")])
    assert batch["ids"] == ["good"]
    assert batch["skipped"] == [("bad", "broken_audio: no samples"), ("worse", "broken_audio: no samples")]
    assert len(batch["labels"]) == len(batch["decoder_input_ids"]) == len(batch["input_features"]) == 1


def test_without_a_usable_row_the_batch_is_one_filler() -> None:
    batch = COLLATE([broken("bad")])
    torch.testing.assert_close(batch["input_features"], torch.zeros(1, 2, 6))
    torch.testing.assert_close(batch["labels"], torch.tensor([[-100]]))
    torch.testing.assert_close(batch["decoder_input_ids"], torch.tensor([[START]]))
    assert batch["ids"] == []
    assert batch["skipped"] == [("bad", "broken_audio: no samples")]


def test_a_filler_row_is_not_learnt_nor_listed() -> None:
    batch = COLLATE([row("a", [7, END]), row("a", [7, END], padding=True), broken("bad") | {"padding": True}])
    torch.testing.assert_close(batch["labels"], torch.tensor([[7, END], [-100, -100]]))
    torch.testing.assert_close(batch["input_features"][0], batch["input_features"][1])
    assert batch["ids"] == ["a"]
    assert batch["skipped"] == []


def test_a_second_start_token_is_refused() -> None:
    with pytest.raises(AssertionError, match="start token"):
        COLLATE([row("a", [START, 7, END])])


@pytest.mark.parametrize("features", [np.zeros((7, 2)), np.zeros((3, 5))])
def test_features_that_do_not_fit_the_window_are_refused(features: np.ndarray) -> None:
    with pytest.raises(AssertionError):
        COLLATE([row("a", [END]) | {"input_features": features}])


@given(texts=st.lists(st.lists(st.integers(3, 50), max_size=8), min_size=1, max_size=5))
def test_what_holds_for_every_batch(texts: list[list[int]]) -> None:
    batch = COLLATE([row(str(index), [*text, END]) for index, text in enumerate(texts)])
    for text, labels, inputs in zip(texts, batch["labels"].tolist(), batch["decoder_input_ids"].tolist(), strict=True):
        learnt = [label for label in labels if label != -100]
        assert learnt == [*text, END]
        assert learnt.count(END) == 1
        assert PAD not in learnt
        assert START not in learnt
        assert inputs[: len(learnt)] == [START, *text]
        assert inputs.count(START) == 1
        assert set(inputs[len(learnt) :]) <= {PAD}
