"""A corpus in a .tar.gz: the gzip is read forward and once, and preparation reads each clip once."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import pytest
from helpers.clips import noise
from helpers.tiny_families import Parts

from hf_asr.config.arguments import DataArguments
from hf_asr.data import archives, audio, durations
from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.data.corpora import Split, build_splits
from hf_asr.features.prepare import prepare_splits

CLIPS = 12


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts.of("whisper", tmp_path_factory.mktemp("whisper"))


class ForwardOnly(gzip.GzipFile):
    """A gzip that may be read on, and counts what it gives."""

    given = 0

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(fileobj=file, mode="rb")

    def read(self, size: int | None = -1) -> bytes:
        """Count and read on."""
        block = super().read(size)
        ForwardOnly.given += len(block)
        return block

    def seek(self, *args: Any) -> int:
        """Refuse: what lies before would be decompressed again."""
        raise AssertionError("a gzip is sought")


class Opened:
    """A clip's file, whose reads are noted as (first byte, bytes)."""

    reads: ClassVar[list[tuple[int, int]]] = []

    def __init__(self, path: str, mode: str) -> None:
        self.file = io.FileIO(path, mode)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *args: Any) -> None:
        self.file.close()

    def seek(self, offset: int) -> None:
        """Go to a member."""
        self.file.seek(offset)

    def read(self, size: int) -> bytes:
        """Read a member."""
        Opened.reads.append((self.file.tell(), size))
        return bytes(self.file.read(size))


def release(folder: Path) -> Path:
    """Write a .tar.gz of a Common Voice release whose table names the clips in another order than the archive has."""
    inside = folder / "ru"
    (inside / "clips").mkdir(parents=True)
    names = [f"clip{number:02}.mp3" for number in range(CLIPS)]
    for number, name in enumerate(names):
        (inside / "clips" / name).write_bytes(encode(noise(0.6, number), SAMPLE_RATE, "mp3"))
    order = np.random.default_rng(0).permutation(CLIPS)
    rows = [f"speaker\t{names[number]}\tone two\t2\t0\tru" for number in order]
    for table in ("train", "dev"):
        lines = ["client_id\tpath\tsentence\tup_votes\tdown_votes\tlocale", *(rows if table == "train" else rows[:2])]
        (inside / f"{table}.tsv").write_text("\n".join(lines) + "\n")
    with tarfile.open(folder / "ru.tar.gz", "w:gz") as tar:
        for name in ["train.tsv", "dev.tsv", *(f"clips/{name}" for name in names)]:
            tar.add(inside / name, f"cv/ru/{name}")
    return folder / "ru.tar.gz"


def splits_of(archive: Path) -> dict[str, Split]:
    data = DataArguments(corpus="common_voice", path=str(archive), language="ru")
    return build_splits(data, seed=0, names=["train", "validation"])


def test_a_gzip_is_read_forward_once_and_every_clip_once(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = release(tmp_path)
    monkeypatch.setattr(archives.gzip, "open", ForwardOnly)
    monkeypatch.setattr(audio, "open", Opened, raising=False)
    monkeypatch.setattr(durations, "_THREADS", 1)
    ForwardOnly.given = 0
    Opened.reads.clear()
    splits = splits_of(archive)
    plain = archives.plain_tar(archive)
    places = sorted((place.offset, place.size) for name, place in archives.tar_index(plain).items() if ".mp3" in name)
    assert len(places) == CLIPS and Opened.reads == places, "lengths are read in the archive's order"
    Opened.reads.clear()
    assert ForwardOnly.given == plain.stat().st_size
    prepared = prepare_splits({"train": splits["train"]}, parts.encoder, parts.arguments)
    assert sorted(Opened.reads) == places
    assert prepared["train"].column("id") == [row["id"] for row in splits["train"].rows]
    assert ForwardOnly.given == plain.stat().st_size, "nothing is decompressed again"


def test_a_second_run_reads_no_clip(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = release(tmp_path)
    prepare_splits({"train": splits_of(archive)["train"]}, parts.encoder, parts.arguments)
    monkeypatch.setattr(archives.gzip, "open", lambda *_: pytest.fail("decompressed again"))
    monkeypatch.setattr(audio, "open", lambda *_: pytest.fail("a clip was read"), raising=False)
    prepared = prepare_splits({"train": splits_of(archive)["train"]}, parts.encoder, parts.arguments)
    assert prepared["train"].reused
