"""Shards on this machine: the clips of the map-style split, whatever form they have; what is broken is named."""

from __future__ import annotations

import gzip
import os
import pickle
import tarfile
from pathlib import Path

import pytest
from helpers.tiny_shards import clip, make_parquet, make_tars, members_of, write_tar

from hf_asr.config.arguments import DataArguments
from hf_asr.data import shards
from hf_asr.data.corpora import build_splits
from hf_asr.data.stream import Stream
from hf_asr.data.streaming import stream_rows
from hf_asr.errors import UserError
from hf_asr.utterance import Drops


def tars(path: Path, **rest: object) -> DataArguments:
    return DataArguments(corpus="webdataset", path=str(path), **rest)


def parquet(path: Path, **rest: object) -> DataArguments:
    return DataArguments(corpus="hub", name=str(path), **rest)


def opened(data: DataArguments, **rest: object) -> Stream:
    values = {**vars(data), "streaming": True, **rest}
    return stream_rows(DataArguments(**values), "train", 0, Drops())


def ids(stream: Stream) -> list[str]:
    return [row["id"] for row in stream]


@pytest.mark.parametrize(("make", "section"), [(make_tars, tars), (make_parquet, parquet)])
def test_a_stream_of_shards_has_the_rows_of_the_map_style_split(make, section, tmp_path: Path) -> None:
    make(tmp_path / "data", 3, 4)
    stream = opened(section(tmp_path / "data"), shuffle_buffer=1)
    table = build_splits(section(tmp_path / "data"), seed=0, names=["train"])["train"]
    assert stream.by_shard and stream.expected == 12 and stream.shards() == [3]
    assert list(stream) == list(table.rows)
    assert ids(pickle.loads(pickle.dumps(stream))) == list(table.rows["id"])


def test_rows_without_ids_have_the_names_that_they_have_without_streaming(tmp_path: Path) -> None:
    make_parquet(tmp_path / "data", 3, 4, ids=False)
    held_out = {"splits": {"held_out": {"validation": 0.3, "by": "id"}}}
    both = build_splits(parquet(tmp_path / "data", **held_out), seed=0, names=["train", "validation"])
    streamed = ids(opened(parquet(tmp_path / "data", **held_out), shuffle_buffer=1))
    assert streamed == list(both["train"].rows["id"]) and 0 < len(streamed) < 12


def test_lists_outlive_their_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "RECENT", -1.0)
    found = make_parquet(tmp_path / "data", 4, 3)
    stream = opened(parquet(tmp_path / "data"), shard_cache_gb=1e-9)
    assert sorted(ids(stream)) == found
    assert len(list(stream.sources[0].folder.glob("*.arrow"))) <= 1
    assert len(list(stream.sources[0].folder.glob("*.json"))) == 4
    again = opened(parquet(tmp_path / "data"), shard_cache_gb=1e-9)
    monkeypatch.setattr("hf_asr.data.shards.write_table", refuse)
    assert len(list(again.places(1))) == 12  # no shard is opened for that
    monkeypatch.undo()


def refuse(*args: object) -> None:
    raise AssertionError("nothing has to be written")


def test_two_sources_give_no_id_twice(tmp_path: Path) -> None:
    make_tars(tmp_path / "data", 2, 3)
    source = {"corpus": "webdataset", "path": str(tmp_path / "data")}
    found = ids(stream_rows(DataArguments(sources=[source, source], streaming=True), "train", 0, Drops()))
    assert len(set(found)) == 12


def links() -> list[tarfile.TarInfo]:
    found = []
    for name, kind, target in (
        ("b.flac", tarfile.SYMTYPE, "/etc/passwd"),
        ("c.flac", tarfile.LNKTYPE, "../x"),
        ("d.flac", tarfile.FIFOTYPE, ""),
    ):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        found.append(info)
    return found


def test_members_that_lead_out_are_refused(tmp_path: Path) -> None:
    bad = [("../a.flac", b"x"), ("/a.flac", b"x"), ("x/../../a.json", b"{}"), *links()]
    write_tar(tmp_path / "train-0.tar", [*bad, *members_of(0)])
    stream = opened(tars(tmp_path))
    assert ids(stream) == ["clip0000"]
    dropped = dict(stream.take_drops())
    assert set(dropped) == {"../a.flac", "/a.flac", "x/../../a.json", "b.flac", "c.flac", "d.flac"}
    assert all(error.startswith("outside_archive: refused: it leads out of train-0.tar") for error in dropped.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train-0.tar"]


@pytest.mark.parametrize("cut", ["in a clip", "in a header"])
def test_a_truncated_tar_gives_what_stands_before_the_cut(tmp_path: Path, cut: str) -> None:
    make_tars(tmp_path, 2, 3)
    path = tmp_path / "train-001.tar"
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-2]
    os.truncate(path, last.offset_data + 100 if cut == "in a clip" else last.offset + 100)
    stream = opened(tars(tmp_path))
    assert sorted(ids(stream)) == [clip(index)[0] for index in range(5)]
    ((name, error),) = stream.take_drops()
    assert name == "train-001.tar" and error.startswith("truncated_shard: cut or damaged")
    for _ in range(2):  # also when it is listed already
        with pytest.raises(UserError, match=r"on_bad_clip=raise: .*train-001\.tar.*truncated_shard"):
            list(opened(tars(tmp_path), on_bad_clip="raise"))


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "found another kind of file"), (b"<html>Sign in</html>", "another kind"), (bytes(10_240), "")],
    ids=["no bytes", "a page", "no members"],
)
def test_a_shard_without_clips_is_passed_over(tmp_path: Path, content: bytes, told: str) -> None:
    make_tars(tmp_path, 2, 3)
    (tmp_path / "train-000.tar").write_bytes(content)
    stream = opened(tars(tmp_path))
    assert sorted(ids(stream)) == [clip(index)[0] for index in range(3, 6)]
    dropped = stream.take_drops()
    assert len(dropped) == bool(told)
    assert all(name == "train-000.tar" and error.startswith("truncated_shard: ") for name, error in dropped)
    assert all(told in error for _, error in dropped)


