"""The head's parts against formulas worked out by hand: weights, scales, pooling, stochastic depth, losses."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hf_asr.models.classifier_head import (
    POOLINGS,
    Block,
    ClassifierHead,
    ClipBatchNorm,
    HeadShape,
    LayerWeights,
    MultiScaleFusion,
    classification_layers,
    kept_per_clip,
    masked_average,
    num_heads,
)
from hf_asr.models.classifier_targets import (
    CLASSES,
    NUMBERS,
    ClassLabels,
    NumberLabels,
    Targets,
    summed_class_loss,
    summed_squares,
)

WIDTH = 8
# Two clips: one state more in the batch than the second has, whatever stands there.
STATES = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]], [[2.0, 0.0], [4.0, 2.0], [99.0, -99.0]]])
MASK = torch.tensor([[True, True, True], [True, True, False]])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def random_batch() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(11) < torch.tensor([[11], [7], [1]])
    return torch.randn(3, 11, WIDTH), mask


def test_mean_and_statistics_by_hand() -> None:
    assert_close(POOLINGS["mean"](2)(STATES, MASK), torch.tensor([[3.0, 5.0], [3.0, 1.0]]))
    deviations = torch.tensor([[math.sqrt(8 / 3), math.sqrt(26 / 3)], [1.0, 1.0]])
    assert_close(POOLINGS["statistics"](2)(STATES, MASK)[:, 2:], deviations)


def test_statistics_of_alike_states_have_a_gradient() -> None:
    states = torch.ones(1, 4, 2, requires_grad=True)
    POOLINGS["statistics"](2)(states, torch.ones(1, 4, dtype=torch.bool)).sum().backward()
    assert states.grad is not None
    assert states.grad.isfinite().all()


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_never_sees_padding(name: str) -> None:
    pooling = POOLINGS[name](WIDTH)
    states, mask = random_batch()
    pooled = pooling(states, mask)
    assert pooled.shape == (3, pooling.size)
    assert_close(pooling(states.masked_fill(~mask.unsqueeze(-1), 50.0), mask), pooled, rtol=0, atol=1e-6)
    assert_close(pooling(states[1:2, :7], mask[1:2, :7]), pooled[1:2], rtol=0, atol=1e-6)


def test_attention_pools_by_its_formula() -> None:
    pooling = POOLINGS["attention"](WIDTH)
    states, mask = random_batch()
    with torch.no_grad():
        weights = pooling.attention.in_proj_weight.split(WIDTH)
        query, keys, values = (x @ w.T for x, w in zip((pooling.query, states, states), weights, strict=True))
        scores = (keys @ query / math.sqrt(WIDTH)).masked_fill(~mask, -math.inf).softmax(-1)
        expected = (scores.unsqueeze(1) @ values)[:, 0] @ pooling.attention.out_proj.weight.T
        assert_close(pooling(states, mask), expected, rtol=1e-5, atol=1e-6)


def test_a_query_made_of_context_differs_by_clip() -> None:
    plain, context = POOLINGS["attention"](WIDTH), POOLINGS["context_attention"](WIDTH)
    context.load_state_dict(plain.state_dict(), strict=False)
    states, mask = random_batch()
    nn.init.zeros_(context.context.weight)
    nn.init.zeros_(context.context.bias)
    assert_close(context(states, mask), plain(states, mask))
    nn.init.eye_(context.context.weight)
    assert not torch.allclose(context(states, mask), plain(states, mask), atol=1e-4)


def test_layers_are_weighted_by_a_softmax() -> None:
    weights = LayerWeights(3)
    states = torch.randn(2, 3, 4, WIDTH)
    assert_close(weights(states), states.mean(1))
    with torch.no_grad():
        weights.scores.copy_(torch.tensor([0.0, math.log(2), math.log(5)]))
    assert_close(weights(states), (states[:, 0] + 2 * states[:, 1] + 5 * states[:, 2]) / 8)
    assert_close(LayerWeights(1)(states[:, :1]), states[:, 0])


def test_masked_average_by_hand() -> None:
    weights = MASK.unsqueeze(1).float()
    frames = STATES.transpose(1, 2) * weights
    expected = torch.tensor([[[2.0, 5.0], [3.0, 9.0]], [[3.0, 0.0], [1.0, 0.0]]])
    assert_close(masked_average(frames, weights, 2), expected)
    assert_close(masked_average(frames, weights, 4)[:, :, 0], torch.tensor([[3.0, 5.0], [3.0, 1.0]]))


@pytest.mark.parametrize("scales", [(1, 2), (3,), (2, 5, 16)])
def test_fusion_never_sees_padding(scales: tuple[int, ...]) -> None:
    fusion = MultiScaleFusion(WIDTH, scales)
    states, mask = random_batch()
    fused = fusion(states, mask)
    assert fused.shape == states.shape
    other = fusion(states.masked_fill(~mask.unsqueeze(-1), 50.0), mask)
    assert_close(other[mask], fused[mask], rtol=0, atol=1e-6)
    assert_close(fusion(states[1:2, :7], mask[1:2, :7]), fused[1:2, :7], rtol=0, atol=1e-6)


def test_a_block_never_sees_padding_and_leaves_out_whole_clips() -> None:
    block = Block(WIDTH, drop=0.5)
    states, mask = random_batch()
    changed = block.eval()(states, mask)
    assert_close(block(states[1:2, :7], mask[1:2, :7]), changed[1:2, :7], rtol=0, atol=1e-6)
    many, full = states[:1].expand(400, -1, -1), torch.ones(400, 11, dtype=torch.bool)
    moved = (block.train()(many, full) - many).abs().amax(2)
    kept = moved.gt(0).all(1)
    assert moved[~kept].eq(0).all(), "a clip keeps the block or leaves it out, with all its states"
    assert 0.4 < kept.float().mean() < 0.6
    assert_close(moved[kept][0], 2 * (block.eval()(states[:1], full[:1]) - states[:1]).abs().amax(2)[0])


def test_stochastic_depth_keeps_the_mean_and_rises_with_depth() -> None:
    change = torch.ones(20_000, 1)
    assert abs(float(kept_per_clip(change, 0.3, training=True).mean()) - 1) < 0.02
    assert_close(kept_per_clip(change, 0.3, training=False), change)
    head = ClassifierHead(HeadShape(WIDTH, 1, 2, blocks=3, stochastic_depth=0.3))
    assert [round(block.drop, 6) for block in head.blocks] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("dropout", "norm", "rates", "kind"),
    [
        ("rising", "layer", [0.1, 0.2, 0.3], nn.LayerNorm),
        (0.3, "batch", [0.3] * 3, ClipBatchNorm),
        (0.0, "none", [0.0] * 3, None),
    ],
)
def test_the_last_layers(dropout: Any, norm: str, rates: list[float], kind: Any) -> None:
    layers = classification_layers(16, HeadShape(8, 1, 5, dropout=dropout, norm=norm))
    linear = [(module.in_features, module.out_features) for module in layers if isinstance(module, nn.Linear)]
    assert linear == [(16, 8), (8, 4), (4, 2), (2, 5)]
    assert [module.p for module in layers if isinstance(module, nn.Dropout)] == rates
    assert sum(isinstance(module, nn.GELU) for module in layers) == 3
    norms = [type(module) for module in layers if isinstance(module, nn.LayerNorm | nn.BatchNorm1d)]
    assert norms == ([kind] * 3 if kind else [])


@pytest.mark.parametrize(("width", "heads"), [(384, 6), (16, 1), (1024, 16), (100, 1), (80, 1), (130, 2)])
def test_heads_divide_the_width(width: int, heads: int) -> None:
    assert num_heads(width) == heads


def model_of(**config: Any) -> Any:
    return SimpleNamespace(config=SimpleNamespace(**{"class_weights": None, **config}))


def test_class_loss_is_summed_and_weighted_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)], [5.0, 5.0]])
    labels = torch.tensor([0, 1, -100])
    outputs, inputs = SimpleNamespace(logits=logits), {"labels": labels}
    first, second = math.log(2), math.log(4 / 3)
    assert_close(summed_class_loss(model_of(), inputs, outputs), torch.tensor(first + second))
    weighted = summed_class_loss(model_of(class_weights=[2.0, 0.5]), inputs, outputs)
    assert_close(weighted, torch.tensor(2 * first + 0.5 * second))
    assert int(CLASSES.items(labels)) == 2


def test_number_loss_is_of_standardised_numbers() -> None:
    outputs = SimpleNamespace(logits=torch.tensor([[0.5], [0.0], [7.0]]))
    labels = torch.tensor([14.0, 8.0, math.nan])
    found = summed_squares(model_of(target_mean=10.0, target_std=2.0), {"labels": labels}, outputs)
    assert_close(found, torch.tensor((0.5 - 2.0) ** 2 + 1.0))
    assert int(NUMBERS.items(labels)) == 2


def test_balanced_weights_give_every_class_the_same_say() -> None:
    targets = Targets("classification", {"a": 6, "b": 3, "c": 1})
    assert_close(targets.balanced_weights(), [10 / 18, 10 / 9, 10 / 3])
    assert sum(weight * number for weight, number in zip(targets.balanced_weights(), (6, 3, 1), strict=True)) == 10
    assert targets.guess == "a"


def test_labels_are_read_back_and_problems_named() -> None:
    names = ClassLabels(["a", "b"])
    assert (names({"label": "b"}), names.read([1])) == ([1], "b")
    assert names.problem({"label": "c"}, names({"label": "c"}), 5) == "unknown_class: 'c', the classes are a, b"
    numbers = NumberLabels()
    assert (numbers({"label": "2.5"}), numbers.read([2.5])) == ([2.5], "2.5")
    assert numbers.problem({"label": "?"}, numbers({"label": "?"}), 5) == "no_number: '?'"
