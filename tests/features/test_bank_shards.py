"""Shards of a bank: kept when it is interrupted, mended alone when damaged, written by several processes together."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_asr.config.arguments import FeatureArguments
from hf_asr.errors import UserError
from hf_asr.features import bank, bank_shards
from hf_asr.features.bank import BankPlace, bank_split, whole_bank
from hf_asr.features.bank_room import BankShape
from hf_asr.features.bank_shards import is_written
from hf_asr.features.cache import PreparedSplit
from hf_asr.utterance import Drops

SHAPE = BankShape(layers=1, width=4, states_per_second=10)
LENGTHS = (4, 7, 1, 6, 3, 5, 2)


class Table:
    """Columns of a split."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __getitem__(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]


def split_of(folder: str = "train-abc", errors: Mapping[int, str] = {}) -> PreparedSplit:
    kept = {"text": "", "label": "", "speaker": "s", "labels": [1]}
    rows = [
        kept
        | {"id": f"clip{index}", "duration": length / 10, "error": errors.get(index, "")}
        | {"input_features": np.full((length, 2), index, dtype=np.float16)}
        for index, length in enumerate(LENGTHS)
    ]
    return PreparedSplit("train", rows, Table(rows), Drops(), Path(folder))  # type: ignore[arg-type]


def states(row: Mapping[str, Any]) -> np.ndarray:
    length = len(row["input_features"])
    return (float(row["input_features"][0, 0]) + np.arange(length * 4) / 64).reshape(1, length, 4).astype(np.float16)


class Encode:
    """Makes states and notes whose; stops at a clip when told."""

    def __init__(self, stop_at: str = "") -> None:
        self.ids: list[str] = []
        self.stop_at = stop_at

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        if any(row["id"] == self.stop_at for row in rows):
            raise KeyboardInterrupt
        self.ids += [row["id"] for row in rows]
        return [states(row) for row in rows]


def fill(folder: Path, encode: Any, split: PreparedSplit | None = None, **changes: Any) -> PreparedSplit:
    options: dict[str, Any] = {"settings": {"encoder": "one"}, "batch_size": 2, "shape": SHAPE} | changes
    return bank_split(split or split_of(), encode, features=FeatureArguments(cache_dir=str(folder)), **options)


def assert_right(found: PreparedSplit) -> None:
    assert found.column("id") == [f"clip{index}" for index in range(len(LENGTHS))]
    for index, row in enumerate(split_of().rows):
        np.testing.assert_array_equal(found.rows[index]["input_features"], states(row))  # type: ignore[index]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut 7 clips into 4 shards of 2."""
    monkeypatch.setattr(bank, "SHARD_BYTES", 80)


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("hf_asr"), "propagate", True)
    caplog.set_level(logging.INFO, logger="hf_asr")
    return caplog


def test_an_interrupted_bank_goes_on_where_it_stopped(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    first, second = Encode(stop_at="clip5"), Encode()
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, first)
    assert not list(tmp_path.rglob("*.unfinished"))
    found = fill(tmp_path, second)
    assert first.ids == ["clip0", "clip1", "clip2", "clip3"] and second.ids == ["clip4", "clip5", "clip6"]
    assert "2 of 4 shards are there, going on" in messages.text
    assert_right(found)


def test_what_a_kill_left_of_a_shard_is_written_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, Encode(stop_at="clip4"))
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    (folder / "states-00002.bin.unfinished").write_bytes(b"half of it")
    (folder / "states-00001.json").write_text("{")  # no record, no shard
    again = Encode()
    assert_right(fill(tmp_path, again))
    assert again.ids == ["clip2", "clip3", "clip4", "clip5", "clip6"]
    assert not list(tmp_path.rglob("*.unfinished"))


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "why"), [(damage, "its xxHash is not the one written"), (Path.unlink, "it cannot be read")]
)
@pytest.mark.parametrize("file", ["states-00001.bin", "index-00001.arrow"])
def test_a_damaged_or_lost_shard_is_built_again_alone_and_said(
    tmp_path: Path, messages: pytest.LogCaptureFixture, file: str, harm: Callable[[Path], None], why: str
) -> None:
    folder = fill(tmp_path, Encode()).folder
    assert folder is not None
    harm(folder / file)
    others = {path.name: path.stat().st_mtime_ns for path in folder.glob("states-*.bin") if "00001" not in path.name}
    again = Encode()
    assert_right(fill(tmp_path, again))
    assert again.ids == ["clip2", "clip3"]
    assert f"{file} in {folder} is damaged ({why})" in messages.text and "built again, alone" in messages.text
    assert {name: (folder / name).stat().st_mtime_ns for name in others} == others
    assert fill(tmp_path, Encode()).reused


