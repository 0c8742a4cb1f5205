"""A cache is written whole or not at all, is found again, and gives what encoding on the fly gives."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
from helpers.clips import noise, row_of, split_of, write_clip
from helpers.streams import stream_of_table
from helpers.tiny_whisper import tiny_tokenizer
from transformers import WhisperFeatureExtractor

from hf_asr.config.arguments import FeatureArguments
from hf_asr.data.corpora import Split
from hf_asr.errors import UserError
from hf_asr.features import cache
from hf_asr.features.cache import PreparedSplit, prepare_features
from hf_asr.features.collate import Seq2SeqCollator, WindowPadder
from hf_asr.features.extract import ClipEncoder, LogMel, TokenLabels
from hf_asr.features.fingerprint import rows_hash
from hf_asr.features.streamed import StreamRows

TOKENIZER = tiny_tokenizer()


@pytest.fixture
def encoder() -> ClipEncoder:
    prefix = (TOKENIZER.get_vocab()["<|notimestamps|>"],)
    labeller = TokenLabels(TOKENIZER, prefix=prefix, end_token=TOKENIZER.eos_token_id, max_tokens=64)
    return ClipEncoder(LogMel(WhisperFeatureExtractor(chunk_length=4)), labeller)


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Five clips, the second missing and the fourth too short."""
    paths = [
        write_clip(tmp_path / f"{index}.wav", noise(seconds, index))
        for index, seconds in enumerate((0.5, 1.0, 1.5, 0.1, 2.0))
    ]
    paths[1].unlink()
    return [row_of(path, f"text {path.stem}") for path in paths]


def prepare(
    split: Split,
    encoder: ClipEncoder,
    given: Mapping[str, Any] | None = None,
    on_bad_clip: str = "skip",
    **features: Any,
) -> PreparedSplit:
    return prepare_features(
        split, encoder, fingerprint=given or {}, features=FeatureArguments(**features), on_bad_clip=on_bad_clip
    )


def read_all(split: Split, encoder: ClipEncoder, **options: Any) -> Iterator[dict[str, Any]]:
    rows = prepare(split, encoder, **options).rows
    yield from rows if isinstance(rows, StreamRows) else (rows[index] for index in range(len(rows)))


def caches() -> list[str]:
    """Names of everything in this test's cache folder but locks."""
    folder = Path(os.environ["HF_ASR_CACHE"])
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []


@pytest.mark.parametrize("num_proc", [1, 2])
def test_cached_rows_equal_rows_on_the_fly(rows: list[dict[str, Any]], encoder: ClipEncoder, num_proc: int) -> None:
    split = split_of(rows)
    stream = Split("train", stream_of_table(split.rows), split.drops, None, [])
    expected = [row for row in read_all(split, encoder, cache=False) if not row["error"]]
    assert [row["id"] for row in expected] == ["0", "2", "4"]
    for found in (read_all(split, encoder, num_proc=num_proc), read_all(stream, encoder)):
        for row, other in zip((row for row in found if not row["error"]), expected, strict=True):
            assert row["input_features"].dtype == np.float16
            np.testing.assert_array_equal(row["input_features"], other["input_features"])
            assert {**row, "input_features": 0} == {**other, "input_features": 0}


