"""From our configuration to the Trainer's arguments: defaults, owners, learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_asr.config.arguments import Arguments, ExperimentArguments, FreezeArguments, ModelArguments, PeftArguments
from hf_asr.errors import UserError
from hf_asr.training.arguments import LEARNING_RATES, check_sharing, training_arguments


def arguments(tmp_path: Path, freeze: Any = None, peft: Any = None, **training: Any) -> Arguments:
    return Arguments(
        experiment=ExperimentArguments(name="x", output_dir=str(tmp_path), seed=7),
        model=ModelArguments(name_or_path="m"),
        freeze=freeze or FreezeArguments(),
        peft=peft or PeftArguments(),
        training={"use_cpu": True, **training},
    )


@pytest.mark.parametrize(
    ("freeze", "peft", "expected"),
    [
        (None, None, LEARNING_RATES["full"]),
        (FreezeArguments(groups=["encoder"]), None, LEARNING_RATES["frozen_encoder"]),
        (None, PeftArguments(method="lora"), LEARNING_RATES["lora"]),
        (None, PeftArguments(method="dora"), LEARNING_RATES["dora"]),
        (None, PeftArguments(method="adalora"), LEARNING_RATES["adalora"]),
    ],
)
def test_the_rate_follows_the_strategy(tmp_path: Path, freeze: Any, peft: Any, expected: float) -> None:
    assert training_arguments(arguments(tmp_path, freeze, peft)).learning_rate == expected
    assert training_arguments(arguments(tmp_path, freeze, peft, learning_rate=3e-4)).learning_rate == 3e-4


def test_owned_values_come_from_their_owners(tmp_path: Path) -> None:
    result = training_arguments(arguments(tmp_path))
    assert result.output_dir == str((tmp_path / "x" / "checkpoints").resolve())
    assert (result.seed, result.run_name, result.remove_unused_columns) == (7, "x", False)
    assert result.per_device_eval_batch_size == 8 and not result.push_to_hub


@pytest.mark.parametrize(
    ("given", "save_strategy", "best"),
    [
        ({}, "epoch", True),
        ({"eval_strategy": "steps", "eval_steps": 5}, "steps", True),
        ({"eval_strategy": "no"}, "epoch", False),
    ],
)
def test_saving_follows_evaluation(tmp_path: Path, given: dict[str, Any], save_strategy: str, best: bool) -> None:
    result = training_arguments(arguments(tmp_path, **given))
    assert (result.save_strategy.value, result.load_best_model_at_end) == (save_strategy, best)
    if "eval_steps" in given:
        assert result.save_steps == given["eval_steps"]
    if best:
        assert (result.metric_for_best_model, result.greater_is_better) == ("wer", False)


@pytest.mark.parametrize(
    ("scheduler", "name", "kwargs"),
    [
        (None, "linear", None),
        ("cosine", "cosine", None),
        ({"name": "cosine_with_restarts", "num_cycles": 3}, "cosine_with_restarts", {"num_cycles": 3}),
    ],
)
def test_schedulers(tmp_path: Path, scheduler: Any, name: str, kwargs: Any) -> None:
    given = {} if scheduler is None else {"scheduler": scheduler}
    result = training_arguments(arguments(tmp_path, **given))
    assert result.lr_scheduler_type.value == name and (result.lr_scheduler_kwargs or None) == kwargs


def test_what_the_trainer_refuses_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training: expected"):
        training_arguments(arguments(tmp_path, warmup_steps=-1))


@pytest.mark.parametrize(
    ("launcher", "told"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "training.fsdp: expected GPUs for FSDP"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "training.deepspeed: expected GPUs for DeepSpeed "),
        (
            {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
            "training.deepspeed: expected GPUs for DeepSpeed ZeRO 3",
        ),
    ],
)
def test_a_launcher_that_shares_weights_is_refused_on_a_cpu(
    tmp_path: Path, launcher: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, training = arguments(tmp_path), training_arguments(arguments(tmp_path))
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=told):
        check_sharing(wanted, training)
