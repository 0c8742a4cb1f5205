"""An adapter folder that is damaged ended an export in a traceback, or, lacking weights, exported the base unsaid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.outcomes import Attack
from helpers.tiny_whisper import make_tiny_whisper
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

WEIGHTS = "adapter_model.safetensors"


def forget_some(folder: Path) -> None:
    """Leave out what one layer's adapter has learnt."""
    weights = load_file(folder / WEIGHTS)
    save_file({name: value for name, value in weights.items() if "decoder" not in name}, folder / WEIGHTS)


DAMAGE: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), (f"found {{}}: no {WEIGHTS}",)),
    "cut off": (lambda folder: (folder / WEIGHTS).write_bytes(b"short"), ("header",)),
    "some weights": (forget_some, (f"{WEIGHTS} without", "of its weights", "decoder")),
    "no JSON": (lambda folder: (folder / "adapter_config.json").write_text("{"), ("--model: expected", "mapping")),
    "a list": (lambda folder: (folder / "adapter_config.json").write_text("[]"), ("--model: expected", "mapping")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_it_is_told(attack: Attack, tmp_path: Path, damage: str) -> None:
    base, folder = make_tiny_whisper(tmp_path / "base"), tmp_path / "adapter"
    model = WhisperForConditionalGeneration.from_pretrained(base)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(folder))
    words = ["--model", folder, "--base", base, "--format", "merged", "--output-dir"]
    attack.verb("export", *words, tmp_path / "whole").assert_done()
    change, said = DAMAGE[damage]
    change(folder)
    attack.verb("export", *words, tmp_path / "out").assert_refused(*(text.format(folder) for text in said))
    assert not (tmp_path / "out").exists()