def test_columns_are_those_of_the_rows_that_are_left(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    prepared = prepare(split_of(rows), encoder)
    assert prepared.column("id") == ["0", "2", "4"]
    assert prepared.column("text") == ["text 0", "text 2", "text 4"]
    assert prepared.column("duration") == [0.5, 1.5, 2.0]
    assert prepared.column("speaker") == ["speaker"] * 3


def test_drops_are_named_also_when_the_cache_is_reused(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    first, second = (prepare(split_of(rows), encoder) for _ in range(2))
    assert (first.reused, second.reused) == (False, True)
    assert first.drops.counts() == second.drops.counts() == {"broken_audio": 1, "too_short": 1}
    assert second.drops.reasons["too_short"] == [("3", "0.10 s, data.min_seconds is 0.3")]
    assert first.folder == second.folder


def test_a_reused_cache_encodes_nothing(
    rows: list[dict[str, Any]], encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(split_of(rows), encoder)
    monkeypatch.setattr(cache, "encode_row", None)
    with caplog.at_level(logging.INFO, logger="hf_asr"):
        assert len(prepare(split_of(rows), encoder).rows) == 3
    assert "3 clips reused from" in caplog.text


def test_a_changed_setting_makes_a_new_cache(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    split = split_of(rows)
    folders = {
        prepare(split, encoder).folder,
        prepare(split, replace(encoder, labeller=replace(encoder.labeller, text_pipeline="basic"))).folder,
        prepare(split, replace(encoder, store_dtype="float32")).folder,
        prepare(split, encoder, {"revision": "another"}).folder,
        prepare(split_of([*rows[:4], rows[4] | {"text": "other words"}]), encoder).folder,
        prepare(split_of(rows, "test"), encoder).folder,
    }
    assert len(folders) == 6
    assert len(caches()) == 6


def test_changed_audio_makes_a_new_cache(rows: list[dict[str, Any]], encoder: ClipEncoder, tmp_path: Path) -> None:
    prepare(split_of(rows), encoder)
    write_clip(tmp_path / "2.wav", noise(1.0, 99))
    changed = prepare(split_of(rows), encoder)
    assert not changed.reused
    assert changed.column("duration") == [0.5, 1.0, 2.0]


def test_float32_is_kept(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    prepared = prepare(split_of(rows), replace(encoder, store_dtype="float32"))
    assert prepared.rows[1]["input_features"].dtype == np.float32
    assert prepared.rows[1]["input_features"].shape == (152, 80)


def test_rows_feed_the_collator(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    collate = Seq2SeqCollator(WindowPadder(400, 80), start_token=257, pad_token=256)
    live = prepare(split_of(rows), encoder, cache=False)
    batch = collate([live.rows[index] for index in range(5)])
    assert batch["ids"] == ["0", "2", "4"]
    assert [id for id, _ in batch["skipped"]] == ["1", "3"]


def test_a_stream_keeps_the_places_of_bad_rows(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    split = split_of(rows)
    found = list(read_all(Split("train", stream_of_table(split.rows), split.drops, None, []), encoder))
    assert [row["error"].partition(":")[0] for row in found] == ["", "broken_audio", "", "too_short", ""]
    collate = Seq2SeqCollator(WindowPadder(400, 80), start_token=257, pad_token=256)
    assert [id for id, _ in collate(found)["skipped"]] == ["1", "3"]


@pytest.mark.parametrize("features", [{"num_proc": 1}, {"num_proc": 2}, {"cache": False}])
def test_raise_stops_at_a_bad_clip_and_names_it(
    rows: list[dict[str, Any]], encoder: ClipEncoder, features: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"found [13]: (broken_audio|too_short).*data.on_bad_clip=skip"):
        list(read_all(split_of(rows), encoder, on_bad_clip="raise", **features))
    assert caches() == []


def test_raise_also_holds_for_a_reused_cache(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    prepare(split_of(rows), encoder)
    with pytest.raises(UserError, match=r"data.on_bad_clip=raise: expected every clip to be usable, found 1: broken"):
        prepare(split_of(rows), encoder, on_bad_clip="raise")


def test_no_clip_left_is_told_with_the_reasons(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match="none left: broken_audio: 1 left out: 1"):
            prepare(split_of(rows[1:2]), encoder)


@pytest.mark.parametrize("damage", ["manifest gone", "manifest cut", "data cut", "data gone"])
def test_a_damaged_cache_is_written_again(rows: list[dict[str, Any]], encoder: ClipEncoder, damage: str) -> None:
    folder = prepare(split_of(rows), encoder).folder
    assert folder is not None
    victim = folder / "manifest.json" if damage.startswith("manifest") else next(folder.glob("*.arrow"))
    if damage.endswith("gone"):
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:100])
    again = prepare(split_of(rows), encoder)
    assert not again.reused
    assert again.column("id") == ["0", "2", "4"]
    assert cache.is_whole(folder)


def test_what_an_interrupted_write_left_is_never_used_and_removed(
    rows: list[dict[str, Any]], encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_write_manifest", killed)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # kill -9 cleans nothing up
        with pytest.raises(KeyboardInterrupt):
            prepare(split_of(rows), encoder)
    (left,) = caches()
    assert left.endswith(".unfinished")
    prepared = prepare(split_of(rows), encoder)
    assert not prepared.reused
    assert prepared.folder is not None
    assert caches() == [prepared.folder.name]


def test_workers_end_when_their_parent_was_killed(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    for parent in (os.getpid(), os.getppid()):
        encoded = cache._encode_batch(batch, encoder, "skip", main_process=parent)
        assert [bool(error) for error in encoded["error"]] == [False, True, False, True, False]
    with pytest.raises(SystemExit):
        cache._encode_batch(batch, encoder, "skip", main_process=2**30)


def test_the_manifest_tells_what_is_in_the_cache(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    folder = prepare(split_of(rows), encoder, {"model": "some/model"}).folder
    assert folder is not None
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["clips"] == 3
    assert manifest["settings"]["given"] == {"model": "some/model"}
    assert manifest["settings"]["encoder"]["text_pipeline"] == "none"
    assert manifest["drops"]["too_short"][0][0] == "3"


def _prepare_elsewhere(split: Split, encoder: ClipEncoder, results: Any) -> None:
    prepared = prepare(split, encoder, num_proc=1)
    results.put((prepared.reused, len(prepared.rows)))


def test_two_processes_write_one_cache(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    several = [context.Process(target=_prepare_elsewhere, args=(split_of(rows), encoder, results)) for _ in range(3)]
    for process in several:
        process.start()
    found = sorted(results.get(timeout=60) for _ in several)
    for process in several:
        process.join(60)
    assert found == [(False, 3), (True, 3), (True, 3)]
    assert len(caches()) == 1


def test_a_disk_too_small_is_told_before_anything_is_written(
    rows: list[dict[str, Any]], encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = [row | {"duration": 100.0} for row in rows]
    needed = 5 * 100 * 16_000 + 5 * 400
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(UserError, match=r"expected [\d.,]+ MB free in .*features.cache_dir to another disk"):
        prepare(split_of(timed), encoder)
    assert caches() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    assert len(prepare(split_of(timed), encoder).rows) == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_leaves_nothing_behind(
    rows: list[dict[str, Any]], encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: object, **options: Any) -> None:
        Path(options["cache_file_name"]).write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(datasets.Dataset, "map", full)
    with pytest.raises(UserError, match=r"room to write [\d.]+ MB in .*the disk is full; what was begun is removed"):
        prepare(split_of(rows), encoder)
    assert caches() == []


def test_other_faults_of_the_disk_are_not_hidden(
    rows: list[dict[str, Any]], encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(datasets.Dataset, "map", broken)
    with pytest.raises(OSError, match="Input/output error"):
        prepare(split_of(rows), encoder)


def test_a_cache_folder_that_cannot_be_made(rows: list[dict[str, Any]], encoder: ClipEncoder, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("")
    for place in (tmp_path / "a_file", tmp_path / "a_file" / "below"):
        with pytest.raises(UserError, match=r"features.cache_dir: .*cannot be written"):
            prepare(split_of(rows), encoder, cache_dir=str(place))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_cache(
    rows: list[dict[str, Any]], encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    prepare(split_of(rows), encoder)
    monkeypatch.setattr(cache, "only_one", refuse)
    assert prepare(split_of(rows), encoder).reused, "a whole cache is read from a read-only disk"
    with pytest.raises(UserError, match=r"cannot be written .*features.cache=false"):
        prepare(split_of(rows), replace(encoder, level="peak"))


def test_where_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.cache_dir(FeatureArguments()) == Path(os.environ["HF_ASR_CACHE"])
    assert cache.cache_dir(FeatureArguments(cache_dir=str(tmp_path))) == tmp_path
    monkeypatch.delenv("HF_ASR_CACHE")
    assert cache.cache_dir(FeatureArguments()) == Path.home() / ".cache/hf_asr/features"


@pytest.mark.parametrize(
    ("num_proc", "rows", "cores", "expected"),
    [("auto", 10, 8, 1), ("auto", 900, 8, 4), ("auto", 9000, 8, 8), (3, 9000, 8, 3), (16, 2, 8, 2)],
)
def test_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, num_proc: int | str, rows: int, cores: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert cache.num_processes(FeatureArguments(num_proc=num_proc), rows) == expected


def test_processes_that_write_parts_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cache.num_processes(FeatureArguments(), 9000, sharers=4) == 2
    assert cache.num_processes(FeatureArguments(), 9000, sharers=16) == 1


def test_forecast(encoder: ClipEncoder, rows: list[dict[str, Any]]) -> None:
    assert cache.forecast_bytes(60.0, 10, encoder) == 60 * 16_000 + 4_000
    folder = prepare(split_of(rows), encoder).folder
    assert folder is not None
    size = sum(path.stat().st_size for path in folder.glob("*.arrow"))
    assert size == pytest.approx(cache.forecast_bytes(4.0, 5, encoder), rel=0.1)


@pytest.mark.parametrize("change", ["id", "text", "speaker", "start", "data"])
def test_rows_hash_sees_every_part_of_a_row(rows: list[dict[str, Any]], change: str) -> None:
    held = rows[0] | {"audio": rows[0]["audio"] | {"data": b"123"}}
    value = {"start": 0.5, "data": b"124"}.get(change, "another")
    changed = {"audio": held["audio"] | {change: value}} if change in held["audio"] else {change: value}
    other = held | changed
    assert rows_hash(split_of([held, rows[2]]).rows) == rows_hash(split_of([held, rows[2]]).rows)
    assert rows_hash(split_of([held, rows[2]]).rows) != rows_hash(split_of([other, rows[2]]).rows)


def test_rows_hash_sees_the_order_and_survives_selection(rows: list[dict[str, Any]]) -> None:
    split = split_of(rows)
    assert rows_hash(split.rows.select([4, 0])) == rows_hash(split_of([rows[4], rows[0]]).rows)
    assert rows_hash(split.rows.select([4, 0])) != rows_hash(split.rows.select([0, 4]))
