"""The rules of greedy decoding that every exported model follows, read from the model's own generation config."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig

from hf_asr.errors import UserError

# What decides nothing here, and what has to have one value.
IGNORED = ("use_cache", "early_stopping", "pad_token_id")
FIXED: Mapping[str, Any] = {
    "do_sample": False,
    "return_timestamps": False,
    "num_return_sequences": 1,
    "num_beam_groups": 1,
}
SHARED: tuple[str, ...] = (
    "max_new_tokens",
    "max_length",
    "no_repeat_ngram_size",
    "repetition_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "language",
    "task",
    "num_beams",
)


@dataclass(frozen=True)
class Rules:
    """How a decoder begins and ends.

    Attributes:
        prompt: Ids that every text begins with, the start token first.
        new_tokens: Most ids behind the prompt.
        end: Id that ends a text.
        pad: Id that fills a text which has ended.
        generation: All else.
    """

    prompt: tuple[int, ...]
    new_tokens: int
    end: int
    pad: int
    generation: GenerationConfig


def rules_of(config: PreTrainedConfig, generation: GenerationConfig, options: Mapping[str, Any]) -> Rules:
    """Read the rules.

    Args:
        config: The model's.
        generation: The model's generation config.
        options: What is asked for over it (``evaluation.generation``).
    """
    merged = copy.deepcopy(generation)
    merged.update(**options)
    values = merged.to_dict()
    is_whisper = config.model_type == "whisper"
    prompt = _whisper_prompt(values) if is_whisper else _prompt(values)
    new_tokens = _whisper_limit(config, values, len(prompt)) if is_whisper else _limit(config, values, len(prompt))
    end = values["eos_token_id"]
    pad = end if values.get("pad_token_id") is None else values["pad_token_id"]
    return Rules(prompt, new_tokens, end, pad, merged)


def check_options(options: Mapping[str, Any], supported: Collection[str], runtime: str) -> None:
    """See that a runtime can do what ``evaluation.generation`` asks for.

    Raises:
        UserError: It cannot.
    """
    known = {*supported, *IGNORED}
    refused = [name for name, value in options.items() if name not in known and value != FIXED.get(name)]
    if refused:
        found = ", ".join(f"{name}={options[name]}" for name in refused)
        raise UserError(
            f"evaluation.generation: expected what {runtime} can do ({', '.join(sorted(supported))}), found {found}. "
            f"Leave it out of what is verified."
        )


def _whisper_prompt(values: Mapping[str, Any]) -> tuple[int, ...]:
    """Return start, language, task and no timestamps, as ``generate`` begins a clip of one window."""
    start, without_times = values["decoder_start_token_id"], values["no_timestamps_token_id"]
    if not values.get("is_multilingual"):
        return start, without_times
    if not values.get("language"):
        raise UserError(
            "data.language: expected the language of the speech, since exported models do not guess it, found none. "
            "Set data.language, such as data.language=ru."
        )
    token = f"<|{str(values['language']).strip('<|>')}|>"
    return start, values["lang_to_id"][token], values["task_to_id"][values.get("task") or "transcribe"], without_times


def _prompt(values: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the start token, and the language's where the generation config forces one."""
    forced = values.get("forced_bos_token_id")
    return (values["decoder_start_token_id"], *(() if forced is None else (forced,)))


def _whisper_limit(config: PreTrainedConfig, values: Mapping[str, Any], prompt: int) -> int:
    """Return how many tokens Whisper's ``generate`` writes: ``max_length`` does not count the prompt there."""
    positions = config.max_target_positions
    wanted = values.get("max_new_tokens") or values.get("max_length") or positions
    return min(int(wanted), positions - prompt)


def _limit(config: PreTrainedConfig, values: Mapping[str, Any], prompt: int) -> int:
    """Return how many tokens follow the prompt; a language's token counts as written."""
    if values.get("max_new_tokens") is not None:
        return int(values["max_new_tokens"]) - (prompt - 1)
    return int(values.get("max_length") or config.max_length) - prompt
