"""Every YAML under recipes/ parses, and its header says what a reader wants to know before starting it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType
from transformers import Seq2SeqTrainingArguments

from hf_asr.config.arguments import Arguments, TrainingKeys
from hf_asr.config.checks import fields_of
from hf_asr.config.parser import load_arguments

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
# Ladders and presets are laid over a recipe: they are no runs by themselves.
OVERLAYS = sorted(path for path in RECIPES.rglob("*.yaml") if path.parent.name in ("ladders", "presets"))
NO_RUNS = {"accelerate", "launch"}
RUNS = sorted(path for path in RECIPES.rglob("*.yaml") if path.parent.name not in NO_RUNS and path not in OVERLAYS)
HARDWARE = sorted((RECIPES / "accelerate").glob("*.yaml"))


def header_of(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines[: lines.index("")] if line.startswith("#"))


def recipe(name: str) -> Arguments:
    return load_arguments([RECIPES / "whisper" / f"{name}.yaml"])


def test_the_recipes_of_the_contract_are_there() -> None:
    names = {path.stem for path in RUNS if path.parent.name == "whisper"}
    assert names >= {
        "common_voice_ru",
        "common_voice_ru_streaming",
        "gigaspeech_s",
        "gigaspeech_streaming",
        "whisper_base_ru",
        "lora",
        "debug",
    }
    shared = {"multi_node", "fsdp", "deepspeed_zero2", "deepspeed_zero3"}
    assert {path.stem for path in HARDWARE} >= {"cpu", "one_gpu", "multi_gpu", *shared}


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_recipe_parses(path: Path) -> None:
    load_arguments([path])


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_header_says_what_it_needs(path: Path) -> None:
    header = header_of(path)
    assert re.match(r"# [A-Z].+\.\n|# .+[:?]", header)
    for word in ("Data", "Hardware", "Memory", "Disk", "Time", "Launch"):
        assert re.search(rf"^# {word} ", header, re.MULTILINE), word
    assert "estimated" in header
    launched = re.findall(r"(recipes/[\w/]+\.(?:yaml|py))", header[header.index("# Launch") :])
    assert f"recipes/{path.relative_to(RECIPES)}" in launched
    assert any(name.startswith("recipes/finetune_") and name.endswith(".py") for name in launched)
    assert [name for name in launched if not (RECIPES.parent / name).is_file()] == []


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_the_trainer_takes_every_value(path: Path, tmp_path: Path) -> None:
    own = fields_of(TrainingKeys)
    given = {key: value for key, value in load_arguments([path]).training.items() if key not in own}
    made = Seq2SeqTrainingArguments(output_dir=str(tmp_path), report_to="none", **{**given, "use_cpu": True})
    assert made.learning_rate == given["learning_rate"]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_stream_says_when_it_ends(path: Path) -> None:
    arguments = load_arguments([path])
    assert not arguments.data.streaming or arguments.training["max_steps"] > 0


def test_common_voice_ru_is_the_plain_one() -> None:
    arguments = recipe("common_voice_ru")
    assert (arguments.model.name_or_path, arguments.data.corpus, arguments.data.language) == (
        "openai/whisper-small",
        "common_voice",
        "ru",
    )
    assert arguments.data.splits == {"train": "train", "validation": "dev", "test": "test"}
    assert (arguments.data.text_pipeline, arguments.evaluation.normalizer) == ("none", "russian")
    model = arguments.model
    assert {model.dropout, model.attention_dropout, model.activation_dropout, model.layerdrop} == {0.0}
    plain: dict[str, Any] = {"label_smoothing_factor": 0, "train_sampling_strategy": "random", "scheduler": "linear"}
    assert {key: arguments.training.get(key, value) for key, value in plain.items()} == plain
    assert not arguments.data.streaming
    assert arguments.peft.method == "none"


@pytest.mark.parametrize(("name", "train"), [("gigaspeech_s", "S"), ("gigaspeech_streaming", "XL")])
def test_gigaspeech(name: str, train: str) -> None:
    arguments = recipe(name)
    assert arguments.model.name_or_path == "openai/whisper-small.en"
    assert arguments.data.splits == {"train": train, "validation": "DEV", "test": "TEST"}
    assert (arguments.data.text_pipeline, arguments.evaluation.normalizer) == ("sentence_case", "gigaspeech")


def test_validation_and_test_of_a_recipe_can_be_held_out_instead() -> None:
    overrides = ["data.splits.validation=null", "data.splits.test=null"]
    overrides += ["data.splits.held_out={validation: 0.05, test: 0.05, by: speaker}"]
    splits = load_arguments([RECIPES / "whisper" / "gigaspeech_s.yaml"], overrides).data.splits
    assert splits == {"train": "S", "held_out": {"validation": 0.05, "test": 0.05, "by": "speaker"}}


@pytest.mark.parametrize("name", ["common_voice_ru_streaming", "gigaspeech_streaming"])
def test_streams_are_validated_by_steps(name: str) -> None:
    arguments = recipe(name)
    assert arguments.data.streaming
    assert arguments.training["eval_strategy"] == "steps"
    assert arguments.training["eval_steps"] < arguments.training["max_steps"]


def test_lora_is_lora_in_bf16() -> None:
    arguments = recipe("lora")
    assert (arguments.model.name_or_path, arguments.peft.method) == ("openai/whisper-large-v3", "lora")
    assert arguments.training["bf16"] is True


def test_debug_is_small_and_needs_no_weights() -> None:
    arguments = recipe("debug")
    assert (arguments.model.name_or_path, arguments.data.corpus) == ("config:whisper-tiny", "synthetic")
    assert arguments.training["max_steps"] <= 5
    assert max(arguments.data.limit.values()) <= 16


@pytest.mark.parametrize(
    ("name", "kind", "on_cpu", "precision"),
    [
        ("cpu", DistributedType.NO, True, "no"),
        ("one_gpu", DistributedType.NO, False, "bf16"),
        ("multi_gpu", DistributedType.MULTI_GPU, False, "bf16"),
        ("multi_node", DistributedType.MULTI_GPU, False, "bf16"),
        ("fsdp", DistributedType.FSDP, False, "bf16"),
        ("deepspeed_zero2", DistributedType.DEEPSPEED, False, "bf16"),
        ("deepspeed_zero3", DistributedType.DEEPSPEED, False, "bf16"),
    ],
)
def test_hardware(name: str, kind: DistributedType, on_cpu: bool, precision: str) -> None:
    config = load_config_from_file(str(RECIPES / "accelerate" / f"{name}.yaml"))
    assert (config.distributed_type, config.use_cpu, config.mixed_precision) == (kind, on_cpu, precision)
    assert (config.num_processes > 1) == (name not in ("cpu", "one_gpu"))
    assert (config.num_machines > 1) == (name == "multi_node")


@pytest.mark.parametrize("path", HARDWARE, ids=lambda path: path.stem)
def test_the_launcher_knows_every_key(path: Path) -> None:
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "script.py"])
    known = vars(arguments).keys()
    config = load_config_from_file(str(path))
    assert set(config.fsdp_config) <= known
    assert set(config.deepspeed_config) <= known


@pytest.mark.parametrize("path", HARDWARE, ids=lambda path: path.stem)
def test_a_file_for_gpus_says_whether_it_was_run(path: Path) -> None:
    several = load_config_from_file(str(path)).num_processes > 1
    assert ("Not run: there was no GPU" in header_of_hardware(path)) == several


def header_of_hardware(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))


@pytest.mark.parametrize("path", HARDWARE, ids=lambda path: path.stem)
def test_every_hardware_file_parses_and_says_what_it_is(path: Path) -> None:
    load_config_from_file(str(path))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    # YAML 1.1: an unquoted NO or no would be false.
    assert {type(yaml.safe_load(text)[key]) for key in ("distributed_type", "mixed_precision")} == {str}
