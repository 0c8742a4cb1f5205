"""A Whisper whose encoder is frozen, trained with the bank and without: the same numbers, and the encoder rests."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.outcomes import recipe_main
from helpers.processes import history
from helpers.thin_clips import loud_whisper
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hf_asr.errors import UserError
from hf_asr.models.whisper_thin import ThinEncoder

FROZEN = ["freeze.groups=[encoder]"]
TARGETS = "peft.target_modules=[encoder_attn.q_proj, encoder_attn.v_proj]"
CROSS = ["peft.method=lora", "peft.r=4", "peft.dropout=0", TARGETS]
THINNED = ["model.window=thinned", "evaluation.window=thinned"]
# Name: multilingual, settings.
CASES: dict[str, tuple[bool, list[str]]] = {
    "decoder, thinned, by seconds": (True, [*FROZEN, *THINNED, "data.batch_seconds=12"]),
    "cross-attention LoRA of an .en, full": (False, CROSS),
}


@pytest.fixture(scope="module")
def recipe() -> Any:
    return recipe_main("finetune_seq2seq")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_corpus(tmp_path_factory.mktemp("corpus"), train=10, validation=3, test=2)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Tiny Whispers, multilingual or not, whose words depend on what they hear."""
    made = {}
    for multilingual in (True, False):
        folder = make_tiny_whisper(tmp_path_factory.mktemp("model"), multilingual=multilingual, d_model=32)
        loud_whisper(folder).save_pretrained(folder)
        made[multilingual] = folder
    return made


class Calls:
    """Counts the forwards of the encoder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.forward, self.encode = WhisperEncoder.forward, ThinEncoder._encode
        monkeypatch.setattr(WhisperEncoder, "forward", self.counted("forward"))
        monkeypatch.setattr(ThinEncoder, "_encode", self.counted("encode"))

    def counted(self, name: str) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            self.count += 1
            return getattr(self, name)(*args, **options)

        return run


def curves(run: Path) -> dict[str, list[float]]:
    return {name: history(run, name) for name in ("loss", "grad_norm", "eval_loss")}


@pytest.mark.parametrize("what", CASES)
def test_the_losses_are_the_same_and_the_encoder_rests(
    recipe: Any, models: dict[bool, Path], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    multilingual, settings = CASES[what]
    calls, counts, found = Calls(monkeypatch), {}, {}
    yaml = str(tiny_yaml(tmp_path, models[multilingual], corpus, gradient_accumulation_steps=1))
    for way in ("off", "on"):
        calls.count = 0
        words = [f"experiment.name=bank_{way}", f"features.bank={way}", "evaluation.baseline=false"]
        recipe(["--config", yaml, *settings, *words])
        counts[way], found[way] = calls.count, curves(tmp_path / "runs" / f"bank_{way}")
    for name in ("loss", "eval_loss"):
        assert found["on"][name] == pytest.approx(found["off"][name], abs=1e-3), name
    assert found["on"]["grad_norm"] == pytest.approx(found["off"]["grad_norm"], rel=1e-2)
    # 10 and 3 clips, 4 at once, and the 2 of test, which a model of a smaller window decodes by the full one as well.
    assert counts["on"] == 3 + 1 + (2 if "thinned" in what else 1) and counts["off"] >= 7
    metrics = {way: json.loads((tmp_path / f"runs/bank_{way}/metrics_on_all_epochs.json").read_text()) for way in found}
    assert all(entry["eval_bank"] for entry in metrics["on"]) and "eval_bank" not in metrics["off"][0]
    results = [json.loads((tmp_path / f"runs/bank_{way}/test/test_results.json").read_text()) for way in ("off", "on")]
    assert "bank" not in results[1] and results[0].keys() == results[1].keys()


def test_a_whole_bank_needs_no_features_and_a_resumed_run_goes_on_inside_an_epoch(
    recipe: Any, models: dict[bool, Path], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml = str(tiny_yaml(tmp_path, models[True], corpus, save_strategy="steps", save_steps=1, eval_strategy="steps"))
    words = ["--config", yaml, *FROZEN, *THINNED, "features.bank=auto", "evaluation.baseline=false"]
    words += ["training.eval_steps=1", "training.save_total_limit=9", "training.log_sample_ids=true"]
    words += ["training.early_stopping_patience=0"]
    recipe([*words, "experiment.name=whole"])
    for cache in [*(tmp_path / "cache").glob("train-*"), *(tmp_path / "cache").glob("validation-*")]:
        shutil.rmtree(cache) if cache.is_dir() else cache.unlink()
    calls = Calls(monkeypatch)
    recipe([*words, "experiment.name=broken"])
    assert not [*(tmp_path / "cache").glob("train-*"), *(tmp_path / "cache").glob("validation-*")]
    assert calls.count == 2  # the test split, by both windows
    run, whole = tmp_path / "runs" / "broken", tmp_path / "runs" / "whole"
    for step in (5, 6):  # as if it had been killed in the second epoch: 10 clips are 3 steps
        shutil.rmtree(run / "checkpoints" / f"checkpoint-{step}")
    recipe([*words, "experiment.name=broken", "training.resume_from_checkpoint=true"])
    assert curves(run) == curves(whole)
    assert (run / "sample_ids.jsonl").read_text() == (whole / "sample_ids.jsonl").read_text()


@pytest.mark.parametrize("bank", ["on", "auto"])
@pytest.mark.parametrize("fits", [True, False])
def test_a_dry_run_tells_what_the_bank_takes(
    recipe: Any,
    models: dict[bool, Path],
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    bank: str,
    fits: bool,
) -> None:
    words = ["--config", str(tiny_yaml(tmp_path, models[True], corpus)), *FROZEN, *THINNED, f"features.bank={bank}"]
    refused = not fits and bank == "on"
    limit = [] if fits else ["features.bank_max_gb=1e-6"]
    context = pytest.raises(UserError, match=r"features\.bank_max_gb=1e-06") if refused else contextlib.nullcontext()
    with context:
        recipe([*words, *limit, "--dry-run"])
    shown = capsys.readouterr().out
    assert re.search(rf"disk: bank \(train, validation\) +│ 0\.[1-9] MB: {'fits' if fits else 'no room'} ", shown)
    assert ("features.bank=auto: no bank" in shown) == (not fits and bank == "auto")
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml"}


def test_a_dry_run_forecasts_what_is_written(
    recipe: Any, models: dict[bool, Path], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(tiny_yaml(tmp_path, models[True], corpus)), *FROZEN, *THINNED, "features.bank=on"]
    recipe([*words, "evaluation.baseline=false", "training.max_steps=1"])
    capsys.readouterr()
    recipe([*words, "--dry-run"])
    shown = next(line for line in capsys.readouterr().out.splitlines() if "disk: bank" in line)
    forecast, written = (float(number) for number in re.findall(r"([0-9.]+) MB", shown))
    assert 0 < written <= forecast * 1.01


def test_preparing_features_says_who_builds_the_bank(
    models: dict[bool, Path], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(tiny_yaml(tmp_path, models[True], corpus)), *FROZEN, *THINNED]
    for bank, told in (("on", True), ("off", False)):
        recipe_main("prepare_features")([*words, f"features.bank={bank}"])
        shown = capsys.readouterr().out
        assert ("finetune_seq2seq builds it from these caches" in shown) is told
    assert not [*(tmp_path / "cache").glob("bank-*")]
