"""LoRA, DoRA and AdaLoRA under the Trainer: what they train, resuming, merging, and two of them on one base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_training import END, FRAMES, MELS, build_model, build_rows, logged, make_trainer
from torch.testing import assert_close
from transformers import WhisperForConditionalGeneration

from hf_asr.config.arguments import FreezeArguments, PeftArguments
from hf_asr.errors import UserError
from hf_asr.models.whisper import FAMILY
from hf_asr.training.adalora import AdaLora, orthogonality
from hf_asr.training.adapters import load_adapters, make_trainable, merged, save_adapter
from hf_asr.training.checkpoints import newest_checkpoint
from hf_asr.training.trainer import SpeechTrainer

METHODS = ("lora", "dora", "adalora")
TARGETS = ["q_proj", "v_proj", "fc1", "fc2"]
COMMON: dict[str, Any] = {
    "rows": build_rows(12),
    "batch": 4,
    "accumulation": 1,
    "max_steps": 8,
    "optim": "adamw_torch",
    "learning_rate": 0.02,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 20,
}


def adapted(method: str, seed: int = 1, dropout: float = 0.0) -> Any:
    """Return the tiny model with adapters on attention and feed-forward."""
    adapter = PeftArguments(method=method, r=4, alpha=8, dropout=dropout, target_modules=TARGETS)
    return make_trainable(build_model(), FAMILY, FreezeArguments(), adapter, seed)[0]


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    """Return the logits (2, 6, V) of fixed inputs."""
    features = torch.randn(2, MELS, FRAMES, generator=torch.Generator().manual_seed(0))
    result: torch.Tensor = model.eval()(input_features=features, decoder_input_ids=torch.arange(12).view(2, 6)).logits
    return result


@pytest.fixture(scope="module", params=METHODS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the method, and a trainer after eight steps."""
    trainer = make_trainer(tmp_path_factory.mktemp(request.param), **COMMON, model=adapted(request.param, dropout=0.1))
    trainer.train()
    return request.param, trainer


def test_only_adapters_move(trained: Any) -> None:
    method, trainer = trained
    start = dict(adapted(method, dropout=0.1).named_parameters())
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, start[name])}
    assert moved and all("lora_" in name for name in moved)
    kinds = {"lora": {"A", "B"}, "dora": {"A", "B", "magnitude_vector"}, "adalora": {"A", "B", "E"}}[method]
    assert {name.split("lora_")[1].split(".")[0] for name in moved} == kinds
    assert {target for target in TARGETS for name in moved if f".{target}." in name} == set(TARGETS)


def test_the_loss_falls(trained: Any) -> None:
    _, trainer = trained
    losses = [loss for loss, _ in logged(trainer)]
    assert losses[-1] < losses[0] - 0.005  # AdaLoRA, whose E begins at 0, is the slowest


