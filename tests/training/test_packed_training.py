"""Training on packed windows: exact in every cut, after a resume, and by every way that rows come."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers.outcomes import recipe_main, sample_ids
from helpers.processes import history
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

CLIPS = 14
PACK = ["data.pack=true", "evaluation.baseline=false", "training.eval_strategy=no", "training.save_strategy=steps"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    make_tiny_whisper(folder / "English-only", multilingual=False)
    model = make_tiny_whisper(folder / "multilingual")
    tiny_yaml(folder, model, make_tiny_corpus(folder / "corpus", train=CLIPS), log_sample_ids=True, save_steps=100)
    return folder


def train(home: Path, name: str, *words: str) -> Path:
    given = [*PACK, f"experiment.name={name}", "training.save_total_limit=20", *words]
    recipe_main("finetune_seq2seq")(["--config", str(home / "tiny.yaml"), *given])
    return home / "runs" / name


def cut(batch: int, accumulation: int) -> list[str]:
    return [f"training.per_device_train_batch_size={batch}", f"training.gradient_accumulation_steps={accumulation}"]


def test_every_clip_once_an_epoch_and_the_same_steps_in_every_cut(home: Path) -> None:
    runs = [train(home, f"cut{batch}", *cut(batch, accumulation)) for batch, accumulation in ((4, 1), (1, 4))]
    ids = sample_ids(runs[0])
    assert len(ids) == 2 * CLIPS
    for epoch in (ids[:CLIPS], ids[CLIPS:]):
        assert Counter(epoch) == Counter(f"clip{place}.wav" for place in range(CLIPS))
    assert ids[:CLIPS] != ids[CLIPS:]
    for run in runs[1:]:
        assert sample_ids(run) == ids
        for key in ("loss", "grad_norm"):
            assert history(run, key) == pytest.approx(history(runs[0], key), rel=1e-5)


def test_a_resumed_run_takes_the_same_windows(home: Path) -> None:
    given = [*cut(2, 1), "training.save_steps=1"]
    whole, broken = train(home, "whole", *given), train(home, "broken", *given)
    steps = sorted(int(path.name.split("-")[1]) for path in (broken / "checkpoints").glob("checkpoint-*"))
    for step in steps:
        if step > steps[0] + 1:
            (broken / "checkpoints" / f"checkpoint-{step}" / "model.safetensors").unlink()
    train(home, "broken", *given, "training.resume_from_checkpoint=true")
    for key in ("loss", "grad_norm"):
        assert history(broken, key) == history(whole, key)
    assert (broken / "sample_ids.jsonl").read_text() == (whole / "sample_ids.jsonl").read_text()


WAYS: dict[str, list[str]] = {
    "cached": [],
    "live": ["features.cache=false"],
    "streamed": ["data.streaming=true", "data.shuffle_buffer=0"],
}


def test_by_padded_seconds_a_table_and_a_stream_have_the_same_losses(home: Path) -> None:
    """Two windows of 4 s fill 9 s, and three steps are an epoch."""
    shared = ["training.train_sampling_strategy=sequential", "data.batch_seconds=9", "data.pack_share=0.5"]
    shared += ["training.num_train_epochs=1"]
    runs = [train(home, f"seconds-{name}", *shared, *WAYS[name]) for name in ("cached", "streamed")]
    assert history(runs[0], "loss") == history(runs[1], "loss")
    ids = [(run / "sample_ids.jsonl").read_text() for run in runs]
    assert ids[0] == ids[1] and sorted(sample_ids(runs[0])) == sorted(f"clip{place}.wav" for place in range(CLIPS))


@pytest.mark.parametrize("kind", ["multilingual", "English-only"])
def test_cached_live_and_streamed_have_the_same_losses(home: Path, kind: str) -> None:
    shared = ["training.train_sampling_strategy=sequential", "training.max_steps=3", *cut(2, 1)]
    shared.append(f"model.name_or_path={home / kind}")
    runs = {name: train(home, f"{kind}-{name}", *shared, *words) for name, words in WAYS.items()}
    losses = {name: history(run, "loss") for name, run in runs.items()}
    assert losses["cached"] == losses["live"] == losses["streamed"] and len(losses["cached"]) == 3
    assert len({tuple(sample_ids(run)) for run in runs.values()}) == 1


@pytest.mark.parametrize("buffer", [0, 1000])
def test_a_shuffled_stream_by_padded_seconds(home: Path, buffer: int) -> None:
    words = ["data.streaming=true", f"data.shuffle_buffer={buffer}", "data.pack_speakers=any", "data.batch_seconds=8"]
    run = train(home, f"stream-seconds-{buffer}", *words, "training.num_train_epochs=1")
    assert sorted(sample_ids(run)) == sorted(f"clip{place}.wav" for place in range(CLIPS))
    assert max(len(line.split(",")) for line in (run / "sample_ids.jsonl").read_text().splitlines()) > 4


@pytest.mark.parametrize(
    "word", ["data.batch_seconds=8", "model.window=thinned", "data.drop_suspicious=1e9", "data.pack_timestamps=false"]
)
def test_it_goes_with_the_other_switches(home: Path, word: str) -> None:
    run = train(home, word.split("=")[0], word, "training.num_train_epochs=1")
    assert sorted(sample_ids(run)) == sorted(f"clip{place}.wav" for place in range(CLIPS))
    results: dict[str, Any] = json.loads((run / "test" / "test_results.json").read_text())
    assert results["num_utterances"] == 4
