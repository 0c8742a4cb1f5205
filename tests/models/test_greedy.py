"""Rows that have ended leave the batch, and the tokens stay those of transformers' own loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.scripted_whisper import make_talker
from helpers.thin_clips import SECONDS, pair, planned, windows
from helpers.tiny_moonshine import make_tiny_moonshine
from helpers.tiny_speech2text import make_tiny_speech2text
from helpers.tiny_whisper import make_tiny_whisper
from transformers import (
    MoonshineForConditionalGeneration,
    Speech2TextForConditionalGeneration,
    WhisperForConditionalGeneration,
)

from hf_asr.models.greedy import STEPS_BETWEEN, greedy_search, leaving

CLIPS = 6


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def whisper(folder: Path) -> tuple[Any, dict[str, Any]]:
    model = WhisperForConditionalGeneration.from_pretrained(make_talker(folder))
    return model, {"input_features": noise(CLIPS, 80, 400)}


def speech2text(folder: Path) -> tuple[Any, dict[str, Any]]:
    model = Speech2TextForConditionalGeneration.from_pretrained(make_tiny_speech2text(folder))
    mask = (torch.arange(60) < torch.tensor([60, 50, 40, 30, 20, 10])[:, None]).long()
    return model, {"input_features": noise(CLIPS, 60, model.config.input_feat_per_channel), "attention_mask": mask}


def moonshine(folder: Path) -> tuple[Any, dict[str, Any]]:
    model = MoonshineForConditionalGeneration.from_pretrained(make_tiny_moonshine(folder))
    mask = (torch.arange(8000) < 1000 * torch.tensor([8, 7, 6, 5, 4, 3])[:, None]).long()
    return model, {"input_values": noise(CLIPS, 8000), "attention_mask": mask}


def ends_here_and_there(model: Any) -> None:
    """Have the model write a text of its own for each clip, and a third to a tenth of all tokens end it."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(5 if "embed" in name else 20)
    ends = 3 if model.config.vocab_size < 100 else 10
    model.generation_config.eos_token_id = list(range(0, model.config.vocab_size, ends))


@pytest.mark.parametrize("make", [whisper, speech2text, moonshine])
@pytest.mark.parametrize("between", [1, 3])
def test_tokens_are_those_of_the_stock_loop(
    make: Any, between: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STEPS_BETWEEN, "cpu", between)
    model, inputs = make(tmp_path / "model")
    ends_here_and_there(model.eval())
    options = {"max_new_tokens": 25, "no_repeat_ngram_size": 3, "use_cache": True}
    assert leaving(model, options) == {"custom_generate": greedy_search}
    sizes: list[int] = []
    decoder = model.get_decoder()
    expected = model.generate(**inputs, **options)
    hook = decoder.register_forward_hook(lambda module, given, output: sizes.append(len(output[0])))
    found = model.generate(**inputs, **options, **leaving(model, options))
    hook.remove()
    assert torch.equal(found, expected)
    assert sizes[0] == CLIPS and sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < CLIPS, "no row left the batch"


def test_a_plan_leaves_with_its_row(tmp_path: Path) -> None:
    _, model = pair(make_tiny_whisper(tmp_path, chunk_length=SECONDS))
    model.generation_config.eos_token_id = list(range(0, model.config.vocab_size, 7))
    batch, options = planned(windows(), keep=5, stride=4), {"max_new_tokens": 20, "use_cache": True}
    expected = model.generate(**batch, **options)
    assert torch.equal(model.generate(**batch, **options, **leaving(model, options)), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 2},
        {"do_sample": True},
        {"use_cache": False},
        {"temperature": (0.0, 0.2)},
        {"return_timestamps": True},
        {"cache_implementation": "static"},
        {"no_speech_threshold": 0.6},
        {"a_later_transformers_has": 1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_everything_but_plain_greedy_decoding_is_left_to_transformers(tmp_path: Path, options: dict[str, Any]) -> None:
    model, _ = whisper(tmp_path / "model")
    assert leaving(model, options) == {}


def test_a_checkpoint_that_decodes_with_beams_does_so(tmp_path: Path) -> None:
    model, _ = whisper(tmp_path / "model")
    model.generation_config.num_beams = 3
    assert leaving(model, {"max_new_tokens": 3}) == {}
    assert leaving(model, {"max_new_tokens": 3, "num_beams": 1}) != {}
