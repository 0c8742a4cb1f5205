"""The token-and-duration transducer (Xu et al. 2023, arXiv 2304.06795): its labels, its batches and its loss.

A transducer predicts, for every encoder state and every number of tokens already written, the next token or a blank,
and here also how many states that lasts. The loss sums over all ways to spread the label tokens over the states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.loss.loss_tdt import tdt_loss

from hf_asr.features.collate import IGNORED, InputPadder, LabelCollator, Rows, pad_labels
from hf_asr.features.extract import Tokenizer
from hf_asr.models.losses import Loss, count_tokens
from hf_asr.text import apply_pipeline


@dataclass(frozen=True, eq=False)
class TransducerLabels:
    """Labels of a transducer: the text's tokens alone, since where the audio ends the text does too.

    Attributes:
        tokenizer: The checkpoint's own.
        unknown: Id of what the tokenizer has no token for.
        encoder_config: The ParakeetEncoderConfig, which says how many states a clip has.
        tokens_a_state: Most tokens that are written at one encoder state.
        text_pipeline: Pipeline of :mod:`hf_asr.text` that the label text passes.
    """

    tokenizer: Tokenizer
    unknown: int | None
    encoder_config: PreTrainedConfig
    tokens_a_state: int
    text_pipeline: str = "none"
    dtype: str = "int32"
    writes_text: bool = True

    def __call__(self, row: Mapping[str, Any]) -> list[int]:
        """Return the ids of a row's transcript."""
        spoken = apply_pipeline(self.text_pipeline, row["text"]).strip()
        return list(self.tokenizer(spoken, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def read(self, labels: Sequence[Any]) -> str:
        """Return the labels decoded back; the same token twice in a row is written twice."""
        return str(self.tokenizer.decode(list(labels), skip_special_tokens=False, group_tokens=False))

    def problem(self, row: Mapping[str, Any], labels: Sequence[Any], frames: int) -> str:
        """Tell when the states cannot hold the tokens, or when most of the text has no tokens."""
        states = int(encoder_states(torch.tensor(frames), self.encoder_config))
        # The last state is left for the blank that ends every path.
        most = self.tokens_a_state * (states - 1)
        if len(labels) > most:
            return f"label_too_long: {len(labels)} tokens, {states} encoder states can hold {most}"
        unknown = sum(label == self.unknown for label in labels)
        if 2 * unknown > len(labels):
            return f"not_in_vocabulary: the tokenizer has no token for {unknown} of {len(labels)} pieces"
        return ""

    def fingerprint(self) -> dict[str, Any]:
        """Return pipeline and limit; the tokenizer's content is the encoder's identity."""
        return {"text_pipeline": self.text_pipeline, "tokens_a_state": self.tokens_a_state}


@dataclass(frozen=True)
class TransducerCollator:
    """Makes batches for a transducer.

    Attributes:
        padder: Pads the encoder's inputs.
        blank_token: Stands before every text, as NeMo's start of sequence.
        pad_token: Fills ``decoder_input_ids``; the loss never sees it.

    Two clips with the labels ``[7, 8, 9]`` and ``[7]``, blank 30 and pad token 1 give::

        labels            [[7, 8, 9], [7, -100, -100]]
        decoder_input_ids [[30, 7, 8, 9], [30, 7, 1, 1]]
    """

    padder: InputPadder
    blank_token: int
    pad_token: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows of :class:`hf_asr.features.extract.ClipEncoder`.

        Returns:
            What :class:`hf_asr.features.collate.LabelCollator` returns, and ``decoder_input_ids`` int64 (B, L + 1).
        """
        batch = LabelCollator(self.padder)(rows)
        clips = [_without_ignored(row["labels"], self.pad_token) for row in Rows.sorted_out(rows).kept]
        clips = clips or [[self.pad_token]]
        return {**batch, "decoder_input_ids": pad_labels([[self.blank_token, *clip] for clip in clips], self.pad_token)}


def _without_ignored(labels: Sequence[int], pad_token: int) -> list[int]:
    """Return a clip's labels, padding in place of those that nothing is learnt from."""
    return [pad_token if label == IGNORED else label for label in labels]


def encoder_states(frames: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """Return how many encoder states S clips of so many feature frames M have.

    Args:
        frames: Integers of any shape.
        config: A ParakeetEncoderConfig: each of log2(8) = 3 strided convolutions of width 3 halves, rounding up.
    """
    kernel, stride = config.subsampling_conv_kernel_size, config.subsampling_conv_stride
    padding = (kernel - 1) // 2
    for _ in range(int(config.subsampling_factor).bit_length() - 1):
        frames = (frames + 2 * padding - kernel) // stride + 1
    return frames


def summed_tdt(model: Any, inputs: Mapping[str, Any], outputs: Any, smoothing: float) -> torch.Tensor:
    """Return the loss summed over clips, from the joint network's logits (B, S, L + 1, V + durations).

    transformers' own default averages loss / length over the clips of a micro-batch, which weighs a token of a short
    clip more and depends on the batch; divided by the label tokens of the step, this sum is NeMo's ``mean_volume``.
    A clip without any label token counts 0: fillers look the same.
    """
    assert smoothing == 0, "refused when the encoder is made"
    config, labels = model.config, inputs["labels"]
    batch, tokens = labels.shape
    logits = outputs.logits.reshape(batch, -1, tokens + 1, outputs.logits.shape[-1])
    lengths = labels.ne(IGNORED).sum(-1)
    losses = tdt_loss(
        token_logits=logits[..., : config.vocab_size],
        duration_logits=logits[..., config.vocab_size :],
        targets=labels.masked_fill(labels.eq(IGNORED), config.pad_token_id),
        logit_lengths=encoder_states(inputs["attention_mask"].sum(-1), config.encoder_config),
        target_lengths=lengths,
        blank_token_id=config.blank_token_id,
        durations=list(config.durations),
        reduction="none",
    )
    return (losses * lengths.gt(0)).sum()


TDT = Loss(summed_tdt, count_tokens)