def test_a_truncated_shard_is_built_again_alone_and_said(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    folder = fill(tmp_path, Encode()).folder
    assert folder is not None
    (folder / "states-00003.bin").write_bytes(b"short")
    again = Encode()
    assert_right(fill(tmp_path, again))
    assert again.ids == ["clip6"]
    assert f"states-00003.bin in {folder} is damaged" in messages.text and "built again, alone" in messages.text


@pytest.mark.parametrize("record", ["", "[]", '{"rows": [', '{"rows": [2, 4]}', '{"xxh3_128": {}}', None])
def test_a_shard_whose_record_is_lost_is_built_again_alone_and_said(
    tmp_path: Path, messages: pytest.LogCaptureFixture, record: str | None
) -> None:
    folder = fill(tmp_path, Encode()).folder
    assert folder is not None
    path = folder / "states-00001.json"
    path.unlink() if record is None else path.write_text(record)
    again = Encode()
    assert_right(fill(tmp_path, again))
    assert again.ids == ["clip2", "clip3"]
    assert f"states-00001.json in {folder} is damaged" in messages.text
    assert "is of another model" not in messages.text
    assert fill(tmp_path, Encode()).reused


def test_what_an_interrupted_bank_has_is_checked_before_it_goes_on(
    tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, Encode(stop_at="clip6"))
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    content = bytearray((folder / "states-00001.bin").read_bytes())
    content[0] ^= 1
    (folder / "states-00001.bin").write_bytes(content)
    again = Encode()
    assert_right(fill(tmp_path, again))
    assert again.ids == ["clip2", "clip3", "clip6"]
    assert f"states-00001.bin in {folder} is damaged" in messages.text
    assert "2 of 4 shards are there, going on" in messages.text


def test_a_bank_that_another_process_finds_damaged_is_opened_by_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process hashes its share: the others must not go on with what one of them writes again."""
    place = BankPlace.of("train", "train-abc", SHAPE, {"encoder": "one"}, FeatureArguments(cache_dir=str(tmp_path)))
    fill(tmp_path, Encode())
    told: list[list[bool]] = []
    monkeypatch.setattr(bank, "gather_object", lambda mine: told.append(mine) or [*mine, False])
    assert whole_bank(place, (0, 2)) is None and told == [[True]]
    monkeypatch.setattr(bank, "gather_object", lambda mine: [*mine, True])
    assert whole_bank(place, (0, 2)) is not None


@pytest.mark.parametrize("file", ["states-00001.bin", "index-00001.arrow", "states-00001.json"])
def test_nothing_is_copied_from_a_damaged_shard_of_another_bank(tmp_path: Path, file: str) -> None:
    folder = fill(tmp_path, Encode()).folder
    assert folder is not None
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content if file != "states-00001.json" else b"{")
    again = Encode()
    assert_right(fill(tmp_path, again, split_of("train-other")))
    assert again.ids == ["clip2", "clip3"]


def test_each_process_checks_its_share_of_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, Encode())
    checked: list[int] = []
    monkeypatch.setattr(bank_shards, "damaged_file", lambda folder, number: checked.append(number) or "")
    for index in range(3):
        fill(tmp_path, Encode(), part=(index, 3))
    assert checked == [0, 3, 1, 2]


def test_the_bank_of_another_model_is_never_read(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    first = fill(tmp_path, Encode())
    encode = Encode()
    second = fill(tmp_path, encode, settings={"encoder": "two"})
    assert len(encode.ids) == 7 and not second.reused and second.folder != first.folder
    assert f"{first.folder.name} in {tmp_path} is of another model" in messages.text  # type: ignore[union-attr]
    shutil.rmtree(second.folder)  # type: ignore[arg-type]
    shutil.copytree(first.folder, second.folder)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"expected a bank of this model .*, found one with another encoder\. Delete"):
        fill(tmp_path, Encode(), settings={"encoder": "two"})


def test_a_whole_bank_is_opened_without_its_split(tmp_path: Path) -> None:
    split = split_of(errors={1: "broken_audio: no header"})
    features = FeatureArguments(cache_dir=str(tmp_path))
    place = BankPlace.of("train", "train-abc", SHAPE, {"encoder": "one"}, features)
    assert whole_bank(place) is None
    fill(tmp_path, Encode(), split)
    found = whole_bank(place)
    assert found is not None and found.reused and len(found.rows) == 6
    assert found.drops.to_dict() == {"broken_audio": [["clip1", "no header"]]}


def test_what_is_there_counts_towards_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, Encode(stop_at="clip6"))
    usage = shutil.disk_usage(tmp_path)
    needed = SHAPE.forecast(sum(LENGTHS) / 10, len(LENGTHS))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 150))
    assert_right(fill(tmp_path, Encode()))
    with pytest.raises(UserError, match=r"features.bank: expected 0.00 GB free in .*, found 0.00 GB"):
        fill(tmp_path, Encode(), settings={"encoder": "two"})


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    def full(rows: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        raise OSError(28, "No space left on device")

    with pytest.raises(
        UserError, match=r"expected room to write .* No space left on device; what was begun is removed"
    ):
        fill(tmp_path, full)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_disk_that_fills_up_keeps_the_shards_that_are_whole(tmp_path: Path) -> None:
    encode = Encode()

    def full(rows: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        if rows[0]["id"] in ("clip4", "clip5"):
            raise OSError(28, "No space left on device")
        return encode(rows)

    with pytest.raises(
        UserError, match=r"what was begun is removed, 2 whole shards are kept: make room and start again"
    ):
        fill(tmp_path, full)
    assert not list(tmp_path.rglob("*.unfinished"))
    again = Encode()
    assert_right(fill(tmp_path, again))
    assert again.ids == ["clip4", "clip5", "clip6"]


def test_a_shard_without_its_record_is_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is written last: when the disk fills up before it, states and index are there already."""
    write_whole = bank_shards.write_whole

    def full(path: Path, text: str) -> None:
        if path.name == "states-00001.json":
            raise OSError(28, "No space left on device")
        write_whole(path, text)

    monkeypatch.setattr(bank_shards, "write_whole", full)
    with pytest.raises(UserError, match=r"what was begun is removed, 1 whole shards are kept"):
        fill(tmp_path, Encode())
    assert not list(tmp_path.rglob("states-00001*")) and not list(tmp_path.rglob("index-00001*"))
    monkeypatch.setattr(bank_shards, "write_whole", write_whole)
    assert_right(fill(tmp_path, Encode()))


def test_a_shard_that_cannot_be_closed_leaves_nothing_unfinished(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def close(self) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), bank_shards.ShardWriter(tmp_path, 0) as writer:
        writer.add([split_of().rows[0]], [np.zeros((1, 4, 4))])
        assert writer.states is not None
        writer.states.close()
        writer.states = Full()
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def _fill_in_a_process(folder: str, ids: Any) -> None:
    bank.SHARD_BYTES = 80
    encode = Encode()
    assert_right(fill(Path(folder), encode))
    ids.put(encode.ids)


def test_processes_write_one_bank_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ids = context.Queue()
    processes = [context.Process(target=_fill_in_a_process, args=(str(tmp_path), ids)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    encoded = [id for _ in processes for id in ids.get(timeout=10)]
    assert sorted(encoded) == [f"clip{index}" for index in range(7)]  # each clip by one of them


def test_a_record_says_what_a_shard_holds(tmp_path: Path) -> None:
    folder = fill(tmp_path, Encode()).folder
    assert folder is not None
    record = json.loads((folder / "states-00001.json").read_text())
    assert record["rows"] == [2, 4] and record["clips"] == 2
    assert record["files"]["states-00001.bin"] == (1 + 6) * 4 * 2
    assert {len(digest) for digest in record["xxh3_128"].values()} == {32}
    assert is_written(folder, 1, range(2, 4)) and not is_written(folder, 1, range(2, 5))
