"""Speech2Text across languages through the recipe: an English model with a multilingual tokenizer, on real Russian."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_speech2text import make_tiny_speech2text, make_tokenizer
from transformers import Speech2TextForConditionalGeneration

from hf_asr.cli.outcome import run_recipe


@pytest.fixture(scope="module")
def recipe(project_root: Path) -> Callable[[Sequence[str]], None]:
    """``main`` of recipes/finetune_seq2seq.py."""
    spec = importlib.util.spec_from_file_location("finetune_seq2seq", project_root / "recipes/finetune_seq2seq.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def yaml(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny English checkpoint on the 20 clips (98 s) of dev.tsv, which are train and test at once."""
    folder = tmp_path_factory.mktemp("cross_lingual")
    release = shared_data / "common_voice_6.1_sample" / "ru"
    with (release / "dev.tsv").open(encoding="utf-8") as table:
        texts = [row["sentence"].lower() for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)]
    assert len(texts) == 20
    width = {"d_model": 64, "conv_channels": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}
    make_tiny_speech2text(folder / "english", **width, max_source_positions=2000)
    make_tokenizer(folder / "multilingual", texts, "ru", kind="bpe", pieces=300)
    sections = {
        "experiment": {"name": "ru", "output_dir": str(folder / "runs")},
        "model": {"name_or_path": str(folder / "english"), "tokenizer_name_or_path": str(folder / "multilingual")},
        "data": {
            "corpus": "common_voice",
            "path": str(release),
            "language": "ru",
            "splits": {"train": "dev", "validation": "dev", "test": "dev"},
        },
        "features": {"cache_dir": str(folder / "cache"), "num_proc": 1},
        "training": {
            "per_device_train_batch_size": 10,
            "num_train_epochs": 150,
            "learning_rate": 3e-3,
            "warmup_steps": 30,
            "eval_strategy": "no",
            "logging_steps": 50,
            "use_cpu": True,
        },
        "evaluation": {"normalizer": "russian", "batch_size": 10, "generation": {"max_new_tokens": 80}},
    }
    path = folder / "ru.yaml"
    path.write_text(json.dumps(sections))  # JSON is YAML
    return path


def results(yaml: Path, part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((yaml.parent / "runs" / "ru" / part / "test_results.json").read_text())
    return found


@pytest.mark.parametrize("group", ["embeddings", "decoder"])
def test_frozen_embeddings_end_the_run_before_it_starts(
    recipe: Any, yaml: Path, capsys: pytest.CaptureFixture[str], group: str
) -> None:
    code = run_recipe(recipe, ["--config", str(yaml), f"freeze.groups=[{group}]"])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert "the tokenizer was swapped" in last
    assert "freeze.groups" in last
    assert not (yaml.parent / "runs").exists()


@pytest.mark.slow
def test_a_swapped_tokenizer_learns_twenty_clips_by_heart(recipe: Any, yaml: Path) -> None:
    recipe(["--config", str(yaml)])
    assert results(yaml, "baseline")["wer"] >= 0.9
    assert results(yaml, "test")["wer"] == 0
    assert results(yaml, "test")["num_utterances"] == 20
    run = yaml.parent / "runs" / "ru"
    best = Speech2TextForConditionalGeneration.from_pretrained(run / "best_checkpoint")
    assert best.lm_head.weight is best.get_input_embeddings().weight
    assert "took the place of the checkpoint's own" in (run / "README.md").read_text()
