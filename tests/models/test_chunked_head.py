"""The chunked loss is the plain one: same value, same gradients, without logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny_training import build_model
from torch import nn
from torch.nn import functional
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from hf_asr.models import chunked_head
from hf_asr.models.chunked_head import ChunkedHead, TiedEmbedding, chunked_cross_entropy, targets
from hf_asr.models.losses import summed_cross_entropy


def states_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 30, (3, 7), generator=generator)
    labels[0, 3:] = labels[2, 5:] = -100
    return torch.randn(3, 7, 8, generator=generator), labels


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [1, 4, 256])
@pytest.mark.parametrize("selecting", [("cpu",), ()], ids=["ignored left out", "ignored count 0"])
def test_value_and_gradients_are_those_of_the_plain_loss(
    bias: bool, smoothing: float, chunk: int, selecting: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_head, "CHUNK", chunk)
    monkeypatch.setattr(chunked_head, "SELECTING", selecting)
    states, labels = states_and_labels()
    found = []
    for chunked in (False, True):
        torch.manual_seed(1)
        head, inputs = nn.Linear(8, 30, bias=bias), states.clone().requires_grad_()
        if chunked:
            loss = chunked_cross_entropy(inputs, head, labels, smoothing)
        else:
            loss = summed_cross_entropy(head(inputs), labels, smoothing)
        (loss / 3).backward()
        found.append([loss.detach(), inputs.grad, *(parameter.grad for parameter in head.parameters())])
    assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("selecting", [("cpu",), ()], ids=["ignored left out", "ignored count 0"])
def test_nothing_to_learn_gives_zero_and_zero_gradients(
    selecting: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_head, "SELECTING", selecting)
    states, labels = states_and_labels()
    head, inputs = nn.Linear(8, 30), states.requires_grad_()
    loss = chunked_cross_entropy(inputs, head, torch.full_like(labels, -100), 0.0)
    loss.backward()
    assert loss == 0
    assert_close(inputs.grad, torch.zeros_like(inputs))
    assert_close(head.weight.grad, torch.zeros_like(head.weight))


def test_a_frozen_head_gets_no_gradient() -> None:
    states, labels = states_and_labels()
    head = nn.Linear(8, 30).requires_grad_(False)
    chunked_cross_entropy(states.requires_grad_(), head, labels, 0.0).backward()
    assert head.weight.grad is None and states.grad is not None


def test_bf16_autocast_stays_close() -> None:
    states, labels = states_and_labels()
    head = nn.Linear(8, 30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = chunked_cross_entropy(states, head, labels, 0.0)
    assert loss.dtype == torch.float32
    assert_close(loss, summed_cross_entropy(head(states), labels), rtol=2e-2, atol=0)


def test_whisper_gives_the_same_loss_and_gradients_and_is_left_as_it_was() -> None:
    labels = torch.tensor([[5, 6, 59, -100], [1, 2, 3, 59]])
    inputs = {"input_features": torch.randn(2, 8, 40), "decoder_input_ids": labels.clamp(min=0)}
    plain, chunked = build_model(), build_model()
    summed_cross_entropy(plain(**inputs).logits, labels).backward()
    with targets(chunked, "proj_out", labels, 0.0):
        chunked(**inputs).logits.backward()
    assert type(chunked.proj_out) is nn.Linear
    assert_close(
        {name: parameter.grad for name, parameter in chunked.named_parameters()},
        {name: parameter.grad for name, parameter in plain.named_parameters()},
        rtol=1e-4,
        atol=1e-6,
    )
    assert chunked(**inputs).logits.shape == (2, 4, 60)


def test_the_class_is_put_back_after_a_failure() -> None:
    model = build_model()
    with pytest.raises(RuntimeError, match="torn"), targets(model, "proj_out", torch.zeros(1, 1), 0.0):
        assert type(model.proj_out) is ChunkedHead
        raise RuntimeError("torn")
    assert type(model.proj_out) is nn.Linear


@pytest.mark.parametrize("padding", [None, 3])
def test_a_tied_embedding_gets_the_dense_gradient(padding: int | None) -> None:
    """Rows looked up twice count twice, the padding's row not at all, and the head's gradient is added."""
    ids = torch.tensor([[1, 3, 1], [7, 3, 2]])
    torch.manual_seed(0)
    weight, labels, gradients = torch.randn(9, 4), torch.tensor([[3, 1, 2], [3, 2, -100]]), []
    for chunked in (False, True):
        embedding = nn.Embedding(9, 4, padding_idx=padding, _weight=weight.clone())
        model = nn.ModuleDict({"embedding": embedding, "head": nn.Linear(4, 9, bias=False)})
        model["head"].weight = embedding.weight
        for _ in range(2):  # the second time into a gradient that is there
            if chunked:
                with targets(model, "head", labels, 0.0):
                    assert type(embedding) is TiedEmbedding
                    loss = model["head"](embedding(ids) ** 2)
            else:
                logits = model["head"](embedding(ids) ** 2)
                loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            loss.backward()
        assert type(embedding) is nn.Embedding
        gradients.append(embedding.weight.grad)
    assert not gradients[1].is_sparse
    assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("chunk", [1, 256])
@pytest.mark.parametrize("tied", [False, True])
def test_the_weight_s_gradient_is_kept_without_a_copy(tied: bool, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """V x D numbers, 80 MB for whisper-tiny, that nobody else may hold when autograd takes them."""
    made, work_out = [], chunked_head._of_weight

    def noted(*arguments: Any) -> torch.Tensor:
        found = work_out(*arguments)
        made.append(found.data_ptr())
        return found

    monkeypatch.setattr(chunked_head, "CHUNK", chunk)
    monkeypatch.setattr(chunked_head, "_of_weight", noted)
    embedding, head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
    model = nn.ModuleDict({"embedding": embedding, "head": head})
    if tied:
        head.weight = embedding.weight
    with targets(model, "head", torch.tensor([[3, 1, 2]]), 0.0):
        head(embedding(torch.tensor([[1, 3, 1]]))).backward()
    assert head.weight.grad is not None and made == [head.weight.grad.data_ptr()]


def test_a_second_backward_gives_the_same_again() -> None:
    states, labels = states_and_labels()
    head = nn.Linear(8, 30)
    loss = chunked_cross_entropy(states, head, labels, 0.0)
    loss.backward(retain_graph=True)
    assert head.weight.grad is not None
    once = head.weight.grad.clone()
    loss.backward()
    assert_close(head.weight.grad, 2 * once)


def test_an_embedding_that_is_read_twice_gets_both_gradients() -> None:
    torch.manual_seed(0)
    weight, gradients = torch.randn(9, 4), []
    for chunked in (False, True):
        embedding, head = nn.Embedding(9, 4, _weight=weight.clone()), nn.Linear(4, 9, bias=False)
        head.weight, labels = embedding.weight, torch.tensor([[3, 1, 2]])
        with targets(nn.ModuleList([embedding, head]), "1", labels, 0.0):
            states = embedding(torch.tensor([[1, 3, 1]])) ** 2 + embedding(torch.tensor([[2, 3, 8]]))
            loss = head(states) if chunked else summed_cross_entropy(nn.Linear.forward(head, states), labels)
        loss.backward()
        gradients.append(embedding.weight.grad)
    assert_close(gradients[1], gradients[0])


def tied_pair(weight: torch.Tensor) -> nn.ModuleDict:
    embedding, head = nn.Embedding(9, 4, _weight=weight.clone()), nn.Linear(4, 9, bias=False)
    head.weight = embedding.weight
    return nn.ModuleDict({"embedding": embedding, "head": head})


@pytest.mark.parametrize("together", ["two scopes", "one scope", "a third use"])
def test_losses_that_go_backward_together_lose_no_gradient(together: str) -> None:
    """Rows that were added to a gradient that nobody reads any more would be lost without a word."""
    torch.manual_seed(0)
    weight, batches = torch.randn(9, 4), torch.tensor([[[1, 3, 1]], [[2, 3, 8]]])
    labels = torch.tensor([[3, 1, 2]])
    plain, chunked = tied_pair(weight), tied_pair(weight)
    losses = [summed_cross_entropy(plain["head"](plain["embedding"](ids) ** 2), labels) for ids in batches]
    if together == "one scope":
        with targets(chunked, "head", labels, 0.0):
            found = [chunked["head"](chunked["embedding"](ids) ** 2) for ids in batches]
    else:
        found = []
        for ids in batches:
            with targets(chunked, "head", labels, 0.0):
                found.append(chunked["head"](chunked["embedding"](ids) ** 2))
    if together == "a third use":
        losses.append(plain["head"].weight.pow(2).sum())
        found.append(chunked["head"].weight.pow(2).sum())
    sum(losses).backward()  # type: ignore[union-attr]
    sum(found).backward()
    assert_close(chunked["head"].weight.grad, plain["head"].weight.grad)


def test_a_backward_under_autocast_loses_no_gradient() -> None:
    torch.manual_seed(0)
    weight, ids, labels = torch.randn(9, 4), torch.tensor([[1, 3, 1]]), torch.tensor([[3, 1, 2]])
    plain, chunked = tied_pair(weight), tied_pair(weight)
    summed_cross_entropy(plain["head"](plain["embedding"](ids) ** 2), labels).backward()
    with targets(chunked, "head", labels, 0.0):
        loss = chunked["head"](chunked["embedding"](ids) ** 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss.backward()
    assert_close(chunked["head"].weight.grad, plain["head"].weight.grad, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("way", [torch.no_grad, torch.inference_mode])
def test_no_gradient_is_worked_out_where_none_is_wanted(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_head, "CHUNK", 4)
    states, labels = states_and_labels()
    head = nn.Linear(8, 30, bias=False)
    with way(), FlopCounterMode(display=False) as counter:
        loss = chunked_cross_entropy(states, head, labels, 0.0)
    assert_close(loss, summed_cross_entropy(head(states), labels))
    assert counter.get_total_flops() == 2 * 8 * 30 * int(labels.ne(-100).sum())
