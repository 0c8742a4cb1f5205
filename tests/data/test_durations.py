"""Durations come from headers once, then from a side-car that is never believed beyond its clips."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hf_asr.data import durations
from hf_asr.data.archives import cache_folder, file_key
from hf_asr.data.audio import SAMPLE_RATE, duration_of, encode
from hf_asr.data.durations import NAME, fill_durations, read_durations
from hf_asr.data.tables import Region
from hf_asr.utterance import AudioRef, Drops, Utterance


def clip(path: Path, seconds: float) -> Utterance:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(np.zeros(round(seconds * SAMPLE_RATE), np.float32), SAMPLE_RATE, "wav"))
    return Utterance(path.stem, AudioRef(path=str(path)), "text")


def seconds_of(rows: list[Utterance], folder: str | None = None) -> list[float | None]:
    return [row.duration for row in fill_durations(rows, Drops(), folder)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the clips whose headers are read, in the order of reading."""
    names: list[str] = []

    def recorded(audio: AudioRef) -> float:
        names.append(os.path.basename(audio.path))
        return duration_of(audio)

    monkeypatch.setattr(durations, "duration_of", recorded)
    return names


def test_headers_are_read_once_and_kept_beside_the_clips(tmp_path: Path, read: list[str]) -> None:
    rows = [clip(tmp_path / "a.wav", 1.0), clip(tmp_path / "b.wav", 2.5)]
    assert seconds_of(rows) == [1.0, 2.5]
    sizes = [(tmp_path / name).stat().st_size for name in ("a.wav", "b.wav")]
    assert (tmp_path / NAME).read_text().splitlines() == [
        "clip\tduration[ms]\tbytes",
        f"a.wav\t1000.000\t{sizes[0]}",
        f"b.wav\t2500.000\t{sizes[1]}",
    ]
    assert seconds_of(rows) == [1.0, 2.5]
    assert sorted(read) == ["a.wav", "b.wav"]


def test_a_folder_of_clips_has_its_side_car_where_mozilla_puts_it(tmp_path: Path) -> None:
    seconds_of([clip(tmp_path / "ru" / "clips" / "a.wav", 1.0)])
    assert (tmp_path / "ru" / NAME).is_file()
    assert not (tmp_path / "ru" / "clips" / NAME).exists()


def test_more_clips_of_a_folder_join_its_side_car(tmp_path: Path, read: list[str]) -> None:
    first, second = clip(tmp_path / "a.wav", 1.0), clip(tmp_path / "b.wav", 2.0)
    seconds_of([first])
    assert seconds_of([second, first]) == [2.0, 1.0]
    assert read == ["a.wav", "b.wav"]
    assert len((tmp_path / NAME).read_text().splitlines()) == 3


def test_a_clip_encoded_anew_is_read_again(tmp_path: Path, read: list[str]) -> None:
    row = clip(tmp_path / "a.wav", 1.0)
    seconds_of([row])
    clip(tmp_path / "a.wav", 3.0)
    assert seconds_of([row]) == [3.0]
    assert seconds_of([row]) == [3.0]
    assert read == ["a.wav", "a.wav"]


def test_mozillas_file_is_believed_and_never_written(tmp_path: Path, read: list[str]) -> None:
    rows = [clip(tmp_path / "clips" / "a.wav", 1.0), clip(tmp_path / "clips" / "b.wav", 2.0)]
    (tmp_path / NAME).write_text(content := "clip\tduration[ms]\na.wav\t1234\n")
    for _ in range(2):
        assert seconds_of(rows) == [1.234, 2.0]
    assert read == ["b.wav"]
    assert (tmp_path / NAME).read_text() == content
    assert len(list(cache_folder("durations").iterdir())) == 1


@pytest.mark.parametrize("content", ["", "no\tdurations\n1\t2\n", "\x00\x01", "clip\tduration[ms]\n\n\t\t\t\n"])
def test_a_file_of_that_name_that_makes_no_sense_is_left_alone(tmp_path: Path, content: str) -> None:
    row = clip(tmp_path / "a.wav", 1.0)
    (tmp_path / NAME).write_text(content)
    assert seconds_of([row]) == [1.0]
    assert (tmp_path / NAME).read_text() == content


