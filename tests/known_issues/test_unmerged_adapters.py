"""peft.merge=false ended with a traceback after the training: the folder had no generation_config.json, no base."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import peft
import torch
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import WhisperForConditionalGeneration

from hf_asr.cli import main as hf_asr
from hf_asr.cli.outcome import run_recipe
from hf_asr.hub.push import list_push_files


def test_a_run_with_unmerged_adapters_ends_and_loads_again(tmp_path: Path, project_root: Path) -> None:
    spec = importlib.util.spec_from_file_location("recipe", project_root / "recipes" / "finetune_seq2seq.py")
    assert spec and spec.loader
    recipe: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    base = make_tiny_whisper(tmp_path / "model")
    yaml = tiny_yaml(tmp_path, base, make_tiny_corpus(tmp_path / "corpus"), max_steps=2)
    assert run_recipe(recipe.main, ["--config", str(yaml), "peft.method=lora", "peft.merge=false"]) == 0

    run = tmp_path / "runs" / "tiny"
    best = run / "best_checkpoint"
    assert "adapter_config.json" in {file.path for file in list_push_files(run)}
    assert not any("lora" in name for name in load_file(best / "model.safetensors"))
    loaded = WhisperForConditionalGeneration.from_pretrained(best)
    wrapped = peft.PeftModel.from_pretrained(WhisperForConditionalGeneration.from_pretrained(base), best)
    torch.manual_seed(0)
    inputs = {"input_features": torch.randn(1, 80, 400), "decoder_input_ids": torch.arange(6)[None]}
    with torch.no_grad():
        assert_close(loaded.eval()(**inputs).logits, wrapped.eval()(**inputs).logits)
        wrapped.unload()
    words = [
        "evaluate",
        "--model",
        str(best),
        "--config",
        str(run / "config.yaml"),
        "--output-dir",
        str(tmp_path / "e"),
    ]
    assert hf_asr(words) == 0
    again, before = (json.loads((f / "test_results.json").read_text()) for f in (tmp_path / "e", run / "test"))
    assert [again[name] for name in ("wer", "cer")] == [before[name] for name in ("wer", "cer")]
