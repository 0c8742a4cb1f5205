"""Training rows that change with the epoch: alike in every process, and nowhere else to be found."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import skip_first_batches
from helpers.clips import noise, row_of, split_of, write_clip
from helpers.streams import stream_of_table
from helpers.tiny_training import build_rows, logged, make_trainer
from helpers.tiny_whisper import tiny_tokenizer
from torch.utils.data import DataLoader, Dataset
from transformers import WhisperFeatureExtractor

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, FeatureArguments, ModelArguments
from hf_asr.config.augmentations import AugmentArguments, SpecAugment
from hf_asr.data.augment import Clip
from hf_asr.data.corpora import Split
from hf_asr.data.sampling import Epoch, StepBatchSampler, TrainingRows
from hf_asr.data.stream_batches import StreamBatchSampler
from hf_asr.errors import UserError
from hf_asr.features.augmented import AugmentedRows, MaskedRows, Masker, TableNeighbours
from hf_asr.features.cache import CachedRows, PreparedSplit
from hf_asr.features.extract import ClipEncoder, LogMel, OneClip, TokenLabels
from hf_asr.features.prepare import prepare_splits
from hf_asr.training.checkpoints import newest_checkpoint
from hf_asr.training.loader import EpochLoader

TOKENIZER = tiny_tokenizer()
WAVEFORM = {"speed": {"probability": 0.7}, "noise": {"probability": 0.7}, "pitch": {"probability": 0.5}}
MASKS = {"spec_augment": {"probability": 0.9}}
JOIN = {"concatenate": {"probability": 1, "gap_seconds": [0.1, 0.1]}}


@pytest.fixture
def encoder() -> ClipEncoder:
    prefix = (TOKENIZER.get_vocab()["<|notimestamps|>"],)
    labeller = TokenLabels(TOKENIZER, prefix=prefix, end_token=TOKENIZER.eos_token_id, max_tokens=64)
    return ClipEncoder(LogMel(WhisperFeatureExtractor(chunk_length=4)), labeller)


@pytest.fixture
def splits(tmp_path: Path) -> dict[str, Split]:
    """Eight clips to train on, of two speakers, and three to validate on."""
    paths = [write_clip(tmp_path / f"{index}.wav", noise(0.5 + 0.1 * index, index)) for index in range(11)]
    rows = [row_of(path, f"text {path.stem}") | {"speaker": "ab"[index % 2]} for index, path in enumerate(paths)]
    return {"train": split_of(rows[:8]), "validation": split_of(rows[8:], "validation")}


def configured(augment: Mapping[str, Any], enabled: bool = True, **features: Any) -> Arguments:
    return Arguments(
        experiment=ExperimentArguments(name="x"),
        model=ModelArguments(name_or_path="m"),
        data=DataArguments(corpus="manifest", path="p", language="en"),
        features=FeatureArguments(num_proc=1, **features),
        augment=AugmentArguments(enabled=enabled, **augment),
    )


def prepared(splits: Mapping[str, Split], encoder: ClipEncoder, augment: Mapping[str, Any], **features: Any) -> Any:
    return prepare_splits(splits, encoder, configured(augment, **features))


def digest(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(row["input_features"]).tobytes()).hexdigest()


def digests(split: PreparedSplit, epoch: int = 0) -> list[str]:
    """Return what the features of all rows are in an epoch."""
    if split.epoch is not None:
        split.epoch.set(epoch)
    return [digest(split.rows[index]) for index in range(len(split.rows))]  # type: ignore[arg-type]


def caches() -> dict[str, str]:
    """Return the content of every file in this test's cache."""
    files = [path for path in Path(os.environ["HF_ASR_CACHE"]).rglob("*.arrow") if path.is_file()]
    return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


