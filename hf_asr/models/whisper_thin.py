"""Whisper whose ``forward`` runs on a thin plan: only the positions that a clip keeps are computed.

The same modules and parameters as the stock model, with four classes exchanged in place (:func:`thinned`), so adapters,
quantised layers, hooks and what is saved stay what they are. Without a plan all of them do what the stock ones do. With
one, ``forward`` takes beside ``input_features`` (B, F, M):

- ``positions`` int64 (B, S): positions of the window that each clip keeps, see :mod:`hf_asr.features.positions`;
- ``log_weights`` (B, S): added to every attention logit of that key, in the encoder's self-attention and in the
  decoder's cross-attention: 0 for speech, the logarithm of what it stands for in the tail, -inf for batch padding;
  not there where all would be 0.

M is the batch's longest clip and a few frames of its silence (:data:`~hf_asr.features.positions.MARGIN`). All of
it happens inside one module call, as DDP, FSDP, autocast and gradient checkpointing want it. ``generate`` takes the
same three inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqModelOutput
from transformers.models.whisper.modeling_whisper import WhisperAttention, WhisperEncoder
from transformers.utils.output_capturing import _CAN_RECORD_REGISTRY, capture_outputs

from hf_asr.errors import UserError
from hf_asr.features.positions import MARGIN, pack, stem_source, unpack

# Attention that takes an additive mask of one row a clip; flash attention takes none, flex attention a function.
ADDITIVE = ("sdpa", "eager")
# Options of ``generate`` that a plan does not go with: name, the values that are meant, and why.
REFUSED = (
    ("return_token_timestamps", (True,), "the times of words are read from all positions"),
    ("return_timestamps", (True,), "the next segment would begin at another position than the plan's"),
    ("cache_implementation", ("static", "offloaded_static"), "a static cache has the size of the whole window"),
)


@dataclass
class ThinStates(BaseModelOutput):
    """The encoder's output on a plan; ``generate`` repeats its tensors for beams and hands it to every step.

    Attributes:
        log_weights: (B, S), see :class:`ThinEncoder`.
    """

    log_weights: torch.Tensor | None = None


class ThinEncoder(WhisperEncoder):
    """Whisper's encoder, which computes only a plan's positions when it is given one."""

    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        log_weights: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode a batch.

        Args:
            input_features: (B, F, M) log-mel; with more than F bins the plan is read from the others.
            attention_mask: Not looked at, as in the stock encoder.
            positions: (B, S) int64, or None for the stock encoder.
            log_weights: (B, S); None where all are 0.
            kwargs: As the stock encoder's.

        Returns:
            States (B, S, D), as :class:`ThinStates` where there is a plan.
        """
        if input_features.shape[1] != self.num_mel_bins:
            plain, positions, log_weights = unpack(input_features, self.num_mel_bins)
            # By this name, as its states may be there already (hf_asr.inference.states).
            unpacked: BaseModelOutput = self.forward(plain, attention_mask, positions, log_weights, **kwargs)
            return unpacked
        if positions is None:
            stock: BaseModelOutput = super().forward(input_features, attention_mask, **kwargs)
            return stock
        return self._encode(input_features, positions, log_weights, **kwargs)

    @capture_outputs
    def _encode(
        self, input_features: torch.Tensor, positions: torch.Tensor, log_weights: torch.Tensor | None, **kwargs: Any
    ) -> ThinStates:
        check_attention(self.config)
        hidden = self._stem(input_features, positions) + self.embed_positions(positions)
        hidden = functional.dropout(hidden, p=self.dropout, training=self.training)
        mask = None if log_weights is None else key_mask(log_weights, hidden.dtype)
        for layer in self.layers:
            if self.training and self.layerdrop > 0.0 and torch.rand([]) < self.layerdrop:
                continue
            hidden = layer(hidden, mask, **kwargs)
        return ThinStates(last_hidden_state=self.layer_norm(hidden), log_weights=log_weights)

    def _stem(self, input_features: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the convolutions' (B, S, D) for (B, F, M) frames; behind them the silence's own values are taken."""
        convolved = functional.gelu(self.conv2(functional.gelu(self.conv1(input_features)))).permute(0, 2, 1)
        places = stem_source(positions, convolved.shape[1], self.config.max_source_positions)
        return convolved.gather(1, places.unsqueeze(-1).expand(-1, -1, convolved.shape[-1]))


class ThinCrossAttention(WhisperAttention):
    """Cross-attention with a mask over the encoder's states, which the stock decoder has no way to hand in."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None = None,
        past_key_values: Any = None,
        attention_mask: torch.Tensor | None = None,
        state_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Attend as the stock layer does, ``state_mask`` (B, 1, 1, S) added to the logits."""
        mask = attention_mask if state_mask is None else state_mask
        return super().forward(
            hidden_states,
            key_value_states=key_value_states,
            past_key_values=past_key_values,
            attention_mask=mask,
            **kwargs,
        )


class ThinModel(WhisperModel):
    """Encoder and decoder; takes the plan to both."""

    def forward(
        self,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *,
        encoder_outputs: Any = None,
        positions: torch.Tensor | None = None,
        log_weights: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """Run as the stock model does, on the plan where there is one.

        Args:
            input_features: (B, F, M).
            attention_mask: As the stock model's.
            encoder_outputs: States that are already there: :class:`ThinStates`, or any others, such as the bare
                (B, S, D) of a bank, with ``log_weights``.
            positions: (B, S) int64.
            log_weights: (B, S).
            kwargs: As the stock model's.
        """
        if encoder_outputs is None and input_features is not None:
            # SpecAugment of the config, in place; the silence that all clips take theirs from is spared.
            self._mask_input_features(input_features if positions is None else input_features[..., :-MARGIN])
            encoder_outputs = self.encoder(
                input_features, positions=positions, log_weights=log_weights, **(kwargs | {"return_dict": True})
            )
        if isinstance(encoder_outputs, torch.Tensor):
            encoder_outputs = ThinStates(last_hidden_state=encoder_outputs, log_weights=log_weights)
        if isinstance(encoder_outputs, ThinStates):
            log_weights = encoder_outputs.log_weights
        if log_weights is not None:
            check_attention(self.config)
            kwargs["state_mask"] = key_mask(log_weights, encoder_outputs[0].dtype)
        outputs: Seq2SeqModelOutput = super().forward(
            input_features, attention_mask, encoder_outputs=encoder_outputs, **kwargs
        )
        return outputs


class ThinWhisper(WhisperForConditionalGeneration):
    """Whisper that takes a plan, in ``forward`` and in ``generate``."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        _exchange_parts(self)

    def generate(  # type: ignore[override]
        self,
        input_features: torch.Tensor | None = None,
        *args: Any,
        positions: torch.Tensor | None = None,
        log_weights: torch.Tensor | None = None,
        encoder_outputs: torch.Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Write tokens as the stock ``generate`` does, on the plan where there is one, or from states of a bank.

        ``generate`` cuts, repeats and picks rows of the features for language detection, no-speech detection and
        temperature fallback, and knows no other input that belongs to a clip: the plan travels inside of them. States
        travel as the encoder's output, which it repeats for beams and takes to every step.

        Args:
            input_features: (B, F, M).
            args: As the stock method's.
            positions: (B, S) int64.
            log_weights: (B, S).
            encoder_outputs: (B, S, D) states, in the place of features.
            options: As the stock method's.

        Raises:
            UserError: An option needs all positions, see :data:`REFUSED`, or features, see
                :func:`check_state_options`.
        """
        if encoder_outputs is not None:
            return self._generate_from_states(encoder_outputs, log_weights, options)
        if positions is None or input_features is None:
            return super().generate(input_features, *args, **options)
        given = options.get("generation_config") or self.generation_config
        check_options(given.to_dict() | options)
        return super().generate(pack(input_features, positions, log_weights), *args, **options)

    def _generate_from_states(
        self, states: torch.Tensor, log_weights: torch.Tensor | None, options: Mapping[str, Any]
    ) -> Any:
        given = (options.get("generation_config") or self.generation_config).to_dict() | dict(options)
        check_state_options(given)
        if log_weights is not None:
            check_options(given)
        outputs = ThinStates(last_hidden_state=states, log_weights=log_weights)
        return super().generate(None, encoder_outputs=outputs, **options)

    def generate_with_fallback(self, segment_input: torch.Tensor | None, *args: Any, **options: Any) -> Any:
        """Decode as the stock method does; on a plan or states, timestamps that were written unasked are left out.

        Two of them in a row would have ``generate`` go on at their place in the audio, where neither fits.
        """
        sequences, *others = super().generate_with_fallback(segment_input, *args, **options)
        if segment_input is None or segment_input.shape[1] != self.config.num_mel_bins:
            first = options["generation_config"].no_timestamps_token_id + 1
            sequences = [sequence[sequence < first] for sequence in sequences]
        return (sequences, *others)


# Saving writes the class's name into config.json, and best_checkpoint is a stock Whisper; pipelines look at it too.
ThinWhisper.__name__ = WhisperForConditionalGeneration.__name__


def thinned(model: WhisperForConditionalGeneration) -> ThinWhisper:
    """Have a stock model take plans, in place: same modules, parameters and state_dict, other ``forward``.

    Raises:
        UserError: Its attention takes no additive mask.
    """
    check_attention(model.config)
    return takes_states(model)


def takes_states(model: WhisperForConditionalGeneration) -> ThinWhisper:
    """Have a stock model take states of a bank in the place of features, in place; with a full window any attention."""
    model.__class__ = ThinWhisper
    assert isinstance(model, ThinWhisper)
    _exchange_parts(model)
    return model


def check_attention(config: WhisperConfig) -> None:
    """See that the model's attention can weigh keys.

    Raises:
        UserError: It is flash or flex attention.
    """
    check_attention_name(config._attn_implementation)


def check_attention_name(name: str | None) -> None:
    """See that this way of computing attention can weigh keys.

    Raises:
        UserError: It cannot.
    """
    if name not in ADDITIVE:
        raise UserError(
            f"model.attn_implementation: expected {' or '.join(ADDITIVE)}, as a window of thinned or clip weighs keys "
            f"by an additive mask, found {name}. Set model.attn_implementation=sdpa, or the window to full."
        )


def check_options(options: Mapping[str, Any]) -> None:
    """See that ``generate`` is asked for nothing that needs all positions of the window.

    Raises:
        UserError: It is.
    """
    for name, values, reason in REFUSED:
        if options.get(name) in values:
            raise UserError(
                f"evaluation.generation.{name}: expected another value than {options[name]} with a window of thinned "
                f"or clip, since {reason}. Leave it out, or set evaluation.window=full."
            )


def check_state_options(options: Mapping[str, Any]) -> None:
    """See that ``generate`` is asked for nothing that runs the encoder on features again.

    Raises:
        UserError: It is.
    """
    name, reason = next(_needing_features(options), ("", ""))
    if name:
        raise UserError(
            f"evaluation.generation.{name}: expected another value than {options[name]} where clips are decoded from "
            f"the bank, since {reason}. Leave it out, or set evaluation.bank=false."
        )


def _needing_features(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(temperatures := options.get("temperature"), Sequence) and len(temperatures) > 1:
        yield "temperature", "falling back to another temperature cuts clips out of a batch of features"
    if options.get("no_speech_threshold") is not None:
        yield "no_speech_threshold", "silence is detected by a pass of its own over the features"
    for name in ("return_timestamps", "return_token_timestamps", "cache_implementation"):
        if options.get(name):
            yield name, "only texts are read from states"


def key_mask(log_weights: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the additive attention mask (B, 1, 1, S) of (B, S) log weights."""
    return log_weights[:, None, None, :].to(dtype)


def _exchange_parts(model: ThinWhisper) -> None:
    """Exchange the classes of a model's parts; __class__ keeps parameters, buffers and hooks (FSDP2 does likewise)."""
    model.model.__class__ = ThinModel
    model.model.encoder.__class__ = ThinEncoder
    # transformers looks up by class what output_hidden_states and output_attentions record.
    _CAN_RECORD_REGISTRY[model.model.encoder] = ThinEncoder._can_record_outputs
    for layer in model.model.decoder.layers:
        layer.encoder_attn.__class__ = ThinCrossAttention