def test_a_cut_gzip_of_a_shard_is_passed_over(tmp_path: Path) -> None:
    make_tars(tmp_path, 2, 3)
    path = tmp_path / "train-000.tar"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    (tmp_path / "train-000.tar.gz").write_bytes(packed[: len(packed) // 2])
    stream = opened(tars(tmp_path))
    assert sorted(ids(stream)) == [clip(index)[0] for index in range(3, 6)]
    ((name, error),) = stream.take_drops()
    assert name == "train-000.tar.gz" and "is cut or damaged" in error


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    make_parquet(tmp_path, 2, 3)
    path = tmp_path / "train-00001-of-00002.parquet"
    os.truncate(path, path.stat().st_size - 50)
    with pytest.raises(UserError, match=r"train-00001-of-00002\.parquet is cut or damaged .*fetch it again"):
        opened(parquet(tmp_path))


@pytest.mark.parametrize("on_bad_clip", ["skip", "raise"])
def test_a_shard_that_vanishes(tmp_path: Path, on_bad_clip: str) -> None:
    make_tars(tmp_path, 3, 2)
    stream = opened(tars(tmp_path), on_bad_clip=on_bad_clip)
    (tmp_path / "train-001.tar").unlink()
    if on_bad_clip == "raise":
        with pytest.raises(UserError, match=r"expected the shard .*train-001\.tar, which cannot be had"):
            list(stream)
    else:
        assert len(ids(stream)) == 4
        ((name, error),) = stream.take_drops()
        assert name.endswith("train-001.tar") and error.startswith("missing_shard: ")


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar.gz", [("zeros.wav", bytes(2**24))], mode="w:gz")
    with pytest.raises(UserError, match=r"grows beyond 100 times its [\d,]+ bytes\. It is refused"):
        list(opened(tars(tmp_path)))
    left = [path for path in Path(os.environ["HF_ASR_CACHE"]).rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []


def test_a_compressed_shard_is_read(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar.gz", [*members_of(0), *members_of(1)], mode="w:gz")
    assert sorted(ids(opened(tars(tmp_path)))) == ["clip0000", "clip0001"]


def test_what_a_clip_may_lack(tmp_path: Path) -> None:
    audio = clip(0)[2]
    write_tar(
        tmp_path / "train-0.tar",
        [
            ("x/a.flac", audio),
            ("x/a.txt", b"hello"),
            ("b.txt", b"no audio"),
            ("c.flac", audio),
            ("d.flac", audio),
            ("d.json", b"{broken"),
            ("e.flac", b"no audio at all"),
            ("e.txt", b"hello"),
        ],
    )
    stream = opened(tars(tmp_path))
    rows = list(stream)
    assert [(row["id"], row["text"]) for row in rows] == [("x/a", "hello")]
    reasons = {error.split(":")[0] for _, error in stream.take_drops()}
    assert reasons == {"missing_audio", "empty_text", "bad_row", "broken_audio"}


@pytest.mark.parametrize(
    ("path", "split", "words"),
    [
        (None, "train", "needs data.path"),
        ("nowhere", "train", "expected a folder of .tar shards"),
        (".", "test", "expected shards of test in"),
        ("none-*.tar", "train", "found none. Check the pattern"),
    ],
)
def test_shards_that_are_not_there(tmp_path: Path, path: str | None, split: str, words: str) -> None:
    make_tars(tmp_path, 1, 1)
    data = DataArguments(corpus="webdataset", path=None if path is None else str(tmp_path / path))
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        build_splits(data, seed=0, names=[split])


def test_splits_are_found_by_folder_name_and_pattern(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", members_of(0))
    write_tar(tmp_path / "dev-0.tar", members_of(1))
    write_tar(tmp_path / "more" / "x-0.tar", members_of(2))
    data = tars(tmp_path, splits={"test": "more/x-{0..0}.tar"})
    found = build_splits(data, seed=0)
    assert [list(found[name].rows["id"]) for name in found] == [["clip0000"], ["clip0001"], ["clip0002"]]
