"""A disk that fills up while shards are written: one message, nothing half-written, and the same command goes on."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from helpers.faulty_server import Plan, faulty_server
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_shards import make_parquet, make_tars

from hf_asr.cli import main
from hf_asr.config.arguments import DataArguments
from hf_asr.data import remote, row_table, shard_folder, shard_making
from hf_asr.data.stream import Stream
from hf_asr.data.streaming import stream_rows
from hf_asr.errors import UserError
from hf_asr.utterance import Drops

# What is written -> (owner, name, how many go well before the disk is full).
PLACES: dict[str, tuple[Any, str, int]] = {
    "rows of Parquet": (pyarrow.parquet.ParquetWriter, "write_table", 2),
    "the end of a Parquet file": (pyarrow.parquet.ParquetWriter, "close", 2),
    "a clip of a tar": (tarfile.TarFile, "addfile", 7),
    "the end of a tar": (tarfile.TarFile, "close", 2),
    "the flush of a shard": (os, "fsync", 10),
    "the record of a shard": (shard_making, "write_whole", 1),
    "the list of shards": (shard_folder, "write_whole", 1),
}


def fails_after(real: Callable[..., Any], times: int) -> Callable[..., Any]:
    """Return a function that does its work so many times, and finds the disk full from then on."""
    left = [times]

    def fake(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **options)

    return fake


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command line; shards of a clip or two."""
    yaml = tiny_yaml(tmp_path, tmp_path / "no-model-is-needed", make_tiny_corpus(tmp_path / "corpus", 6, 2, 2))
    return ["prepare-shards", "--config", str(yaml), "--output-dir", str(tmp_path / "out"), "--shard-mb", "0.05"]


# The Parquet writer tries once more when it is collected, which the stand-in refuses for ever.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", PLACES)
def test_it_is_told_and_the_same_command_goes_on(
    words: list[str], tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["--format", "webdataset" if "tar" in place else "parquet"]
    owner, name, times = PLACES[place]
    with monkeypatch.context() as broken:
        broken.setattr(owner, name, fails_after(getattr(owner, name), times))
        assert main(words) == 2
    (told,) = capsys.readouterr().err.splitlines()
    needed = "room for the list of shards" if place == "the list of shards" else "MB for the 0.00 h that are left"
    assert told.startswith("hf-asr prepare-shards: --output-dir: expected ") and needed in told
    assert f"the disk of {tmp_path / 'out'} full" in told and "goes on there" in told
    out = tmp_path / "out"
    assert not (out / "shards.json").exists() and not (out / "README.md").exists()
    assert not list(out.rglob("*.part"))
    kept = {path: path.stat().st_mtime_ns for path in recorded(out)}
    assert len(kept) > 0
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    sums = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert sys.platform != "linux" or subprocess.run(sums, cwd=out, check=False).returncode == 0


def recorded(out: Path) -> list[Path]:
    """Return the finished shards."""
    splits = ("train", "validation", "test")
    return [out / record.name for split in splits for record in shard_making.read_records(out, split)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 200 kB; skipped where none can be mounted."""
    out = tmp_path / "out"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(out)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of its own can only be mounted by root on Linux")
    yield out
    subprocess.run(["umount", "-l", str(out)], check=True)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_a_disk_that_is_really_full(
    words: list[str], small_disk: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--format", form, "--codec", "keep"]) == 2
    gc.collect()  # a Parquet writer writes its footer when it is collected
    (told,) = capsys.readouterr().err.splitlines()
    assert f"expected room for the 0.00 h that are left, found the disk of {small_disk} full" in told
    left = [path.name for path in small_disk.rglob("*") if path.is_file()]
    assert "shards.json" not in left and not [name for name in left if name.endswith(".part")]


def test_finished_shards_need_no_room(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(shard_folder, "write_whole", fails_after(shard_folder.write_whole, 1))
        assert main(words) == 2
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    assert main(words) == 0


@pytest.mark.parametrize(("make", "corpus"), [(make_tars, "webdataset"), (make_parquet, "hub")])
def test_the_cache_of_a_stream(make: Any, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "data", 3, 2)

    def opened() -> Stream:
        data = DataArguments(corpus=corpus, path=str(tmp_path / "data"), streaming=True)
        return stream_rows(data, "train", 0, Drops())

    cache = Path(os.environ["HF_ASR_CACHE"]) / "shards"
    with monkeypatch.context() as broken:
        broken.setattr(row_table.os, "fsync", fails_after(os.fsync, 2))
        with pytest.raises(
            UserError, match=rf"write a shard's clips into {cache}, found .*No space left.*shard_cache_gb"
        ):
            list(opened())
    assert not [path for path in cache.iterdir() if path.suffix not in (".arrow", ".json", ".lock")]
    assert len(list(opened())) == 6


def test_a_shard_that_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tars(tmp_path / "served", 1, 2)
    monkeypatch.setattr(remote.os, "fsync", fails_after(os.fsync, 0))
    with faulty_server(tmp_path / "served", Plan()) as address:
        data = DataArguments(corpus="webdataset", path=f"{address}/train-000.tar", streaming=True)
        with pytest.raises(UserError, match="No space left"):
            list(stream_rows(data, "train", 0, Drops()))
    left = [path for path in Path(os.environ["HF_ASR_CACHE"]).rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []
