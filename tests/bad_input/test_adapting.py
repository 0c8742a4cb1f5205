"""Freezing, adapters, quantised bases and schedules that cannot be: one message before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.outcomes import Attack
from helpers.tiny_release import Release

FREEZE = "freeze.groups=[encoder]"
# Settings, and words of the one message; all from the configuration alone.
SETTINGS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "full fine-tuning in 4 bits": (["model.quantization=4bit"], ("model.quantization", "peft.method=lora")),
    "full fine-tuning in 8 bits": (["model.quantization=8bit", FREEZE], ("model.quantization", "peft.method=lora")),
    "misspelt schedule": (["training.scheduler=cosin"], ("training.scheduler", "'cosin'", "cosine")),
    "misspelt schedule with keys": (["training.scheduler={name: one_cycel}"], ("training.scheduler", "one_cycle")),
    "a key of another schedule": (["training.scheduler={name: wsd, div_factor: 3}"], ("div_factor",)),
    "plateau without validation": (
        ["training.scheduler=plateau", "training.eval_strategy=no"],
        ("plateau", "eval_strategy"),
    ),
    "misspelt method": (["peft.method=lorra"], ("peft.method", "'lorra'")),
    "average with adalora": (["peft.method=adalora", "training.ema=0.999"], ("training.ema", "adalora")),
    "average of 1.5": (["training.ema=1.5"], ("training.ema", "less than 1")),
    "layerdrop with adalora": (["peft.method=adalora", "model.layerdrop=0.1"], ("model.layerdrop", "adalora")),
    "freeze and adapters": (["peft.method=dora", FREEZE], ("already freezes",)),
    "unfreeze and adapters": (["peft.method=lora", "freeze.unfreeze={1: [encoder]}"], ("already freezes",)),
    "nothing frozen to unfreeze": (["freeze.unfreeze={1: [encoder]}"], ("freeze.unfreeze", "frozen at first")),
    "unfreeze from the start": ([FREEZE, "freeze.unfreeze={0: [encoder]}"], ("freeze.unfreeze", "found 0")),
    "unfreeze nothing": ([FREEZE, "freeze.unfreeze={1: []}"], ("freeze.unfreeze.1", "found none")),
    "unfreeze too late": (
        [FREEZE, "freeze.unfreeze={9: [encoder]}", "training.max_steps=-1"],
        ("freeze.unfreeze", "found 9"),
    ),
    "unfreeze a stream": (
        [FREEZE, "freeze.unfreeze={1: [encoder]}", "data.streaming=true", "training.max_steps=4"],
        ("freeze.unfreeze", "data.streaming"),
    ),
    "reentrant checkpoints": (
        ["peft.method=lora", "training.gradient_checkpointing_kwargs={use_reentrant: true}"],
        ("use_reentrant", "false"),
    ),
    "optimiser that is not installed": (["training.optim=schedule_free_adamw"], ("training", "schedulefree")),
}
# These need the model's names.
NAMES: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "a target that matches nothing": (
        ["peft.method=lora", "peft.target_modules=[q_prj]"],
        ("peft.target_modules", "'q_prj'", "q_proj, v_proj"),
    ),
    "one of two targets": (["peft.method=dora", "peft.target_modules=[fc1, fc9]"], ("'fc9'",)),
    "a target of adalora": (["peft.method=adalora", "peft.target_modules=[query]"], ("'query'",)),
    "a target of a quantised base": (
        ["peft.method=lora", "model.quantization=4bit", "peft.target_modules=[query]"],
        ("'query'",),
    ),
    "unfreeze what is trained": ([FREEZE, "freeze.unfreeze={1: [decoder]}"], ("freeze.unfreeze.1", "'decoder'")),
    "unfreeze a misspelt group": ([FREEZE, "freeze.unfreeze={1: [enocder]}"], ("'enocder'",)),
    "a rate for what stays frozen": (
        [FREEZE, "freeze.unfreeze={1: [feature_encoder]}", "freeze.learning_rates={encoder_layers: 0.1}"],
        ("freeze.learning_rates", "'encoder_layers'"),
    ),
}


@pytest.mark.parametrize("what", SETTINGS | NAMES)
def test_refused(attack: Attack, release: Release, what: str) -> None:
    overrides, words = (SETTINGS | NAMES)[what]
    outcome = attack.enter("cached", release.yaml, release.model, *overrides)
    outcome.assert_refused(*words)
    assert not (release.yaml.parent / "runs").exists()


def test_targets_may_be_feed_forward_layers(attack: Attack, release: Release, tmp_path: Path) -> None:
    """LoRA with a task type would crash here: peft's wrapper would hand Whisper input_ids."""
    outcome = attack.enter(
        "cached", release.yaml, release.model, "peft.method=lora", "peft.target_modules=[q_proj, fc1, fc2]", "peft.r=2"
    )
    outcome.assert_done()
    run = release.yaml.parent / "runs" / "cached"
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    assert not (run / "best_checkpoint" / "adapter_config.json").exists()
