"""Floating-point operations of a forward pass, by formula; FLOPs, never MACs: one multiply-add counts as two.

Counted are the matrix products and convolutions, attention's own products included: what torch's FlopCounterMode counts
under the math attention kernel. Norms, activations, softmax and additions are left out, below 1 % of each model here.
A decoder step is that of the first token: one token in, one key in self-attention, the keys and values of
cross-attention already cached (they are computed once a clip, :attr:`Flops.cross_kv`), the output head included.

Sources: Radford et al. 2022 (Whisper), Baevski et al. 2020 (wav2vec 2.0), Wang et al. 2020 (fairseq S2T), Jeffries et
al. 2024 (Moonshine); the layer shapes are those of transformers' classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

GIGA = 1e9


@dataclass(frozen=True, slots=True)
class Flops:
    """FLOPs of one clip.

    Attributes:
        encoder: From features to encoder states, convolutions included.
        cross_kv: Keys and values of the decoder's cross-attention, once a clip; 0 without a decoder.
        decoder_step: One token, output head included; None without a decoder.
        head: The CTC (or class) head over all states; 0 where the head is the decoder's.
        states: Encoder states (S).
    """

    encoder: float
    cross_kv: float
    decoder_step: float | None
    head: float
    states: int


def analytic(config: PreTrainedConfig, frames: int) -> Flops | None:
    """Return the FLOPs of one clip by formula; None where this architecture has no formula here.

    Args:
        config: The model's config.
        frames: Input frames (M): mel or fbank frames, or samples of a waveform.
    """
    formula = FORMULAS.get(config.model_type)
    return None if formula is None else formula(config, frames)


def linear(rows: int, inputs: int, outputs: int) -> float:
    """Return the FLOPs of ``rows`` vectors through a linear layer; a convolution is one of kernel x channels inputs."""
    return 2.0 * rows * inputs * outputs


def attention(queries: int, keys: int, width: int) -> float:
    """Return the FLOPs of attention's two own products: queries with keys, weights with values."""
    return 4.0 * queries * keys * width


def encoder_layer(states: int, width: int, feed_forward: int) -> float:
    """Return the FLOPs of one Transformer layer over all states (S)."""
    projections = 4 * linear(states, width, width)
    return projections + attention(states, states, width) + 2 * linear(states, width, feed_forward)


def decoder_step(layers: int, width: int, feed_forward: int, states: int, vocabulary: int, keys: int = 1) -> float:
    """Return the FLOPs of one token through a decoder and its head.

    Args:
        layers: Decoder layers.
        width: Width of the decoder.
        feed_forward: Inner width of the feed-forward layers.
        states: Encoder states attended to, their keys and values cached.
        vocabulary: Entries of the head (V).
        keys: Tokens attended to, this one included.
    """
    own = 4 * linear(1, width, width) + attention(1, keys, width)
    cross = 2 * linear(1, width, width) + attention(1, states, width)
    return layers * (own + cross + 2 * linear(1, width, feed_forward)) + linear(1, width, vocabulary)


def conv_lengths(frames: int, kernels: Sequence[int], strides: Sequence[int], padding: int = 0) -> list[int]:
    """Return the length after each of a stack of convolutions."""
    lengths = []
    for kernel, stride in zip(kernels, strides, strict=True):
        frames = (frames + 2 * padding - kernel) // stride + 1
        lengths.append(frames)
    return lengths


def whisper(config: Any, frames: int, positions: int | None = None) -> Flops:
    """Return Whisper's FLOPs.

    Args:
        config: The model's config.
        frames: Frames given to the encoder, 3000 for the whole window.
        positions: Positions of a thinned window that are computed (S); None: all.
    """
    width, convolved = config.d_model, (frames - 1) // 2 + 1
    stem = linear(frames, 3 * config.num_mel_bins, width) + linear(convolved, 3 * width, width)
    return _encoder_decoder(config, stem, convolved if positions is None else positions)


