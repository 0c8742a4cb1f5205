"""The summed loss against transformers' own formulas."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from transformers.trainer_pt_utils import LabelSmoother

from hf_asr.models.losses import count_tokens, summed_cross_entropy

LOGITS = torch.randn(3, 5, 11, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, -100, -100, -100], [8, -100, -100, -100, -100]])


def test_literal_sum() -> None:
    logits = torch.tensor([[[0.0, 0.0], [100.0, 0.0]]])
    assert_close(summed_cross_entropy(logits, torch.tensor([[0, 0]])), torch.tensor(0.6931472))


def test_counts_only_what_is_learnt() -> None:
    assert count_tokens(LABELS) == 8


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_equals_the_trainers_smoother(smoothing: float) -> None:
    ours = summed_cross_entropy(LOGITS, LABELS, smoothing) / count_tokens(LABELS)
    theirs = LabelSmoother(epsilon=smoothing)({"logits": LOGITS}, LABELS)
    assert_close(ours, theirs)


def test_half_precision_logits_are_summed_in_float32() -> None:
    assert summed_cross_entropy(LOGITS.bfloat16(), LABELS).dtype == torch.float32


def test_ignored_labels_give_zero_and_zero_gradients() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = summed_cross_entropy(logits, torch.full_like(LABELS, -100))
    loss.backward()
    assert loss == 0 and logits.grad is not None and not logits.grad.any()
