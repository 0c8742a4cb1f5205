"""Archives are indexed where they lie; a .tar.gz is decompressed once, whole or not at all."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from hf_asr.data import archives
from hf_asr.data.archives import Member, cache_folder, is_archive, plain_tar, tar_index
from hf_asr.errors import UserError

FILES = {"cv/ru/train.tsv": b"path\tsentence\n", "cv/ru/clips/a.mp3": b"sound" * 300, "cv/ru/clips/b.mp3": b"noise" * 7}


def make_tar(path: Path, files: dict[str, bytes] = FILES, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def contents(path: Path, index: dict[str, Member]) -> dict[str, bytes]:
    whole = path.read_bytes()
    return {name: whole[place.offset : place.offset + place.size] for name, place in index.items()}


def test_the_index_tells_where_every_file_lies(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "cv.tar")
    assert plain_tar(path) == path
    assert contents(path, dict(tar_index(path))) == FILES


def test_long_names_links_and_folders(tmp_path: Path) -> None:
    long = "cv/" + "x" * 180 + "/клип.mp3"
    path = tmp_path / "cv.tar"
    with tarfile.open(path, "w") as tar:
        for info in (tarfile.TarInfo("cv"), tarfile.TarInfo("cv/link"), tarfile.TarInfo("./" + long)):
            info.type = {"cv": tarfile.DIRTYPE, "cv/link": tarfile.SYMTYPE}.get(info.name, tarfile.REGTYPE)
            info.linkname = "/etc/passwd" if info.issym() else ""
            info.size = 4 if info.isreg() else 0
            tar.addfile(info, io.BytesIO(b"clip"))
    assert contents(path, dict(tar_index(path))) == {long: b"clip"}


def test_the_index_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_tar(tmp_path / "cv.tar")
    first = dict(tar_index(path))
    archives._tar_index.cache_clear()
    monkeypatch.setattr(archives, "_walk_tar", lambda path: pytest.fail("walked twice"))
    assert dict(tar_index(path)) == first
    assert len(list(cache_folder("archives").glob("*.index"))) == 1


def test_a_changed_archive_is_indexed_anew(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "cv.tar")
    tar_index(path)
    make_tar(path, {"other.tsv": b"12345"})
    assert contents(path, dict(tar_index(path))) == {"other.tsv": b"12345"}


def test_an_index_that_cannot_be_kept_is_only_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path / "file"))
    path = make_tar(tmp_path / "cv.tar")
    assert contents(path, dict(tar_index(path))) == FILES


def test_a_tar_gz_is_decompressed_once_and_announced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_tar(tmp_path / "cv.tar.gz", mode="w:gz")
    with caplog.at_level("INFO"):
        plain = plain_tar(path)
    assert plain.parent == cache_folder("archives")
    assert contents(plain, dict(tar_index(plain))) == FILES
    assert any("decompressing" in record.message and str(plain) in record.message for record in caplog.records)
    stamp = plain.stat().st_mtime_ns
    assert plain_tar(path) == plain
    assert plain.stat().st_mtime_ns == stamp
    assert not list(plain.parent.glob("*.part"))


def test_two_archives_of_one_name_do_not_meet(tmp_path: Path) -> None:
    plains = []
    for folder, content in (("one", b"1"), ("two", b"22")):
        (tmp_path / folder).mkdir()
        plains.append(plain_tar(make_tar(tmp_path / folder / "cv.tar.gz", {"a.tsv": content}, "w:gz")))
    assert contents(plains[0], dict(tar_index(plains[0]))) == {"a.tsv": b"1"}
    assert contents(plains[1], dict(tar_index(plains[1]))) == {"a.tsv": b"22"}


@pytest.mark.parametrize("share", [0.1, 0.6, 0.98])
def test_a_cut_tar_gz_leaves_nothing_behind(tmp_path: Path, share: float) -> None:
    whole = make_tar(tmp_path / "whole.tar.gz", {"a.mp3": os.urandom(40_000)}, "w:gz").read_bytes()
    path = tmp_path / "cv.tar.gz"
    path.write_bytes(whole[: int(len(whole) * share)])
    # The last four bytes of a cut file are no size: take the check of the disk out of the way.
    with pytest.raises(UserError, match=r"cut or damaged|are free in"):
        plain_tar(path)
    assert not [path.name for path in cache_folder("archives").iterdir() if not path.name.endswith(".lock")]


def test_a_damaged_tar_gz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_uncompressed_size", lambda path: 1)
    whole = bytearray(make_tar(tmp_path / "cv.tar.gz", {"a.mp3": os.urandom(40_000)}, "w:gz").read_bytes())
    whole[20_000:20_100] = bytes(100)
    (tmp_path / "cv.tar.gz").write_bytes(whole)
    with pytest.raises(UserError, match="cut or damaged"):
        plain_tar(tmp_path / "cv.tar.gz")


@pytest.mark.parametrize("share", [0.3, 0.75])
def test_a_cut_tar(tmp_path: Path, share: float) -> None:
    whole = make_tar(tmp_path / "whole.tar", {f"{n}.mp3": bytes(3000) for n in range(9)}).read_bytes()
    path = tmp_path / "cv.tar"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=r"cut or damaged|ends inside"):
        tar_index(path)


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_tar(tmp_path / "cv.tar.gz", mode="w:gz")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(UserError, match=r"0\.0 GB are free .* HF_ASR_CACHE"):
        plain_tar(path)
    assert not list(cache_folder("archives").glob("*.tar"))


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_copy_unpacked", full)
    with pytest.raises(UserError, match="No space left on device"):
        plain_tar(make_tar(tmp_path / "cv.tar.gz", mode="w:gz"))
    assert not list(cache_folder("archives").glob("*.tar")) + list(cache_folder("archives").glob(".*.part"))


def test_a_cache_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be decompressed .* HF_ASR_CACHE"):
        plain_tar(make_tar(tmp_path / "cv.tar.gz", mode="w:gz"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cv.tar", None, "found nothing there"),
        ("cv.tar", b"", "another kind of file"),
        ("cv.tar.gz", b"not an archive" * 50, "another kind of file"),
        ("cv.zip", b"PK\x03\x04" + bytes(600), "another kind of file"),
        ("cv.tar", gzip.compress(b"no tar inside" * 900), "cut or damaged"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        tar_index(plain_tar(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "expected"), [("a.tar", True), ("a.TAR.GZ", True), ("a.tgz", True), ("a.tsv", False), ("tar", False)]
)
def test_archives_are_known_by_their_names(name: str, expected: bool) -> None:
    assert is_archive(name) is expected


def test_the_size_of_large_archives_is_told_in_spite_of_32_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gzip's footer holds the size modulo 4 GiB: 87 GB of English are not 1 GB."""
    path = tmp_path / "en.tar.gz"
    path.write_bytes((10**9).to_bytes(4, "little"))
    size = archives._uncompressed_size(path)
    assert size == 10**9
    with open(path, "r+b") as file:
        file.truncate(9 * 10**9)  # sparse: takes no room
        file.seek(-4, os.SEEK_END)
        file.write((10**9).to_bytes(4, "little"))
    assert archives._uncompressed_size(path) == 10**9 + 2 * 2**32


def test_the_cache_is_in_the_home_without_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_ASR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("durations") == tmp_path / ".cache" / "hf_asr" / "durations"