def speech2text(config: Any, frames: int) -> Flops:
    """Return Speech2Text's FLOPs: gated convolutions of stride 2 with half their outputs as gates, then Transformer."""
    kernels = list(config.conv_kernel_sizes)
    lengths = _halved(frames, kernels)
    inputs = [config.input_feat_per_channel * config.input_channels]
    outputs = [config.conv_channels] * (len(kernels) - 1) + [2 * config.d_model]
    inputs += [channels // 2 for channels in outputs[:-1]]
    layers = zip(lengths, kernels, inputs, outputs, strict=True)
    stem = sum(linear(length, kernel * channels, out) for length, kernel, channels, out in layers)
    return _encoder_decoder(config, stem, lengths[-1])


def moonshine(config: Any, frames: int) -> Flops:
    """Return Moonshine's FLOPs: three convolutions over samples, Transformer; gated feed-forward in the decoder."""
    width, feed_forward = config.hidden_size, config.intermediate_size
    first, second, states = conv_lengths(frames, (127, 7, 3), (64, 3, 2))
    stem = linear(first, 127, width) + linear(second, 7 * width, 2 * width) + linear(states, 3 * 2 * width, width)
    # Heads are padded to a multiple for faster kernels; the padding is computed in attention's own products.
    inner = _padded_width(config)
    own = 4 * linear(states, width, width) + attention(states, states, inner)
    encoder = stem + config.encoder_num_hidden_layers * (own + 2 * linear(states, width, feed_forward))
    layers = config.decoder_num_hidden_layers
    # fc1 makes values and gates, fc2 goes back: three matrices instead of two.
    gates = layers * linear(1, width, feed_forward)
    padding = layers * attention(1, 1 + states, inner - width)
    step = decoder_step(layers, width, feed_forward, states, config.vocab_size) + gates + padding
    return Flops(encoder, layers * 2 * linear(states, width, width), step, 0.0, states)


def wav2vec2(config: Any, frames: int) -> Flops:
    """Return wav2vec 2.0's and HuBERT's FLOPs: convolutions over samples, positional convolution, Transformer, head."""
    width = config.hidden_size
    lengths = conv_lengths(frames, config.conv_kernel, config.conv_stride)
    channels = [1, *config.conv_dim]
    stem = sum(
        linear(length, kernel * channels[place], channels[place + 1])
        for place, (length, kernel) in enumerate(zip(lengths, config.conv_kernel, strict=True))
    )
    states = lengths[-1]
    projection = linear(states, config.conv_dim[-1], width)
    kernel, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
    # An even kernel, padded by its half on both sides, gives one position more, which is cut off afterwards.
    positions = linear(states + (kernel % 2 == 0), kernel * width // groups, width)
    layers = config.num_hidden_layers * encoder_layer(states, width, config.intermediate_size)
    head = linear(states, width, config.vocab_size)
    return Flops(stem + projection + positions + layers, 0.0, None, head, states)


FORMULAS: Mapping[str, Callable[[Any, int], Flops]] = {
    "whisper": whisper,
    "speech_to_text": speech2text,
    "moonshine": moonshine,
    "wav2vec2": wav2vec2,
    "hubert": wav2vec2,
}


def _encoder_decoder(config: Any, stem: float, states: int) -> Flops:
    width, layers = config.d_model, config.decoder_layers
    encoder = stem + config.encoder_layers * encoder_layer(states, width, config.encoder_ffn_dim)
    step = decoder_step(layers, width, config.decoder_ffn_dim, states, config.vocab_size)
    return Flops(encoder, layers * 2 * linear(states, width, width), step, 0.0, states)


def _halved(frames: int, kernels: Sequence[int]) -> list[int]:
    """Return the lengths behind convolutions of stride 2, padded by half their kernels."""
    lengths = []
    for kernel in kernels:
        frames = (frames + 2 * (kernel // 2) - kernel) // 2 + 1
        lengths.append(frames)
    return lengths


def _padded_width(config: Any) -> int:
    heads = config.encoder_num_attention_heads
    size, multiple = config.hidden_size // heads, config.pad_head_dim_to_multiple_of
    return heads * (size if multiple is None else -(-size // multiple) * multiple)
