"""ONNX graphs of a model, traced by torch.export: an encoder and two decoders, or one graph of a CTC model.

Names of files, inputs and outputs are those of Hugging Face optimum. Axes named ``batch``, ``frames``, ``states``,
``tokens`` and ``past`` may have any length. The first decoder reads the prompt and gives every layer's keys and values;
the second reads one token and those of the past. Both hold the decoder's weights: sharing them needs one graph with a
branch, which runtimes optimise less.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

ENCODER, FIRST, NEXT, WHOLE = "encoder_model", "decoder_model", "decoder_with_past_model", "model"
MASK, STATES, STATES_MASK, IDS, LOGITS = (
    "attention_mask",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "input_ids",
    "logits",
)
# A protobuf file holds at most 2 GiB: from here on weights lie in a file of their own beside the graph.
ONE_FILE = 1_800_000_000
# Traced lengths: neither 0 nor 1, which torch.export takes for constants, and no two alike.
BATCH, TOKENS, FRAMES, SAMPLES = 2, 3, 160, 16_000


@dataclass(frozen=True)
class Graph:
    """One graph to be written.

    Attributes:
        name: File's name without ``.onnx``.
        module: What is traced.
        inputs: Name to an example and its axes that may have any length, by number.
        outputs: Names of what it returns.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, tuple[torch.Tensor, Mapping[int, str]]]
    outputs: Sequence[str]

    def write(self, folder: Path) -> None:
        """Trace the module and save the graph as ``folder/NAME.onnx``."""
        examples = tuple(example for example, _ in self.inputs.values())
        axes = tuple(dict(names) for _, names in self.inputs.values())
        with _quietly(), torch.no_grad():
            program: Any = torch.onnx.export(
                self.module.eval(),
                examples,
                dynamo=True,
                input_names=list(self.inputs),
                output_names=list(self.outputs),
                dynamic_shapes=(axes,),
                verbose=False,
            )
        size = sum(tensor.numel() * tensor.element_size() for tensor in self.module.parameters())
        program.save(str(folder / f"{self.name}.onnx"), external_data=size > ONE_FILE)


class Encoder(nn.Module):
    """Inputs (and their mask) to states (and theirs)."""

    def __init__(self, model: Any, masked: bool) -> None:
        super().__init__()
        self.encoder = model.get_encoder()
        self.masked = masked

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the states (B, S, D), and with a mask that of the states (B, S)."""
        if not self.masked:
            return (self.encoder(inputs[0]).last_hidden_state,)
        features, mask = inputs
        states = self.encoder(features, attention_mask=mask).last_hidden_state
        return states, self.encoder._get_feature_vector_attention_mask(states.shape[1], mask)


class FirstStep(nn.Module):
    """The prompt and the encoder's states to logits, and to keys and values of every layer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder, self.head = model.get_decoder(), model.get_output_embeddings()

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return logits (B, L, V), then own keys and values, cross keys and values of layer 0, of layer 1 ..."""
        outputs = self.decoder(**dict(zip((IDS, STATES, STATES_MASK), inputs, strict=False)), use_cache=True)
        cache, flat = outputs.past_key_values, []
        layers = zip(cache.self_attention_cache.layers, cache.cross_attention_cache.layers, strict=True)
        for own, cross in layers:
            flat += [own.keys, own.values, cross.keys, cross.values]
        return (self.head(outputs.last_hidden_state), *flat)


class NextStep(nn.Module):
    """One token, and keys and values of the past, to logits and to own keys and values one longer."""

    def __init__(self, model: Any, masked: bool) -> None:
        super().__init__()
        self.decoder, self.head = model.get_decoder(), model.get_output_embeddings()
        self.masked = masked

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return logits (B, 1, V), then own keys and values of layer 0, of layer 1 ...

        Cross-attention finds its keys and values in the cache and looks at no states: these only give their number.
        """
        ids, *rest = inputs
        mask = rest.pop(0) if self.masked else None
        own = [(rest[index], rest[index + 1]) for index in range(0, len(rest), 4)]
        cross = [(rest[index + 2], rest[index + 3]) for index in range(0, len(rest), 4)]
        states = cross[0][0][:, 0, :, :1]
        told = {} if mask is None else {STATES_MASK: mask}
        outputs = self.decoder(
            input_ids=ids,
            encoder_hidden_states=states,
            past_key_values=EncoderDecoderCache(DynamicCache(own), DynamicCache(cross)),
            use_cache=True,
            **told,
        )
        flat = [tensor for layer in outputs.past_key_values.self_attention_cache.layers for tensor in _pair(layer)]
        return (self.head(outputs.last_hidden_state), *flat)


