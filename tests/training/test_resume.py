"""What a resumed run must have as before: refused with what has changed, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_asr.config.parser import load_arguments, save_arguments
from hf_asr.errors import UserError
from hf_asr.training.resume import check_resume

BASE = """
experiment: {name: run}
model: {name_or_path: some/model}
data: {corpus: common_voice, path: somewhere, language: ru, splits: {train: train}}
augment: {enabled: true, noise: {probability: 0.5, folder: /here/noises}}
training: {learning_rate: 1e-5}
"""
LORA = ["peft.method=lora"]
SOURCES = "data.sources=[{corpus: manifest, path: a.csv, weight: %s}, {corpus: manifest, path: b.csv, weight: 1}]"
STREAM = ["data.streaming=true", "training.max_steps=9"]
# What both had, what the second has beside it, and what is told.
REFUSED: dict[str, tuple[list[str], list[str], str]] = {
    "another transform": ([], ["augment.speed.probability=0.2"], r"augment.speed is \{'probability': 0.2.*\}, was off"),
    "a transform's range": ([], ["augment.noise.probability=0.6"], "augment.noise is .*0.6.*, was .*0.5"),
    "no augmentation": ([], ["augment.enabled=false"], "augment.noise is off, was"),
    "batches by seconds": ([], ["data.batch_seconds=60"], "data.batch_seconds is 60.*, was not given"),
    "label text": ([], ["data.text_pipeline=basic"], "data.text_pipeline is basic, was none"),
    "longest clip": ([], ["data.max_seconds=20"], "data.max_seconds is 20.*, was 30"),
    "other noises": ([], ["augment.noise.folder=/here/music"], "'folder': 'music'.*, was .*'folder': 'noises'"),
    "level": ([], ["data.level=peak"], "data.level is peak, was none"),
    "suspicious texts": ([], ["data.drop_suspicious=0.5"], "data.drop_suspicious is 0.5, was not given"),
    "language": ([], ["data.language=tt"], "data.language is tt, was ru"),
    "buffer": (STREAM, ["data.shuffle_buffer=10"], "data.shuffle_buffer is 10, was 1000"),
    "weights": (
        [*STREAM, "data.corpus=null", "data.path=null", SOURCES % 2],
        [SOURCES % 3],
        r"the weights of data.sources is \[3.*\], was \[2",
    ),
    "vocabulary": ([], ["ctc.vocabulary=train"], "ctc.vocabulary is train, was auto"),
    "masks": ([], ["ctc.mask_time=0.05"], "ctc.mask_time is 0.05, was 0.0"),
    "head": ([], ["head.pooling=mean"], "head.pooling is mean, was statistics"),
    "dropout": ([], ["model.dropout=0.1"], "model.dropout is 0.1, was 0.0"),
    "window": ([], ["model.window=clip"], "model.window is clip, was full"),
    "scheduler": ([], ["training.scheduler=cosine"], "training.scheduler is cosine, was not given"),
    "smoothing": ([], ["training.label_smoothing_factor=0.1"], "training.label_smoothing_factor is 0.1"),
    "scale of adapters": (LORA, ["peft.alpha=16"], "peft.alpha is 16.*, was 64"),
}
ALLOWED = {
    "nothing": [],
    "another disk": ["features.cache_dir=/elsewhere", "data.path=/elsewhere"],
    "noises elsewhere": ["augment.noise.folder=/elsewhere/noises"],
    "other clips to score": ["data.limit.test=10"],
    "decoding": ["ctc.beam=5", "evaluation.batch_size=2"],
    "longer": ["training.num_train_epochs=9"],
    "half precision": ["training.bf16=true"],
    "adapters that are not used": ["peft.alpha=16"],
    "the buffer of a table": ["data.shuffle_buffer=10"],
}


def resume(folder: Path, before: list[str], now: list[str]) -> None:
    (folder / "base.yaml").write_text(BASE)
    checkpoint = folder / "checkpoint-1"
    checkpoint.mkdir()
    save_arguments(load_arguments([folder / "base.yaml"], before), checkpoint / "config.yaml")
    check_resume(load_arguments([folder / "base.yaml"], [*before, *now]), checkpoint, processes=1)


@pytest.mark.parametrize("change", REFUSED)
def test_what_would_change_the_training_is_told(change: str, tmp_path: Path) -> None:
    before, now, words = REFUSED[change]
    with pytest.raises(UserError, match=words):
        resume(tmp_path, before, now)


@pytest.mark.parametrize("change", ALLOWED)
def test_what_leaves_it_as_it_was_is_not(change: str, tmp_path: Path) -> None:
    resume(tmp_path, [], ALLOWED[change])
