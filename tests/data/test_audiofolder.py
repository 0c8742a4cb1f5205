"""Audio folders: text files or a metadata file beside the clips, splits as subfolders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_asr.config.arguments import DataArguments
from hf_asr.data.manifest import read_folder
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def read(path: Path | None, split: str = "train", **keys: Any) -> tuple[list[Utterance], Drops]:
    drops = Drops()
    data = DataArguments(corpus="audiofolder", path=path and str(path), **keys)
    return list(read_folder(data, split, drops)), drops


def texts(rows: list[Utterance]) -> dict[str, str]:
    return {row.id: row.text for row in rows}


def test_text_files_beside_the_clips(tmp_path: Path) -> None:
    make(tmp_path, {"b.wav": "", "b.txt": "\ufeffTwo\n", "a.flac": "", "a.txt": " One \r\n", "notes.txt": "no clip"})
    rows, drops = read(tmp_path, language="ru")
    assert rows == [
        Utterance("a.flac", AudioRef(path=str(tmp_path / "a.flac")), "One", language="ru", corpus="audiofolder"),
        Utterance("b.wav", AudioRef(path=str(tmp_path / "b.wav")), "Two", language="ru", corpus="audiofolder"),
    ]
    assert drops.total() == 0


def test_clips_without_a_transcript_are_named(tmp_path: Path) -> None:
    make(tmp_path, {"a.wav": "", "a.txt": "One", "b.WAV": "", "c.mp3": ""})
    (tmp_path / "c.txt").write_bytes(b"caf\xe9")
    rows, drops = read(tmp_path)
    assert texts(rows) == {"a.wav": "One"}
    assert [id for id, _ in drops.reasons["missing_text"]] == ["b.WAV", "c.mp3"]


SPLITS = {f"{name}/{clip}": text for name in ("train", "dev", "test", "extra") for clip, text in
          (("s/x.wav", ""), ("s/x.txt", f"text of {name}"))}  # fmt: skip


@pytest.mark.parametrize(
    ("split", "folder"),
    [("train", "train"), ("validation", "dev"), ("dev", "dev"), ("test", "test"), ("extra", "extra")],
)
def test_subfolders_are_splits(tmp_path: Path, split: str, folder: str) -> None:
    rows, _ = read(make(tmp_path, SPLITS), split)
    assert texts(rows) == {f"{folder}/s/x.wav": f"text of {folder}"}


def test_subfolders_that_are_no_splits_belong_to_train(tmp_path: Path) -> None:
    make(tmp_path, {"ann/a.wav": "", "ann/a.txt": "1", "ben/a.wav": "", "ben/a.txt": "2"})
    assert texts(read(tmp_path)[0]) == {"ann/a.wav": "1", "ben/a.wav": "2"}


@pytest.mark.parametrize(("files", "split"), [(SPLITS, "fold1"), ({"a.wav": ""}, "test"), ({"dev/a.wav": ""}, "train")])
def test_a_split_without_a_subfolder(tmp_path: Path, files: dict[str, str], split: str) -> None:
    with pytest.raises(UserError, match=f"expected a subfolder {split} in .*, its subfolders are"):
        read(make(tmp_path, files), split)


METADATA = [{"file_name": "train/a.wav", "transcription": "One."}, {"file_name": "test/b.wav", "transcription": "Two."}]


@pytest.mark.parametrize(("split", "expected"), [("train", {"train/a.wav": "One."}), ("test", {"test/b.wav": "Two."})])
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.tsv"])
def test_a_metadata_file_above_the_splits(tmp_path: Path, name: str, split: str, expected: dict[str, str]) -> None:
    mark = "\t" if name.endswith("tsv") else ","
    rows = ["file_name" + mark + "transcription", *(mark.join(row.values()) for row in METADATA)]
    lines = [json.dumps(row) for row in METADATA] if name.endswith("jsonl") else rows
    make(tmp_path, {"train/a.wav": "", "test/b.wav": "", name: "\n".join(lines)})
    found, drops = read(tmp_path, split)
    assert texts(found) == expected
    assert found[0].corpus == "audiofolder"
    assert drops.total() == 0


def test_a_metadata_file_in_each_split(tmp_path: Path) -> None:
    for name in ("train", "test"):
        make(tmp_path, {f"{name}/x.wav": "", f"{name}/metadata.csv": f"file_name,text\nx.wav,of {name}\ngone.wav,?\n"})
    rows, drops = read(tmp_path, "test")
    assert [(row.text, row.audio.path) for row in rows] == [("of test", str(tmp_path / "test" / "x.wav"))]
    assert drops.counts() == {"missing_audio": 1}


def test_loops_of_links_end_and_links_are_followed(tmp_path: Path) -> None:
    make(tmp_path / "disk", {"far.wav": "", "far.txt": "far"})
    make(tmp_path / "corpus", {"a.wav": "", "a.txt": "near"})
    (tmp_path / "corpus" / "loop").symlink_to(tmp_path / "corpus")
    (tmp_path / "corpus" / "more").symlink_to(tmp_path / "disk")
    (tmp_path / "corpus" / "self.wav").symlink_to(tmp_path / "corpus" / "self.wav")
    assert texts(read(tmp_path / "corpus")[0]) == {"a.wav": "near", "more/far.wav": "far"}


@pytest.mark.parametrize("path", [None, "gone", "file.csv"])
def test_paths_that_are_no_folder(tmp_path: Path, path: str | None) -> None:
    (tmp_path / "file.csv").write_text("path,text\n")
    with pytest.raises(UserError, match="expected a folder of clips"):
        read(path and tmp_path / path)  # type: ignore[arg-type]


def test_a_folder_without_clips(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected clips \(\.wav, .*found none"):
        read(make(tmp_path, {"a.txt": "text", "a.doc": ""}))
