"""Cross-entropy inside a model's head, a few tokens at a time: B x L x V logits in float32 are never held at once.

whisper-tiny writes 51,865 entries a token: 8 clips of 24 tokens are 40 MB of logits, once more as their softmax and
once more as their gradient, and the padding among them is computed as well. Here each chunk's gradients are worked out
together with its loss (as in Liger Kernel's fused linear cross-entropy, Hsu et al. 2024), ignored tokens are left out,
and backward only scales what is there and makes the last chunk's gradient of the weight. The head stays the module it
is: its parameters, its tie to the embedding and what is saved do not change, and all happens inside the model's
``forward``, as DDP, FSDP and autocast want it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hf_asr.features.collate import IGNORED

# Tokens at once: 256 x 51,865 float32 are 53 MB; more is not faster on a CPU, fewer launch more kernels on a GPU.
CHUNK = 256
# Where ignored tokens are left out. Elsewhere the host would have to wait for their number: they count 0.
SELECTING = ("cpu",)


class SharedWeight:
    """The weight that head and embedding share in one forward, and where backward leaves the head's gradient of it.

    Attributes:
        alias: (V, D), the weight behind a step of autograd of its own, at which only this forward's gradients meet: the
            head's, which comes first, waits there for the embedding's.
        found: The head's gradient meanwhile.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self.alias: torch.Tensor = _Alias.apply(weight)
        self.found: torch.Tensor | None = None

    def take(self) -> torch.Tensor | None:
        """Return the head's gradient, once."""
        found, self.found = self.found, None
        return found


class _Alias(torch.autograd.Function):
    """A tensor under another name."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


class Tie:
    """Between a head and the embedding that has its weight, while :func:`targets` are set: what the next head takes."""

    shared: SharedWeight | None = None

    def of(self, weight: torch.Tensor) -> SharedWeight:
        """Return what all lookups of a forward share."""
        self.shared = self.shared or SharedWeight(weight)
        return self.shared

    def take(self) -> SharedWeight | None:
        """Return it, once a forward; None where nothing was looked up."""
        shared, self.shared = self.shared, None
        return shared


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The summed loss of (N, D) states under a linear head; gradients are computed on the way.

    The last chunk's gradient of the weight is left to backward: where it is the only one, V x D numbers are not held
    between the two, and not scaled. Nobody else holds what backward makes, so that autograd keeps it, and adds to it,
    without a copy.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Any, weight: Any, bias: Any, labels: Any, smoothing: float, shared: Any
    ) -> torch.Tensor:
        dtype = torch.get_autocast_dtype(states.device.type) if _autocast(states) else weight.dtype
        inputs, kernel = states.to(dtype), weight.to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        wanted = ctx.needs_input_grad
        of_states = torch.zeros_like(states) if wanted[0] else None
        of_weight: torch.Tensor | None = None
        of_bias = torch.zeros_like(bias) if bias is not None and wanted[2] else None
        last: tuple[Any, Any] = (None, None)
        for first in range(0, len(labels), CHUNK):
            part, targets = inputs[first : first + CHUNK], labels[first : first + CHUNK]
            logits = functional.linear(part, kernel, None if bias is None else bias.to(dtype)).float()
            loss, slope = _loss_and_slope(logits, targets, smoothing)
            del logits
            total += loss
            slope = slope.to(dtype)
            if of_states is not None:
                of_states[first : first + CHUNK] = slope @ kernel
            if of_bias is not None:
                of_bias += slope.sum(0)
            if wanted[1] and first + CHUNK < len(labels):
                found = (slope.t() @ part).to(weight.dtype)
                # The first chunk's is kept as it is: V x D zeros to add to would be written and read once more.
                of_weight = found if of_weight is None else of_weight.add_(found)
            elif wanted[1]:
                last = (slope, part)
        ctx.weight, ctx.shared = (weight.shape, weight.dtype), shared
        ctx.save_for_backward(of_states, of_bias, of_weight, *last)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        of_states, of_bias, of_chunks, slope, part = ctx.saved_tensors
        of_weight: torch.Tensor | None = None
        if ctx.needs_input_grad[1]:
            shape, dtype = ctx.weight
            if slope is None:  # all labels are ignored
                of_weight = torch.zeros(shape, dtype=dtype, device=grad.device)
            else:
                of_weight = _of_weight(slope, part, grad, dtype)
            if of_chunks is not None:
                of_weight.addcmul_(of_chunks, grad.to(dtype))
        if ctx.shared is not None:
            ctx.shared.found = of_weight
        return _scaled(of_states, grad), of_weight, _scaled(of_bias, grad), None, None, None


def _of_weight(slope: torch.Tensor, part: torch.Tensor, grad: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a chunk's gradient of the weight, times the gradient of the loss."""
    if part.dtype is torch.float32:
        return (slope.t() @ (part * grad)).to(dtype)  # where backward is under autocast as well
    return (slope.t() @ part).to(dtype).mul_(grad)  # states times a loss scale are more than float16 holds


def _scaled(found: torch.Tensor | None, grad: torch.Tensor) -> torch.Tensor | None:
    return None if found is None else found * grad.to(found.dtype)


def _autocast(states: torch.Tensor) -> bool:
    return torch.is_autocast_enabled(states.device.type)


