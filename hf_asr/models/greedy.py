"""Greedy decoding in which rows that have ended leave the batch.

transformers' own loop computes every row until the last one ends: one clip that loops to the decoder's last position
keeps seven that ended after 20 tokens for 448 steps. Here the rows that are left are gathered, their caches with them.
Everything else is transformers' own: the prompt, the encoder, the processors of the logits, what ends a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_managed_module
from transformers.utils import ModelOutput

# Options of ``generate`` that look at a row by itself, so that it does not matter which rows stand beside it.
BY_ROW = frozenset(
    {
        "bad_words_ids",
        "begin_suppress_tokens",
        "do_sample",
        "eos_token_id",
        "language",
        "max_length",
        "max_new_tokens",
        "min_length",
        "min_new_tokens",
        "no_repeat_ngram_size",
        "num_beams",
        "repetition_penalty",
        "suppress_tokens",
        "task",
        "use_cache",
    }
)
# What a checkpoint's generation config or an option may say for decoding to be greedy, and nothing more.
PLAIN: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "num_return_sequences": (None, 1),
    "do_sample": (None, False),
    "use_cache": (None, True),
    "cache_implementation": (None, "dynamic"),
    "return_dict_in_generate": (None, False),
    "return_timestamps": (None, False),
    "output_scores": (None, False),
    "guidance_scale": (None, 1.0),
    "penalty_alpha": (None,),
    "dola_layers": (None,),
    "prompt_lookup_num_tokens": (None,),
    "compression_ratio_threshold": (None,),
    "logprob_threshold": (None,),
    "no_speech_threshold": (None,),
    "prefill_chunk_size": (None,),
}
# Asking whether a row has ended makes the host wait for a GPU, which then idles; each of its steps takes as long for
# few rows as for many, so that it is asked seldom.
STEPS_BETWEEN = {"cpu": 1}
STEPS_BETWEEN_ELSEWHERE = 8


def leaving(model: PreTrainedModel, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``generate`` is to be given beside ``options`` for rows that have ended to leave the batch.

    Nothing for beams, sampling, a model without an encoder or one whose weights lie in parts on several processes
    (there all have to take the same steps).

    Args:
        model: The model that decodes.
        options: What ``generate`` is given.
    """
    said = model.generation_config.to_dict() | dict(options)
    greedy = set(options) <= BY_ROW and all(said.get(name) in values for name, values in PLAIN.items())
    whole = not (is_deepspeed_zero3_enabled() or is_fsdp_managed_module(model))
    return {"custom_generate": greedy_search} if greedy and whole and model.config.is_encoder_decoder else {}


def greedy_search(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **inputs: Any,
) -> torch.Tensor:
    """Write tokens as transformers' own greedy loop does.

    Args:
        model: An encoder-decoder.
        input_ids: (B, L) prompt.
        logits_processor: (B, L) ids and (B, V) logits to logits.
        stopping_criteria: Ids to which rows have ended.
        generation_config: Prepared by ``generate``.
        inputs: What each step takes: cache, encoder's states, masks.

    Returns:
        (B, L) prompt and tokens, filled with the padding token behind the end.
    """
    pad = generation_config._pad_token_tensor
    between = STEPS_BETWEEN.get(input_ids.device.type, STEPS_BETWEEN_ELSEWHERE)
    places = torch.arange(len(input_ids), device=input_ids.device)
    ended = torch.zeros_like(places, dtype=torch.bool)
    written: dict[int, torch.Tensor] = {}
    step, length = model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **inputs), 0
    while len(places):
        outputs = model(**step, return_dict=True)
        inputs = model._update_model_kwargs_for_generation(outputs, inputs, is_encoder_decoder=True)
        scores = logits_processor(input_ids, outputs.logits[:, -1].float())
        tokens = scores.argmax(-1)
        tokens = tokens if pad is None else torch.where(ended, pad.to(tokens.device), tokens)
        input_ids, length = torch.cat([input_ids, tokens[:, None]], dim=-1), length + 1
        ended = ended | stopping_criteria(input_ids, None)
        if (length % between == 0 or input_ids.shape[1] >= stopping_criteria.max_length) and bool(ended.any()):
            written |= dict(zip(places[ended].tolist(), input_ids[ended], strict=True))
            kept = (~ended).nonzero().squeeze(-1)
            inputs = {name: rows_of(value, kept, len(ended)) for name, value in inputs.items()}
            input_ids, places, ended = input_ids[kept], places[kept], ended[kept]
        if len(places):
            step = model.prepare_inputs_for_generation(input_ids, next_sequence_length=1, **inputs)
    rows = [written[place] for place in range(len(written))]
    return pad_sequence(rows, batch_first=True, padding_value=0 if pad is None else int(pad))


def rows_of(value: Any, kept: torch.Tensor, batch: int) -> Any:
    """Return the rows of anything that a decoding step takes; a cache is cut in place.

    Args:
        value: A cache, an encoder's output, a tensor; what belongs to no row is returned as it is.
        kept: (R,) rows.
        batch: B, the rows that there are.
    """
    if isinstance(value, Cache):
        value.batch_select_indices(kept)
        return value
    if isinstance(value, ModelOutput):
        return type(value)(**{name: rows_of(item, kept, batch) for name, item in value.items()})
    if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == batch:
        return value[kept]
    return value