@pytest.mark.parametrize("augment", [WAVEFORM, MASKS, WAVEFORM | MASKS, JOIN], ids=lambda names: "+".join(names))
def test_only_training_rows_change(splits: dict[str, Split], encoder: ClipEncoder, augment: dict[str, Any]) -> None:
    plain = prepared(splits, encoder, {})
    before, train = caches(), digests(plain["train"])
    augmented = prepared(splits, encoder, augment)
    assert caches() == before and len(before) == 2
    assert augmented["validation"].reused and augmented["validation"].epoch is None
    assert type(augmented["validation"].rows) is CachedRows
    assert digests(augmented["validation"]) == digests(plain["validation"])
    epochs = [digests(augmented["train"], epoch) for epoch in (0, 1, 2, 0)]
    assert epochs[0] == epochs[3] and epochs[0] != epochs[1] != epochs[2]
    assert sum(a != b for a, b in zip(epochs[0], train, strict=True)) >= 4
    assert augmented["train"].column("id") == plain["train"].column("id")
    assert caches() == before


def test_switched_off_it_is_as_if_it_were_not_there(splits: dict[str, Split], encoder: ClipEncoder) -> None:
    plain = prepared(splits, encoder, {})
    off = prepare_splits(splits, encoder, configured(WAVEFORM, enabled=False))
    assert type(off["train"].rows) is CachedRows and off["train"].reused and off["train"].epoch is None
    assert digests(off["train"], 3) == digests(plain["train"])