def test_a_resumed_training_is_the_same(trained: Any, tmp_path: Path) -> None:
    method, trainer = trained
    make_trainer(tmp_path, **COMMON, model=adapted(method, dropout=0.1)).train()
    for step in range(5, 9):
        (tmp_path / "checkpoints" / f"checkpoint-{step}" / "adapter_model.safetensors").unlink()
    resumed = make_trainer(tmp_path, **COMMON, model=adapted(method, dropout=0.1))
    resumed.train(newest_checkpoint(tmp_path / "checkpoints"))
    assert logged(resumed) == logged(trainer)
    states = [dict(each.model.named_parameters()) for each in (trainer, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_adapter_and_merged_model_say_the_same(trained: Any, tmp_path: Path) -> None:
    """Also when the adapter is read from its folder onto the base again."""
    _, trainer = trained
    expected = logits(trainer.model)
    save_adapter(trainer.model, tmp_path / "adapter")
    again = load_adapters(build_model(), {"default": tmp_path / "adapter"})
    assert_close(logits(again), expected, atol=1e-5, rtol=1e-5)
    assert (expected - logits(build_model())).abs().max() > 1e-2
    stock = merged(again)
    assert type(stock) is WhisperForConditionalGeneration and not any("lora" in name for name in stock.state_dict())
    assert_close(logits(stock), expected, atol=1e-5, rtol=1e-5)
    stock.save_pretrained(tmp_path / "merged")
    assert_close(
        logits(WhisperForConditionalGeneration.from_pretrained(tmp_path / "merged")), expected, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_best_checkpoint_comes_back(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def scores(self: SpeechTrainer) -> dict[str, float]:
        seen.append(logits(self.model))
        return {"wer": abs(self.state.global_step - 4.0)}

    monkeypatch.setattr(SpeechTrainer, "validation_scores", scores)
    best = {"load_best_model_at_end": True, "metric_for_best_model": "wer", "greater_is_better": False}
    trainer = make_trainer(tmp_path, **COMMON, **best, eval_strategy="steps", eval_steps=1, model=adapted(method))
    trainer.train()
    assert_close(logits(trainer.model), seen[3], atol=1e-6, rtol=0)
    assert (seen[3] - seen[7]).abs().max() > 1e-3


def test_two_languages_share_one_base(tmp_path: Path) -> None:
    expected = {}
    for seed, language in enumerate(("ru", "en"), start=1):
        rows = [{**row, "labels": [5 * seed, END]} for row in build_rows(8)]
        trainer = make_trainer(tmp_path / language, **(COMMON | {"rows": rows}), model=adapted("lora", seed))
        trainer.train()
        save_adapter(trainer.model, tmp_path / language / "adapter")
        expected[language] = logits(trainer.model)
    both = load_adapters(build_model(), {language: tmp_path / language / "adapter" for language in expected})
    for language in ("ru", "en", "ru"):
        both.set_adapter(language)
        assert_close(logits(both), expected[language], atol=1e-5, rtol=1e-5)
    assert (expected["ru"] - expected["en"]).abs().max() > 0.1
    with both.disable_adapter():
        assert_close(logits(both), logits(build_model()), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("folders", "part"), [({}, "at least one"), ({"ru": "nothing"}, "adapter ru: expected the adapter folder")]
)
def test_refused_adapters(tmp_path: Path, folders: dict[str, str], part: str) -> None:
    with pytest.raises(UserError, match=part):
        load_adapters(build_model(), {name: tmp_path / folder for name, folder in folders.items()})


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 2), (1, 4)])
@pytest.mark.parametrize("method", METHODS)
def test_every_cut_trains_the_same(tmp_path: Path, method: str, batch: int, accumulation: int) -> None:
    runs = []
    for cut in ((4, 1), (batch, accumulation)):
        changes = {"batch": cut[0], "accumulation": cut[1], "max_steps": 4, "optim": "sgd", "learning_rate": 0.5}
        trainer = make_trainer(tmp_path / str(cut), **(COMMON | changes), model=adapted(method))
        trainer.train()
        runs.append(trainer)
    assert_close(torch.tensor(logged(runs[1])), torch.tensor(logged(runs[0])), rtol=1e-4, atol=0)
    states = [torch.cat([p.detach().flatten() for p in trainer.model.parameters()]) for trainer in runs]
    assert_close(states[1], states[0], rtol=1e-4, atol=1e-6)


# ---- AdaLoRA's own ----


def ranks(model: torch.nn.Module) -> list[int]:
    return [int((p != 0).sum()) for name, p in model.named_parameters() if ".lora_E." in name]


def test_adalora_ends_with_the_ranks_asked_for(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, **(COMMON | {"max_steps": 20}), model=adapted("adalora"))
    trainer.train()
    left = ranks(trainer.model)
    assert sum(left) == 4 * len(left) and max(left) > 4 > min(left)  # 4 on average, more where they matter
    config = trainer.model.peft_config["default"]
    assert (config.init_r, config.total_step, config.tinit, config.tfinal) == (6, 20, 2, 8)


def test_adalora_keeps_its_matrices_orthogonal(tmp_path: Path) -> None:
    model = adapted("adalora")
    before = orthogonality(model)[0].item()
    trainer = make_trainer(tmp_path, **(COMMON | {"max_steps": 20}), model=model)
    trainer.train()
    assert orthogonality(model)[0].item() < before - 0.2
    assert [type(c) for c in trainer.callback_handler.callbacks].count(AdaLora) == 1


def test_the_penalty_is_pefts(tmp_path: Path) -> None:
    model = adapted("adalora").eval()
    batch = {"input_features": torch.zeros(1, MELS, FRAMES), "decoder_input_ids": torch.tensor([[1]])}
    with torch.no_grad():
        penalised = model.base_model(**batch, labels=torch.tensor([[1]])).loss
        plain = model.base_model.model(**batch, labels=torch.tensor([[1]])).loss
    assert_close(penalised - plain, 0.5 * orthogonality(model)[0].detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_adalora_bears_few_steps(tmp_path: Path, steps: int) -> None:
    trainer = make_trainer(tmp_path, **(COMMON | {"max_steps": steps}), model=adapted("adalora"))
    trainer.train()
    assert len(logged(trainer)) == steps