@pytest.mark.parametrize("value", ["", "x", "-5", "0", "nan", "inf"])
def test_durations_that_are_none_are_read_from_the_header(tmp_path: Path, value: str) -> None:
    row = clip(tmp_path / "a.wav", 1.0)
    (tmp_path / NAME).write_text(f"clip\tduration[ms]\na.wav\t{value}\n")
    assert seconds_of([row]) == [1.0]


def test_a_line_cut_by_a_crash_is_read_again(tmp_path: Path, read: list[str]) -> None:
    row = clip(tmp_path / "a.wav", 1.0)
    (tmp_path / NAME).write_text("clip\tduration[ms]\tbytes\na.wav\t10")
    assert seconds_of([row]) == [1.0]
    assert read == ["a.wav"]


def test_columns_in_another_order(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes("\ufeffduration[ms]\tclip\tnote\r\n2500\ta.mp3\t\r\n".encode())
    assert read_durations(Region(path), file_key(path)) == {"a.mp3": (2.5, None)}


def test_a_read_only_folder_is_no_obstacle(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [clip(tmp_path / "a.wav", 1.0)]
    write = durations.write_whole

    def read_only(target: Path, content: str, **options) -> None:
        if target.parent == tmp_path:
            raise PermissionError(13, "Permission denied")
        write(target, content, **options)

    monkeypatch.setattr(durations, "write_whole", read_only)
    assert seconds_of(rows) == seconds_of(rows) == [1.0]
    assert read == ["a.wav"]
    assert not (tmp_path / NAME).exists()


def test_a_folder_marked_read_only_stays_as_it_is_even_for_root(tmp_path: Path, read: list[str]) -> None:
    rows = [clip(tmp_path / "shared" / "clips" / "a.wav", 1.0)]
    (tmp_path / "shared").chmod(0o555)
    try:
        assert seconds_of(rows) == seconds_of(rows) == [1.0]
        assert [path.name for path in (tmp_path / "shared").iterdir()] == ["clips"]
    finally:
        (tmp_path / "shared").chmod(0o755)
    assert read == ["a.wav"]


def test_a_side_car_that_cannot_be_read_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(region: Region, key: str) -> None:
        raise PermissionError(13, "Permission denied")

    row = clip(tmp_path / "a.wav", 1.0)
    (tmp_path / NAME).write_text("")
    monkeypatch.setattr(durations, "read_durations", refused)
    assert seconds_of([row]) == [1.0]


def test_nowhere_to_write_is_no_obstacle(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(target: Path, content: str, **options) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(durations, "write_whole", read_only)
    rows = [clip(tmp_path / "a.wav", 1.0)]
    assert seconds_of(rows) == seconds_of(rows) == [1.0]
    assert read == ["a.wav", "a.wav"]


def test_clips_of_several_folders_share_the_side_car_of_the_corpus(tmp_path: Path, read: list[str]) -> None:
    rows = [clip(tmp_path / "corpus" / name / "x.wav", seconds) for name, seconds in (("a", 1.0), ("b", 2.0))]
    assert seconds_of(rows, str(tmp_path / "corpus")) == [1.0, 2.0]
    assert [line.split("\t")[0] for line in (tmp_path / "corpus" / NAME).read_text().splitlines()] == [
        "clip",
        "a/x.wav",
        "b/x.wav",
    ]
    assert seconds_of(rows, str(tmp_path / "corpus")) == [1.0, 2.0]
    assert sorted(read) == ["x.wav", "x.wav"]


@pytest.mark.parametrize("folder", [None, "elsewhere"])
def test_clips_all_over_the_disk_leave_no_file_beside_them(tmp_path: Path, read: list[str], folder: str | None) -> None:
    rows = [clip(tmp_path / name / "x.wav", seconds) for name, seconds in (("a", 1.0), ("b", 2.0))]
    for _ in range(2):
        assert seconds_of(rows, folder and str(tmp_path / folder)) == [1.0, 2.0]
    assert not list(tmp_path.rglob(NAME))
    assert len(read) == 2


def test_members_of_an_archive_are_kept_in_the_cache(tmp_path: Path, read: list[str]) -> None:
    encoded = [encode(np.zeros(length, np.float32), SAMPLE_RATE, "wav") for length in (16_000, 8_000)]
    (tmp_path / "cv.tar").write_bytes(b"".join(encoded))
    places = [(0, len(encoded[0])), (len(encoded[0]), len(encoded[1]))]
    rows = [Utterance(f"{o}", AudioRef(path=str(tmp_path / "cv.tar"), offset=o, size=s), "") for o, s in places]
    for _ in range(2):
        assert seconds_of(rows) == [1.0, 0.5]
    assert len(read) == 2
    assert not (tmp_path / NAME).exists()


def test_segments_and_known_durations_need_no_file() -> None:
    rows = [
        Utterance("a", AudioRef(path="/nowhere.opus", start=1.5, end=4.0), ""),
        Utterance("b", AudioRef(path="/nowhere.opus"), "", duration=7.0),
    ]
    assert seconds_of(rows) == [2.5, 7.0]


def test_a_file_that_many_clips_share_is_read_once(tmp_path: Path, read: list[str]) -> None:
    row = clip(tmp_path / "long.wav", 10.0)
    rows = [replace(row, id=f"{start}", audio=replace(row.audio, start=start)) for start in (0.0, 2.5, 9.0)]
    assert seconds_of(rows) == [10.0, 7.5, 1.0]
    assert read == ["long.wav"]


def test_bytes_are_read_and_not_kept() -> None:
    row = Utterance("a", AudioRef(data=encode(np.zeros(1600, np.float32), SAMPLE_RATE, "flac")), "")
    assert seconds_of([row]) == [0.1]
    assert not cache_folder("durations").exists()


def test_broken_clips_are_dropped_and_named(tmp_path: Path) -> None:
    good, empty = clip(tmp_path / "good.wav", 1.0), clip(tmp_path / "empty.wav", 1.0)
    (tmp_path / "empty.wav").write_bytes(b"")
    late = replace(good, id="late", audio=replace(good.audio, start=5.0))
    gone = Utterance("gone", AudioRef(path=str(tmp_path / "gone.wav")), "")
    drops = Drops()
    assert [row.id for row in fill_durations([empty, good, late, gone], drops)] == ["good"]
    details = dict(drops.reasons["broken_audio"])
    assert "is empty" in details["empty"]
    assert "lasts 1.0 s" in details["late"]
    assert "cannot be read" in details["gone"]
    assert drops.total() == 3


def test_names_with_tabs_do_not_break_the_side_car(tmp_path: Path) -> None:
    rows = [clip(tmp_path / "a\tb.wav", 1.0), clip(tmp_path / "c.wav", 2.0)]
    assert seconds_of(rows) == seconds_of(rows) == [1.0, 2.0]
    assert len((tmp_path / NAME).read_text().splitlines()) == 2


def test_many_clips_keep_their_order(tmp_path: Path) -> None:
    rows = [clip(tmp_path / f"{number}.wav", 0.01 + 0.01 * (number % 7)) for number in range(60)]
    expected = [pytest.approx(0.01 + 0.01 * (number % 7), abs=1e-4) for number in range(60)]
    assert seconds_of(rows) == expected


def test_real_clips_have_the_durations_of_the_manifest(shared_data: Path) -> None:
    """No side-car is written into a read-only folder, and none is needed."""
    lines = (shared_data / "speechocean762_dev" / "manifest.tsv").read_text().splitlines()[1:60]
    rows, known = [], []
    for line in lines:
        path, _, _, seconds, *_ = line.split("\t")
        rows.append(Utterance(path, AudioRef(path=str(shared_data / "speechocean762_dev" / path)), ""))
        known.append(pytest.approx(float(seconds), abs=2e-3))
    before = sorted(path.name for path in (shared_data / "speechocean762_dev").iterdir())
    assert seconds_of(rows) == known
    assert sorted(path.name for path in (shared_data / "speechocean762_dev").iterdir()) == before
