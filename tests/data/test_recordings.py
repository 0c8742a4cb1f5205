"""Rows joined to recordings: order, times, what no text covers, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_asr.config.arguments import DataArguments
from hf_asr.data import manifest
from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.data.recordings import Recording, Stretch, check_long, recordings_of
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance


def wav(path: Path, seconds: float) -> str:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(encode(np.zeros(int(seconds * SAMPLE_RATE), dtype=np.float32), SAMPLE_RATE, "wav"))
    return str(path)


def part(path: str, start: float, end: float | None, text: str, **more: Any) -> Utterance:
    return Utterance(f"{path}-{start}-{text}", AudioRef(path=path, start=start, end=end), text, **more)


def test_parts_are_joined_in_the_order_they_are_spoken(tmp_path: Path) -> None:
    path = wav(tmp_path / "talk.wav", 40)
    rows = [part(path, 20, 30, "third", speaker="b"), part(path, 1, 5, "one", speaker="b"), part(path, 4, 9, "two")]
    (found,) = recordings_of(rows, Drops(), "en")
    assert (found.id, found.text, found.duration, found.speaker) == ("talk", "one two third", 40.0, "")
    assert found.stretches == (Stretch(1, 5, "one"), Stretch(4, 9, "two"), Stretch(20, 30, "third"))
    assert found.audio == AudioRef(path=path)
    # Covered are 1 to 9 and 20 to 30.
    assert found.uncovered() == pytest.approx(22)
    assert recordings_of(rows, Drops(), "ja")[0].text == "onetwothird"


def test_a_whole_file_is_a_recording_without_times(tmp_path: Path) -> None:
    rows = [part(wav(tmp_path / name / "talk.wav", 2), 0, None, "all", speaker="a") for name in ("x", "y")]
    found = recordings_of(rows, Drops(), "en")
    assert [item.id for item in found] == [str(tmp_path / name / "talk.wav") for name in ("x", "y")]
    assert found[0].stretches == () and found[0].uncovered() == 0 and found[0].speaker == "a"


def test_broken_files_are_named_and_doubled_ones_refused(tmp_path: Path) -> None:
    drops = Drops()
    assert recordings_of([part(str(tmp_path / "none.wav"), 0, None, "x")], drops, "en") == []
    assert drops.counts() == {"broken_audio": 1}
    path = wav(tmp_path / "talk.wav", 2)
    with pytest.raises(UserError, match="either one row for the whole file or rows with start and end, found 1"):
        recordings_of([part(path, 0, None, "all"), part(path, 1, 2, "part")], Drops(), "en")


@pytest.mark.parametrize(("seconds", "refused"), [((5.0, 29.9), True), ((5.0, 30.0), False), ((), True)])
def test_short_recordings_alone_are_refused(seconds: tuple[float, ...], refused: bool) -> None:
    recordings = [Recording(f"{length}", AudioRef(), "x", length, "", ()) for length in seconds]
    if refused:
        with pytest.raises(UserError, match="--long-form: expected recordings longer than 30 s"):
            check_long(recordings, "--long-form")
    else:
        check_long(recordings, "--long-form")


def test_a_manifest_names_its_columns_of_times(tmp_path: Path) -> None:
    path = wav(tmp_path / "talk.wav", 10)
    (tmp_path / "m.csv").write_text(
        f"path,text,begin,end\n{path},one,0,2\n{path},two,2.5,4\n{path},bad,4,3\n{path},no,x,9\n"
    )
    named = {"start": "begin", "end": "end"}
    drops = Drops()
    read = manifest.read(DataArguments(corpus="manifest", path=str(tmp_path / "m.csv"), columns=named), "train", drops)
    assert [(row.text, row.audio.start, row.audio.end) for row in read] == [("one", 0, 2), ("two", 2.5, 4)]
    assert [detail for _, detail in drops.reasons["bad_row"]] == [
        "line 4: no stretch of a file: begin '4', end '3'",
        "line 5: no stretch of a file: begin 'x', end '9'",
    ]
