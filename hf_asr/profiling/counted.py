"""FLOPs and live memory of a forward pass, counted by running it on tensors that have shapes and no numbers.

Nothing is computed and nothing allocated, so a large model and a long clip cost a second. FLOPs are counted by torch's
own FlopCounterMode under the math attention kernel: it does not see the CPU's fused attention. Memory is what tensors
that are alive at once take, under the attention that the model will use.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, PreTrainedConfig

from hf_asr.profiling.flops import Flops


@dataclass(frozen=True, slots=True)
class LiveMemory:
    """Bytes of one batch, weights left out.

    Attributes:
        activations: Most bytes alive at once in the encoder (and a CTC head), its input included.
        kv_cache: Keys and values of a batch after ``tokens`` tokens, cross-attention's included.
        decoder: Most bytes alive at once in a decoder step, encoder states and cache left out.
    """

    activations: int
    kv_cache: int
    decoder: int


class LiveBytes(TorchDispatchMode):
    """Follows the storages that operations make, and the most bytes that were alive at once.

    Args:
        model: Its parameters and buffers are left out.

    Attributes:
        live: Bytes alive now.
        peak: The most there were.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        # A transposed weight is no new memory.
        weights = [*model.parameters(), *model.buffers()]
        self._known = {tensor.untyped_storage()._cdata for tensor in weights}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and look at what it returned."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return result

    def see(self, tensor: torch.Tensor) -> None:
        """Take a tensor's storage into account, once, for as long as it lives."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def shapes_only(build: Callable[[PreTrainedConfig], Any], config: PreTrainedConfig) -> Any:
    """Build an architecture on the meta device: modules and shapes, no weights."""
    with torch.device("meta"):
        return build(config).eval()


def count(model: Any, inputs: dict[str, torch.Tensor]) -> Flops:
    """Count the FLOPs of one clip.

    Args:
        model: From :func:`shapes_only`.
        inputs: What the encoder takes of one clip, on the meta device.
    """
    if not is_encoder_decoder(model):
        with _counting() as counter:
            logits = first_tensor(model(**inputs))
        head = _head_flops(counter)
        return Flops(counter.get_total_flops() - head, 0.0, None, head, int(logits.shape[1]))
    with _counting() as counter:
        states = model.get_encoder()(**inputs)
    encoder = counter.get_total_flops()
    token = torch.zeros(1, 1, dtype=torch.long, device="meta")
    with _counting() as counter:
        first = model(encoder_outputs=states, decoder_input_ids=token, use_cache=True)
    both = counter.get_total_flops()
    # The first token's own step again, with the keys and values of cross-attention kept and its own forgotten.
    first.past_key_values.self_attention_cache = DynamicCache()
    with _counting() as counter:
        model(encoder_outputs=states, decoder_input_ids=token, past_key_values=first.past_key_values, use_cache=True)
    step = counter.get_total_flops()
    return Flops(encoder, both - step, step, 0.0, int(states[0].shape[1]))


def live_memory(
    build: Callable[[PreTrainedConfig], Any],
    config: PreTrainedConfig,
    inputs: dict[str, tuple[tuple[int, ...], torch.dtype]],
    *,
    tokens: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LiveMemory:
    """Follow one batch through a model without numbers.

    Args:
        build: config -> architecture.
        config: The model's config.
        inputs: Name to shape and type of what the encoder takes, the whole batch.
        tokens: Tokens written.
        device: Where the model will run: it decides which attention kernel is taken.
        dtype: Type of weights and floating inputs.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device(device), torch.no_grad(), _default_dtype(dtype):
        model = build(config).eval()
        batch = {
            name: torch.zeros(shape, dtype=dtype if kind.is_floating_point else kind)
            for name, (shape, kind) in inputs.items()
        }
        with LiveBytes(model) as live:
            for tensor in batch.values():
                live.see(tensor)
            if not is_encoder_decoder(model):
                model(**batch)
                return LiveMemory(live.peak, 0, 0)
            states = model.get_encoder()(**batch)
        return _decoder_memory(model, states, live.peak, tokens, next(iter(batch.values())).shape[0])


def _decoder_memory(model: Any, states: Any, activations: int, tokens: int, batch: int) -> LiveMemory:
    token = torch.zeros(batch, 1, dtype=torch.long)
    with LiveBytes(model) as live:
        outputs = model(encoder_outputs=states, decoder_input_ids=token, use_cache=True)
        decoder = live.peak
    cross, own = cache_bytes(outputs.past_key_values)
    return LiveMemory(activations, cross + own * (tokens + 1), max(decoder - cross - own, 0))


def cache_bytes(cache: Any) -> tuple[int, int]:
    """Return the bytes of a cache's cross-attention and self-attention keys and values."""
    parts = (cache.cross_attention_cache, cache.self_attention_cache)
    cross, own = (sum(layer.keys.nbytes + layer.values.nbytes for layer in part.layers) for part in parts)
    return cross, own


def is_encoder_decoder(model: Any) -> bool:
    """Tell whether a model writes tokens with a decoder that attends to an encoder."""
    return bool(model.config.is_encoder_decoder)


def first_tensor(outputs: Any) -> torch.Tensor:
    """Return what a model gives first when it is asked for no loss: its logits."""
    logits: torch.Tensor = outputs["logits"] if "logits" in outputs else outputs[0]
    return logits


def _head_flops(counter: FlopCounterMode) -> float:
    """Return the FLOPs of the module that stands beside the encoder: the head."""
    per_module = counter.get_flop_counts()
    found = [values for name, values in per_module.items() if name.split(".")[-1] in HEADS and name.count(".") == 1]
    return float(sum(sum(values.values()) for values in found))


HEADS = ("lm_head", "ctc_head", "classifier")
