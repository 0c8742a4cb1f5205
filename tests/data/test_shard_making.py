"""Shards of a corpus: the same clips, cut by size, resumed after an interruption, read back as they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers.clips import split_of
from helpers.tiny_corpus import make_tiny_corpus
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_asr.config.arguments import DataArguments
from hf_asr.data.audio import load
from hf_asr.data.corpora import build_splits
from hf_asr.data.shard_folder import begin_folder, check_room, end_folder, training_section
from hf_asr.data.shard_making import ShardSettings, encode_samples, make_shards, read_records, row_order, suffix_of
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Utterance

CLIPS = 12


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    """Return 12 clips with an extra column."""
    manifest = make_tiny_corpus(tmp_path_factory.mktemp("corpus"), train=CLIPS, validation=0, test=0)
    lines = manifest.read_text().splitlines()
    text = "\n".join([lines[0] + ",accent", *(f"{line},accent {n}" for n, line in enumerate(lines[1:]))])
    manifest.write_text(text + "\n")
    data = DataArguments(corpus="manifest", path=str(manifest), columns={"split": "split"}, language="en")
    table = build_splits(data, seed=1, names=["train"])["train"].rows
    assert isinstance(table, datasets.Dataset)
    return table


def make(rows: datasets.Dataset, folder: Path, **changes: object) -> ShardSettings:
    """Write the shards of train and all that stands beside them."""
    settings = replace(ShardSettings(shard_mb=0.05), **changes)  # type: ignore[arg-type]
    begin_folder(folder, settings, {"train": "hash"})
    made = make_shards(rows, "train", folder, settings)
    end_folder(folder, settings, DataArguments(language="en"), {"train": made})
    return settings


def read_back(folder: Path, settings: ShardSettings) -> list[Utterance]:
    """Return the clips as a run reads them."""
    section = training_section(str(folder), settings, DataArguments(language="en"))
    split = build_splits(DataArguments(**section), seed=1, names=["train"])["train"]
    return [Utterance.from_row(row) for row in split.rows]


def fields(clip: Utterance) -> tuple[object, ...]:
    extra = {name: value for name, value in clip.extra.items() if name != "split"}
    return clip.id, clip.text, clip.speaker, clip.duration, clip.language, clip.label, extra


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
@pytest.mark.parametrize("order", ["corpus", "sorted", "shuffled"])
def test_a_run_reads_the_same_clips_from_the_shards(
    rows: datasets.Dataset, tmp_path: Path, order: str, form: str
) -> None:
    settings = make(rows, tmp_path, order=order, form=form)
    originals = [Utterance.from_row(rows[index]) for index in row_order(rows, settings)]
    clips = read_back(tmp_path, settings)
    assert [fields(clip) for clip in clips] == [fields(clip) for clip in originals]
    for clip, original in zip(clips, originals, strict=True):
        np.testing.assert_array_equal(load(clip.audio), load(original.audio))


def test_orders(rows: datasets.Dataset) -> None:
    assert row_order(rows, ShardSettings()) == list(range(CLIPS))
    shortest_first = [rows["duration"][index] for index in row_order(rows, ShardSettings(order="sorted"))]
    assert shortest_first == sorted(rows["duration"])
    shuffled = row_order(rows, ShardSettings(order="shuffled"))
    assert sorted(shuffled) == list(range(CLIPS)) != shuffled


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_shards_are_bounded_counted_and_have_checksums(rows: datasets.Dataset, tmp_path: Path, form: str) -> None:
    make(rows, tmp_path, form=form)
    manifest = json.loads((tmp_path / "shards.json").read_text())["splits"]["train"]
    assert manifest["clips"] == CLIPS == sum(shard["clips"] for shard in manifest["shards"])
    assert manifest["seconds"] == pytest.approx(sum(rows["duration"]))
    assert len(manifest["shards"]) > 2
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "SHA256SUMS").read_text().splitlines())
    for shard in manifest["shards"]:
        content = (tmp_path / shard["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard["sha256"] == sums[shard["name"]]
        assert shard["bytes"] == len(content) < 100_000
    assert "hf-asr prepare-shards" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_an_interrupted_call_goes_on_and_gives_the_same_bytes(
    rows: datasets.Dataset, tmp_path: Path, form: str
) -> None:
    make(rows, tmp_path / "whole", form=form)
    settings = ShardSettings(form=form, shard_mb=0.05)
    begin_folder(tmp_path / "cut", settings, {"train": "hash"})
    for stop_after in (3, 7):
        with pytest.raises(KeyboardInterrupt):
            make_shards(rows, "train", tmp_path / "cut", settings, advance=_Stop(stop_after))
    assert not list((tmp_path / "cut").rglob("*.part"))
    assert 0 < len(read_records(tmp_path / "cut", "train")) < 6
    make(rows, tmp_path / "cut", form=form)
    assert (tmp_path / "cut" / "SHA256SUMS").read_text() == (tmp_path / "whole" / "SHA256SUMS").read_text()


class _Stop:
    """Interrupts at the n-th clip."""

    def __init__(self, clips: int) -> None:
        self.left = clips

    def __call__(self, clips: int) -> None:
        self.left -= clips
        if self.left <= 0:
            raise KeyboardInterrupt


def test_a_shard_that_has_gone_is_made_again(rows: datasets.Dataset, tmp_path: Path) -> None:
    make(rows, tmp_path)
    before = (tmp_path / "SHA256SUMS").read_text()
    (tmp_path / before.splitlines()[1].split("  ")[1]).unlink()
    make(rows, tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == before
    assert (tmp_path / before.splitlines()[1].split("  ")[1]).is_file()


def test_several_processes_give_the_same_shards(rows: datasets.Dataset, tmp_path: Path) -> None:
    settings = ShardSettings(shard_mb=0.05)
    one, _ = make_shards(rows, "train", tmp_path / "one", settings)
    two, _ = make_shards(rows, "train", tmp_path / "two", settings, processes=2)
    assert one == two


def test_a_broken_clip_is_left_out_and_named(rows: datasets.Dataset, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF and nothing else")
    bad = Utterance("bad", AudioRef(path=str(broken)), "text", duration=1.0)
    table = split_of([rows[0], bad.as_row(), rows[1]]).rows
    assert isinstance(table, datasets.Dataset)
    records, drops = make_shards(table, "train", tmp_path / "out", ShardSettings())
    assert sum(record.clips for record in records) == 2
    assert [id for id, _ in drops.reasons["broken_audio"]] == ["bad"]
    again, known = make_shards(table, "train", tmp_path / "out", ShardSettings())
    assert (again, known) == (records, drops)
    with pytest.raises(UserError, match=r"found bad: .*on_bad_clip=skip"):
        make_shards(table, "train", tmp_path / "raise", ShardSettings(), on_bad_clip="raise")
    alone = split_of([bad.as_row()]).rows
    assert isinstance(alone, datasets.Dataset)
    with pytest.raises(UserError, match="found none left"):
        make_shards(alone, "train", tmp_path / "alone", ShardSettings())


@pytest.mark.parametrize(("codec", "error"), [("flac", 0.0), ("flac24", 0.0), ("opus", 0.2), ("keep", 0.0)])
def test_codecs(rows: datasets.Dataset, tmp_path: Path, codec: str, error: float) -> None:
    settings = make(rows.select(range(2)), tmp_path, codec=codec)
    for clip, row in zip(read_back(tmp_path, settings), rows, strict=False):
        original = load(Utterance.from_row(row).audio)
        samples = load(clip.audio)
        assert abs(len(samples) - len(original)) < 400
        length = min(len(samples), len(original))
        assert np.abs(samples[:length] - original[:length]).max() <= error


@given(hnp.arrays(np.int16, st.integers(1, 400)))
def test_what_16_bits_hold_comes_back_bit_for_bit(whole: np.ndarray) -> None:
    samples = whole.astype(np.float32) / 32768
    for codec in ("flac", "flac24"):
        audio, suffix = encode_samples(samples, codec)
        assert suffix == suffix_of(audio) == ".flac"
        np.testing.assert_array_equal(load(AudioRef(data=audio)), samples)


def test_another_call_into_the_folder_is_refused(rows: datasets.Dataset, tmp_path: Path) -> None:
    make(rows.select(range(2)), tmp_path / "out")
    with pytest.raises(UserError, match=r"other codec.*another folder"):
        begin_folder(tmp_path / "out", ShardSettings(shard_mb=0.05, codec="opus"), {"train": "hash"})
    with pytest.raises(UserError, match=r"other rows"):
        begin_folder(tmp_path / "out", ShardSettings(shard_mb=0.05), {"train": "another"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="found files in"):
        begin_folder(tmp_path / "mine", ShardSettings(), {})


def test_a_disk_that_is_too_small_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"GB free for .* h as flac"):
        check_room(tmp_path / "new", 1e15, "flac")
    check_room(tmp_path / "new", 10.0, "flac")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep what data sets write out of the home."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path / "hf_asr"))
    yield
