"""Presets and ladders go with every recipe, and their headers say what a reader wants to know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hf_asr.config.parser import load_arguments

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
PRESETS = sorted((RECIPES / "presets").glob("*.yaml"))
LADDERS = sorted((RECIPES / "ladders").glob("*.yaml"))
NOT_A_RUN = ("launch", "accelerate", "ladders", "presets")
RUNS = sorted(path for path in RECIPES.rglob("*.yaml") if path.parent.name not in NOT_A_RUN)


def test_there_is_one_for_each_kind_of_hardware() -> None:
    assert {path.stem for path in PRESETS} == {"cpu", "colab_t4", "gpu_12gb", "gpu_24gb", "gpu_80gb"}
    assert {path.stem for path in LADDERS} >= {"freezing", "classifier_optimizations", "training_loop", "windows"}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("run", RUNS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_preset_goes_with_every_recipe(run: Path, preset: Path) -> None:
    given = [] if "sources:" in run.read_text(encoding="utf-8") else ["data.path=somewhere"]
    before, after = load_arguments([run], given), load_arguments([run, preset], given)
    assert after.experiment == before.experiment and after.model == before.model
    assert after.training.get("learning_rate") == before.training.get("learning_rate")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_keeps_the_clips_of_a_step(preset: Path) -> None:
    training = load_arguments([RECIPES / "whisper/common_voice_ru.yaml", preset]).training
    assert training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] == 16


@pytest.mark.parametrize(
    ("name", "precision", "recomputes"),
    [
        ("cpu", None, False),
        ("colab_t4", "fp16", True),
        ("gpu_12gb", "bf16", True),
        ("gpu_24gb", "bf16", False),
        ("gpu_80gb", "bf16", False),
    ],
)
def test_what_a_preset_sets(name: str, precision: str | None, recomputes: bool) -> None:
    training = load_arguments([RECIPES / "whisper/lora.yaml", RECIPES / f"presets/{name}.yaml"]).training
    assert {key for key in ("bf16", "fp16") if training[key]} == ({precision} if precision else set())
    assert training["activation_checkpointing"] is recomputes


@pytest.mark.parametrize("path", [*PRESETS, *LADDERS], ids=lambda path: path.stem)
def test_every_header_says_what_it_needs(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = "\n".join(line for line in lines[: lines.index("")] if line.startswith("#"))
    for word in ("Data", "Hardware", "Memory", "Disk", "Time", "Launch"):
        assert re.search(rf"^# {word} ", header, re.MULTILINE), word
    assert "estimated" in header
    launched = re.findall(r"(recipes/[\w/]+\.(?:yaml|py))", header[header.index("# Launch") :])
    assert f"recipes/{path.relative_to(RECIPES)}" in launched
    assert [name for name in launched if not (RECIPES.parent / name).is_file()] == []


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_the_forecast_names_every_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.search(r"tiny +base +small +medium +large-v3 +turbo\n", text)
    assert all(
        len(re.findall(r"\d+\.\d", line)) == 6
        for line in text.splitlines()
        if line.startswith("#   ") and "  full" in line
    )
