"""What all families that write with transformers' ``generate`` share: their options, and how a refusal is told."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedModel

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError

# These change what generate returns, and one text a clip is what scoring needs.
REFUSED_GENERATION = ("num_return_sequences", "return_dict_in_generate", "return_segments")

# What makes Whisper decode a text again at the next temperature.
FALLBACK_REASONS = ("compression_ratio_threshold", "logprob_threshold")


def generation_options(arguments: Arguments) -> dict[str, Any]:
    """Return ``evaluation.generation``."""
    return dict(arguments.evaluation.generation)


def check_generation(model: PreTrainedModel, generation: Mapping[str, Any]) -> None:
    """See that ``generate`` of this model knows every option, before the first batch.

    Raises:
        UserError: Some are unknown, with the nearest right names, or would not give one text a clip, or have a value
            that no model takes; or several temperatures would not be tried one after the other.
    """
    refused = [name for name in generation if name in REFUSED_GENERATION]
    if refused:
        raise UserError(
            f"evaluation.generation may not set {', '.join(refused)}: scoring needs one text a clip; leave it out"
        )
    architecture: Any = type(model)
    known = {*GenerationConfig().to_dict(), *_taken_by_generate(architecture)}
    _check_fallback(model, generation, known)
    unknown = [name for name in generation if name not in known]
    if unknown:
        near = [match for name in unknown for match in difflib.get_close_matches(name, known, n=1)]
        hint = f"; did you mean {', '.join(near)}?" if near else "; use names of transformers' GenerationConfig"
        raise UserError(f"evaluation.generation: {architecture.__name__} does not know {', '.join(unknown)}{hint}")
    # A list of temperatures is Whisper's own; the class that checks values knows one number.
    checked = {name: value for name, value in generation.items() if name != "temperature"}
    with generating(generation):
        GenerationConfig(**checked)


def _taken_by_generate(architecture: type[Any]) -> Iterator[str]:
    """Yield what ``generate`` takes by name; one that hands what it is given on takes what the class above does."""
    for kind in architecture.__mro__:
        if "generate" in vars(kind):
            parameters = inspect.signature(vars(kind)["generate"]).parameters
            yield from parameters
            if not any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values()):
                return


def _check_fallback(model: PreTrainedModel, generation: Mapping[str, Any], known: Collection[str]) -> None:
    """See that a list of temperatures is one to fall back along, that something says when, and what silence goes by."""
    given, place = generation.get("temperature"), "evaluation.generation.temperature"
    said = model.generation_config.to_dict() | dict(generation)
    if generation.get("no_speech_threshold") is not None and said.get("logprob_threshold") is None:
        raise UserError(
            "evaluation.generation.no_speech_threshold: expected logprob_threshold beside it, by which Whisper decides "
            "with it, found none; give evaluation.generation.logprob_threshold=-1.0, or leave it out"
        )
    if "logprob_threshold" in known and said.get("logprob_threshold") is not None and said.get("temperature") is None:
        raise UserError(
            "evaluation.generation.logprob_threshold: expected temperature beside it, by which Whisper scales its "
            "probabilities, found none; give evaluation.generation.temperature=0.0, or leave it out"
        )
    if not isinstance(given, Sequence):
        return
    if not set(FALLBACK_REASONS) <= set(known):
        raise UserError(
            f"{place}: expected one number for this {type(model).__name__}, found a list; only a Whisper falls back to "
            "other temperatures"
        )
    if not given or min(given) < 0:
        raise UserError(f"{place}: expected numbers of at least 0, found {list(given) or 'none'}; mend the list")
    if all(said.get(name) is None for name in FALLBACK_REASONS):
        raise UserError(
            f"{place}: expected {' or '.join(FALLBACK_REASONS)} beside a list, found neither, so that nothing would "
            "be decoded again; give evaluation.generation.compression_ratio_threshold=1.35 (loops), or one temperature"
        )


def check_kept(folder: str | Path, model: PreTrainedModel, names: Sequence[str]) -> None:
    """See that a saved model decodes as the one in memory.

    Args:
        folder: Where ``model`` was saved.
        model: The model that was saved.
        names: Fields of the generation config that decide it.

    Raises:
        ValueError: Something was lost on the way.
    """
    saved = GenerationConfig.from_pretrained(folder).to_dict()
    ours = model.generation_config.to_dict()
    lost = [name for name in names if saved.get(name) != ours.get(name)]
    if lost:
        found = "; ".join(f"{name} is {saved.get(name)}, was {ours.get(name)}" for name in lost)
        raise ValueError(f"generation_config.json in {folder} does not hold what was trained: {found}")


class _TwoLimits(logging.Filter):
    """Drops the warning that ``max_new_tokens`` overrules the checkpoint's ``max_length``, one for every batch."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "`max_new_tokens` will take precedence" not in record.getMessage()


@contextmanager
def generating(options: Mapping[str, Any]) -> Iterator[None]:
    """Report what ``generate`` refuses, and leave out what it says of limits that are meant.

    Raises:
        UserError: An option's value is refused.
    """
    spoken, quiet = logging.getLogger("transformers.generation.utils"), _TwoLimits()
    spoken.addFilter(quiet)
    try:
        yield
    except UserError:  # a ValueError that is told already
        raise
    except ValueError as error:
        given = ", ".join(f"{name}={value}" for name, value in options.items())
        raise UserError(f"evaluation.generation: expected what generate takes, found {given}: {error}") from error
    finally:
        spoken.removeFilter(quiet)