def test_the_waveform_is_encoded_on_the_fly_and_masks_are_laid_on_the_cache(
    splits: dict[str, Split], encoder: ClipEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    live, masks = (prepared(splits, encoder, augment)["train"] for augment in (WAVEFORM, MASKS))
    assert type(live.rows) is AugmentedRows and live.folder is None
    assert type(masks.rows) is MaskedRows and masks.folder is not None
    assert "speed 0.7, pitch 0.5, noise 0.7. It is not cached" in caplog.text
    assert "spec_augment 0.9; its cached features stay as they are" in caplog.text


def test_masks_are_the_same_cached_and_on_the_fly(splits: dict[str, Split], encoder: ClipEncoder) -> None:
    cached, live = (prepared(splits, encoder, MASKS, cache=cache)["train"] for cache in (True, False))
    assert digests(cached, 4) == digests(live, 4)


def read_epochs(split: PreparedSplit, workers: int, epochs: int = 3) -> list[list[str]]:
    """Read epochs through one loader, fillers included."""
    sampler = StepBatchSampler(8, batch_size=3, accumulation=2, num_processes=2, rank=1, told=split.epoch)
    loader = DataLoader(
        TrainingRows(split.rows),  # type: ignore[arg-type]
        batch_sampler=sampler,
        collate_fn=list,
        num_workers=workers,
        persistent_workers=bool(workers),
    )
    found = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found.append([digest(row) for batch in loader for row in batch])
    return found


@pytest.mark.parametrize("augment", [WAVEFORM | JOIN, MASKS], ids=["waveform", "masks"])
def test_workers_change_nothing(splits: dict[str, Split], encoder: ClipEncoder, augment: dict[str, Any]) -> None:
    """One after the other in the same memory, so that a worker that missed an epoch would show."""
    found = [read_epochs(prepared(splits, encoder, augment)["train"], workers) for workers in (0, 1, 2)]
    assert found[0] == found[1] == found[2]
    assert len({name for epoch in found[0] for name in epoch}) > len(found[0][0])


def test_a_resumed_epoch_is_told_too(splits: dict[str, Split], encoder: ClipEncoder) -> None:
    """The Trainer then has accelerate's loader, and reaches for the sampler within its sampler."""
    split = prepared(splits, encoder, WAVEFORM)["train"]
    sampler = StepBatchSampler(8, batch_size=2, told=split.epoch)
    loader = DataLoader(TrainingRows(split.rows), batch_sampler=sampler, collate_fn=list)
    sampler.set_epoch(2)
    whole = [digest(row) for batch in loader for row in batch]
    sampler.set_epoch(0)
    resumed: Any = skip_first_batches(loader, 2)
    resumed.batch_sampler.batch_sampler.set_epoch(2)
    assert [digest(row) for batch in resumed for row in batch] == whole[4:]


@pytest.mark.parametrize("buffer", [1, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_row_is_the_one_of_the_table(
    splits: dict[str, Split], encoder: ClipEncoder, workers: int, buffer: int
) -> None:
    augment = WAVEFORM | MASKS
    train = splits["train"]
    stream = Split("train", stream_of_table(train.rows, buffer), train.drops, None, [])
    table = prepared(splits, encoder, augment)["train"]
    streamed = prepared({"train": stream}, encoder, augment)["train"]
    sampler = StreamBatchSampler(stream.rows, batch_size=2, told=streamed.epoch)
    loader = EpochLoader(
        streamed.rows,
        batch_sampler=sampler,
        collate_fn=list,
        num_workers=workers,
        persistent_workers=bool(workers),
    )
    for epoch in (0, 3):
        loader.set_epoch(epoch)
        found = {row["id"]: digest(row) for batch in loader for row in batch}
        assert found == dict(zip(table.column("id"), digests(table, epoch), strict=True))


class Masked(Dataset[dict[str, Any]]):
    """Rows of a trainer's test, masked by the epoch."""

    def __init__(self, rows: list[dict[str, Any]], epoch: Epoch) -> None:
        self.rows = rows
        self.masker = Masker(SpecAugment(probability=0.8, frequency_bins=4), 42, epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.masker(self.rows[index])


def masked_trainer(run_dir: Path, workers: int = 0, **changes: Any) -> Any:
    epoch = Epoch()
    rows: Any = Masked(build_rows(12), epoch)
    common = {"max_steps": -1, "num_train_epochs": 3, "save_strategy": "steps", "save_steps": 2}
    loaders = {"dataloader_num_workers": workers, "dataloader_persistent_workers": bool(workers)}
    trainer = make_trainer(run_dir, batch=4, accumulation=1, rows=rows, **(common | loaders | changes))
    trainer.train_split = replace(trainer.train_split, epoch=epoch)
    return trainer


def test_a_training_resumed_or_with_workers_logs_the_same_losses(tmp_path: Path) -> None:
    """3 epochs of 3 steps; the run that is resumed stopped in the second."""
    whole, parallel = (masked_trainer(tmp_path / name, workers) for name, workers in (("whole", 0), ("parallel", 2)))
    whole.train()
    parallel.train()
    assert logged(parallel) == logged(whole) and len(logged(whole)) == 9
    masked_trainer(tmp_path / "cut", max_steps=4).train()
    resumed = masked_trainer(tmp_path / "cut")
    resumed.train(newest_checkpoint(tmp_path / "cut" / "checkpoints"))
    torch.testing.assert_close(torch.tensor(logged(resumed)), torch.tensor(logged(whole)), rtol=0, atol=0)
    plain = make_trainer(
        tmp_path / "plain", batch=4, accumulation=1, rows=build_rows(12), max_steps=-1, num_train_epochs=3
    )
    plain.train()
    assert logged(plain) != logged(whole)


def test_two_clips_of_a_speaker_are_joined(splits: dict[str, Split], encoder: ClipEncoder) -> None:
    train = prepared(splits, encoder, JOIN)["train"]
    plain = prepared(splits, encoder, {})["train"]
    lengths = dict(zip(plain.column("id"), plain.column("duration"), strict=True))
    assert train.epoch is not None
    partners = set()
    for epoch in range(6):
        train.epoch.set(epoch)
        row = train.rows[2]
        first, second = row["text"].removeprefix("text ").split(" text ")
        assert (row["id"], first) == ("2", "2") and second in ("0", "4", "6")
        assert row["duration"] == pytest.approx(lengths[first] + 0.1 + lengths[second])
        assert row["labels"] == encoder.labeller({"text": f"text 2 text {second}"})
        partners.add(second)
    assert len(partners) > 1


@pytest.mark.parametrize("too_long", ["the text", "the clip"])
def test_a_joined_clip_that_is_too_long_stays_alone(
    splits: dict[str, Split], encoder: ClipEncoder, too_long: str
) -> None:
    if too_long == "the text":
        rows = splits["train"].rows.map(lambda row: {"text": "a" * 40})
        splits["train"] = replace(splits["train"], rows=rows)
    else:
        encoder = replace(encoder, max_seconds=1.25)
    loud = {"gain": {"probability": 1, "db": [-9, -6]}}
    train = prepared({"train": splits["train"]}, encoder, JOIN | loud)["train"]
    row = train.rows[7 if too_long == "the clip" else 0]
    assert row["error"] == "" and " text " not in row["text"] and len(row["text"]) <= 40
    alone = prepared({"train": splits["train"]}, encoder, loud)["train"].rows[7 if too_long == "the clip" else 0]
    assert digest(row) == digest(alone)


def test_a_bad_clip_is_named_and_no_neighbour(splits: dict[str, Split], encoder: ClipEncoder, tmp_path: Path) -> None:
    for index in (0, 4, 6):
        (tmp_path / f"{index}.wav").unlink()
    train = prepared(splits, encoder, JOIN)["train"]
    assert train.rows[0]["error"].startswith("broken_audio: ")
    assert (train.rows[2]["text"], train.rows[2]["error"]) == ("text 2", "")
    arguments = configured(JOIN)
    arguments.data.on_bad_clip = "raise"
    with pytest.raises(UserError, match="on_bad_clip=raise: expected every clip to be usable, found 0"):
        _ = prepare_splits({"train": splits["train"]}, encoder, arguments)["train"].rows[0]


def test_neighbours_without_speakers_or_others(splits: dict[str, Split], encoder: ClipEncoder) -> None:
    table = splits["train"].rows.map(lambda row: {"speaker": ""})
    neighbours = TableNeighbours(table, encoder)
    clip = neighbours(replace(read_clip(table[0]), id="nobody"), np.random.RandomState(0), True)
    assert clip is not None
    found = {neighbour_id(neighbours, table[3], seed) for seed in range(80)}
    assert found == {"0", "1", "2", "4", "5", "6", "7"}
    alone = TableNeighbours(table.select([3]), encoder)
    assert alone(read_clip(table[3]), np.random.RandomState(0), True) is None


def read_clip(row: Mapping[str, Any]) -> Clip:
    return Clip(row["id"], np.zeros(8000, np.float32), row["text"], row["speaker"])


def neighbour_id(neighbours: TableNeighbours, row: Mapping[str, Any], seed: int) -> str:
    clip = neighbours(read_clip(row), np.random.RandomState(seed), True)
    assert clip is not None
    return clip.id


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        ({"mix": {"probability": 1}}, "augment.mix: expected a classifier, found a model that writes text"),
        (JOIN, "augment.concatenate: expected a model that writes text, found a classifier"),
        (MASKS, "augment.spec_augment.frequency_masks: expected a model that takes spectra"),
        ({"noise": {"folder": "no/such/folder", "probability": 1}}, "augment.noise.folder: expected a folder"),
    ],
)
def test_what_does_not_go_with_the_model(
    splits: dict[str, Split], encoder: ClipEncoder, augment: dict[str, Any], words: str
) -> None:
    if augment is JOIN:
        encoder = replace(encoder, labeller=replace(encoder.labeller, writes_text=False))  # type: ignore[type-var]
    if augment is MASKS:
        encoder = replace(encoder, front_end=OneClip(None, "input_values", 1, 16_000))
    with pytest.raises(UserError) as error:
        prepared(splits, encoder, augment)
    assert words in str(error.value)


def test_two_clips_are_mixed_for_a_classifier(splits: dict[str, Split], encoder: ClipEncoder) -> None:
    encoder = replace(encoder, labeller=replace(encoder.labeller, writes_text=False))  # type: ignore[type-var]
    plain, mixed = (
        prepared({"train": splits["train"]}, encoder, augment)["train"]
        for augment in ({}, {"mix": {"probability": 1, "snr_db": [0, 5]}})
    )
    for index in range(8):
        before, after = plain.rows[index], mixed.rows[index]
        assert {**before, "input_features": 0} == {**after, "input_features": 0}
        assert digest(before) != digest(after)
