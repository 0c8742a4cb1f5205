"""Mistakes that were found only after the baseline, or after the training, or ended in a traceback, or not at all."""

from __future__ import annotations

import pytest
from helpers.outcomes import Attack
from helpers.tiny_release import Release

MISTAKES: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "a tracker that is not installed": (["training.report_to=[swanlab]"], ("training.report_to: expected", "swanlab")),
    "a tracker that does not exist": (["training.report_to=[bogus]"], ("training.report_to: expected", "bogus")),
    "an engine that is not installed": (["training.deepspeed=nowhere.json"], ("training: expected", "deepspeed")),
    "attention without a backward pass": (
        ["model.attn_implementation=flex_attention"],
        ("model.attn_implementation: expected", "Set sdpa"),
    ),
    "saving that does not follow validation": (
        ["training.save_strategy=no"],
        ("training: expected", "Change or remove these keys"),
    ),
    "bfloat16 weights": (["model.dtype=bfloat16"], ("model.dtype: expected", "training.bf16=true")),
    "float16 weights": (["model.dtype=float16"], ("model.dtype: expected", "training.fp16=true")),
    "two half precisions": (
        ["model.dtype=float16", "peft.method=lora", "training.bf16=true"],
        ("training.bf16: expected", "training.fp16=true"),
    ),
    "an endless rate": (["training.learning_rate=.inf"], ("training.learning_rate: expected", "inf")),
    "no step at all": (["training.max_steps=0"], ("training.max_steps: expected 1 or more", "found 0")),
    "a stream without an end": (
        [
            "data.streaming=true",
            "training.max_steps=-1",
            "data.splits.train={corpus: webdataset, path: 'http://127.0.0.1:9/x.tar'}",
        ],
        ("data.streaming", "expected training.max_steps"),
    ),
    "shared weights on a CPU": (["training.fsdp=full_shard"], ("training.fsdp: expected GPUs", "train with DDP")),
    "a group that does not exist": (["freeze.groups=[enocder]"], ("freeze: expected", "enocder")),
    "a rate for such a group": (["freeze.learning_rates={enocder: 1e-4}"], ("freeze: expected", "enocder")),
    "a rate for what is frozen": (
        ["freeze.groups=[encoder]", "freeze.learning_rates={encoder: 1e-4}"],
        ("freeze.learning_rates: expected groups that are trained", "'encoder'"),
    ),
    "more layers than there are": (["freeze.last_n_encoder_layers=7"], ("expected 0 to 1", "found 7")),
    "one of two targets": (
        ["peft.method=lora", "peft.target_modules=[q_proj, v_prj]"],
        ("peft.target_modules: expected", "'v_prj'"),
    ),
    "more tokens than positions": (
        ["evaluation.generation.max_new_tokens=125"],
        ("evaluation.generation.max_new_tokens: expected at most 124", "found 125"),
    ),
    "a cache that does not exist": (
        ["evaluation.generation.cache_implementation=nosuch"],
        ("evaluation.generation: expected what generate takes", "cache_implementation=nosuch"),
    ),
    "a long word": (
        [f"experiment.name={'n' * 300}"],  # longer than a file's name may be, which it was looked up as
        ("experiment.name: expected a plain folder name",),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_it_is_told_before_a_run_is_begun(attack: Attack, release: Release, mistake: str) -> None:
    overrides, words = MISTAKES[mistake]
    attack.finetune(release.yaml, *overrides).assert_refused(*words)
    assert not (release.yaml.parent / "runs").exists()


def test_a_long_description_is_no_file(attack: Attack, release: Release) -> None:
    attack.finetune(release.yaml, "--dry-run", f"experiment.description={'word ' * 80}").assert_done()


def test_as_many_tokens_as_there_are_positions_are_decoded(attack: Attack, release: Release) -> None:
    attack.enter("evaluate", release.yaml, release.model, "evaluation.generation.max_new_tokens=124").assert_done()