class Frames(nn.Module):
    """A CTC model: inputs (and their mask) to logits."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (B, S, V)."""
        logits: torch.Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


def seq2seq_graphs(model: Any, name: str, masked: bool) -> Iterator[Graph]:
    """Yield an encoder-decoder's three graphs.

    Args:
        model: A stock model on the CPU, in float32.
        name: The encoder's input.
        masked: Whether the encoder takes a mask.
    """
    inputs = example_inputs(model, name, masked)
    encoder = Encoder(model, masked)
    yield Graph(ENCODER, encoder, inputs, ("last_hidden_state", *([STATES_MASK] if masked else [])))
    with torch.no_grad():
        states, *masks = encoder.eval()(*(example for example, _ in inputs.values()))
    length = {} if name == "input_features" and not masked else {1: "states"}
    told: dict[str, Any] = {STATES: (states, {0: "batch", **length})}
    told |= {STATES_MASK: (masks[0], {0: "batch", 1: "states"})} if masked else {}
    ids = torch.full((BATCH, TOKENS), 1)
    first = FirstStep(model)
    with torch.no_grad():
        _, *past = first.eval()(ids, *(example for example, _ in told.values()))
    layers = len(past) // 4
    yield Graph(FIRST, first, {IDS: (ids, {0: "batch", 1: "tokens"}), **told}, (LOGITS, *names_of("present", layers)))
    cached = {
        kept: (tensor, {0: "batch", **({2: "past"} if ".decoder." in kept else {2: "states"} if length else {})})
        for kept, tensor in zip(names_of("past_key_values", layers), past, strict=True)
    }
    told.pop(STATES)
    outputs = [kept for kept in names_of("present", layers) if ".decoder." in kept]
    yield Graph(NEXT, NextStep(model, masked), {IDS: (ids[:, :1], {0: "batch"}), **told, **cached}, (LOGITS, *outputs))


def ctc_graph(model: Any, name: str, masked: bool) -> Graph:
    """Return a CTC model's one graph."""
    inputs = example_inputs(model, name, masked)
    return Graph(WHOLE, Frames(model, tuple(inputs)), inputs, (LOGITS,))


def example_inputs(model: Any, name: str, masked: bool) -> dict[str, tuple[torch.Tensor, Mapping[int, str]]]:
    """Return inputs to trace a model with, and their axes of any length."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    if config.model_type == "whisper":
        window = (BATCH, config.num_mel_bins, 2 * config.max_source_positions)
        return {name: (torch.randn(window, generator=generator), {0: "batch"})}
    axes: Mapping[int, str] = {0: "batch", 1: "frames"}
    size = (BATCH, SAMPLES) if name == "input_values" else (BATCH, FRAMES, feature_size(config))
    inputs: dict[str, tuple[torch.Tensor, Mapping[int, str]]] = {name: (torch.randn(size, generator=generator), axes)}
    mask = torch.ones(size[:2], dtype=torch.long)
    mask[1, size[1] // 2 :] = 0
    return {**inputs, MASK: (mask, axes)} if masked else inputs


def feature_size(config: Any) -> int:
    """Return the numbers a frame (F) that a model of frames takes."""
    values = config.to_dict()
    if config.model_type == "wav2vec2-bert":
        return int(values["feature_projection_input_dim"])
    if config.model_type == "parakeet_ctc":
        return int(values["encoder_config"]["num_mel_bins"])
    return int(values["input_feat_per_channel"])


def names_of(kind: str, layers: int) -> list[str]:
    """Return the names of keys and values, ``present`` or ``past_key_values``, in the order of the graphs."""
    parts = [f"{side}.{part}" for side in ("decoder", "encoder") for part in ("key", "value")]
    return [f"{kind}.{layer}.{part}" for layer in range(layers) for part in parts]


def _pair(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.keys, layer.values


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave out what the exporter says of torchvision, which is not used, and of names that are shared on purpose."""
    spoken = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = spoken.level
    spoken.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        spoken.setLevel(before)