def _loss_and_slope(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed loss of (N, V) logits and its derivative by them."""
    log_shares = torch.log_softmax(logits, dim=-1)
    learnt, places = labels.ne(IGNORED).unsqueeze(-1), labels.clamp(min=0).unsqueeze(-1)
    loss = (smoothing - 1) * log_shares.gather(-1, places)
    if smoothing:
        loss = loss - smoothing * log_shares.mean(-1, keepdim=True)
    slope = log_shares.exp_()
    if smoothing:
        slope.sub_(smoothing / slope.shape[-1])
    slope.scatter_add_(-1, places, torch.full_like(places, -(1 - smoothing), dtype=slope.dtype))
    if labels.device.type not in SELECTING:
        slope.mul_(learnt)
    return (loss * learnt).sum(), slope


def chunked_cross_entropy(
    states: torch.Tensor, head: nn.Linear, labels: torch.Tensor, smoothing: float, shared: SharedWeight | None = None
) -> torch.Tensor:
    """Return the cross-entropy of ``head(states)`` summed over label tokens, in float32.

    Args:
        states: (B, L, D) last hidden states.
        head: Linear layer to (B, L, V) logits.
        labels: (B, L), ``-100`` where nothing is to be learnt.
        smoothing: Share of the target spread evenly over the vocabulary (Szegedy et al. 2016).
        shared: The weight as the embedding has it; None where it is the head's alone.

    Returns:
        A scalar; 0, with zero gradients, when all labels are ignored.
    """
    kept, flat = states.reshape(-1, states.shape[-1]), labels.reshape(-1)
    if labels.device.type in SELECTING:
        chosen = flat.ne(IGNORED).nonzero().squeeze(-1)
        kept, flat = kept.index_select(0, chosen), flat[chosen]
    weight: torch.Tensor = head.weight if shared is None else shared.alias
    bias: torch.Tensor | None = head.bias
    if not torch.is_grad_enabled():  # an autograd function is told that gradients are wanted all the same
        weight, bias = weight.detach(), None if bias is None else bias.detach()
    total: torch.Tensor = _ChunkedCrossEntropy.apply(kept, weight, bias, flat, smoothing, shared)
    return total


class ChunkedHead(nn.Linear):
    """A linear head that answers with the summed loss, a scalar, while :func:`targets` are set."""

    wanted: tuple[torch.Tensor, float, Tie] | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (B, L, V) logits of (B, L, D) states, or the summed loss."""
        if self.wanted is None:
            return super().forward(input)
        labels, smoothing, tie = self.wanted
        return chunked_cross_entropy(input, self, labels, smoothing, tie.take())


class _Lookup(torch.autograd.Function):
    """Rows of a (V, D) embedding; its gradient is added to the head's, or names only the rows that were looked up."""

    @staticmethod
    def forward(ctx: Any, ids: torch.Tensor, weight: torch.Tensor, padding: int | None, shared: Any) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.padding, ctx.shared = weight.shape, padding, shared
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (ids,), (grad,) = ctx.saved_tensors, grads
        if ctx.padding is not None:
            grad = grad.masked_fill(ids.eq(ctx.padding).unsqueeze(-1), 0)
        rows, places = grad.reshape(-1, ctx.shape[-1]), ids.reshape(-1)
        # Autograd waits with it for this gradient. It would add a sparse one to a copy of it.
        found = ctx.shared.take()
        if found is not None:
            found.index_add_(0, places, rows.to(found.dtype))
            return None, None, None, None
        sparse = torch.sparse_coo_tensor(places.unsqueeze(0), rows, ctx.shape, check_invariants=False)
        return None, sparse, None, None


class TiedEmbedding(nn.Embedding):
    """An embedding that shares its weight with a :class:`ChunkedHead`.

    The few rows of its gradient are added to the head's, in place. The dense gradient would be V x D zeros to write
    and to add, 80 MB for whisper-tiny, and a sparse one is added to a copy of as many.
    """

    tie: Tie

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (B, L, D) rows of (B, L) ids."""
        shared = self.tie.of(self.weight)
        rows: torch.Tensor = _Lookup.apply(input, shared.alias, self.padding_idx, shared)
        return rows


def can_be_chunked(model: nn.Module, head: str) -> bool:
    """Tell whether the model's head is a plain linear layer: no adapter, no quantised one."""
    return type(model.get_submodule(head)) in (nn.Linear, ChunkedHead)


@contextmanager
def targets(model: nn.Module, head: str, labels: torch.Tensor, smoothing: float) -> Iterator[None]:
    """Have a model's ``forward`` give its summed loss in the place of logits.

    Args:
        model: The bare model.
        head: Name of its head.
        labels: (B, L).
        smoothing: ``training.label_smoothing_factor``.
    """
    module = model.get_submodule(head)
    tied: list[Any] = [each for each in model.modules() if _is_tied(each, module)]
    if len(tied) > 1 or labels.device.type not in SELECTING:
        tied = []
    tie = Tie()
    module.__class__ = ChunkedHead
    assert isinstance(module, ChunkedHead)
    module.wanted = (labels, smoothing, tie)
    for each in tied:
        each.__class__, each.tie = TiedEmbedding, tie
    try:
        yield
    finally:
        module.wanted = None
        module.__class__ = nn.Linear  # type: ignore[assignment]
        for each in tied:
            each.__class__ = nn.Embedding
            del each.tie


def _is_tied(module: nn.Module, head: nn.Module) -> bool:
    if type(module) is not nn.Embedding or module.max_norm is not None or module.scale_grad_by_freq:
        return False
    return module.weight is head.weight and module.weight.requires_grad
