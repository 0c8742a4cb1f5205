"""The text of a recording of three hours was longer than a field of Python's csv may be: its row was left out."""

from __future__ import annotations

from pathlib import Path

from hf_asr.data.tables import Region, open_table
from hf_asr.utterance import Drops


def test_a_long_text_is_read(tmp_path: Path) -> None:
    text = "word, " * 40_000
    (tmp_path / "talks.csv").write_text(f'path,text\ntalk.wav,"{text}"\n')
    drops = Drops()
    ((_, row),) = open_table(Region(tmp_path / "talks.csv")).rows(drops)
    assert row["text"] == text
    assert drops.counts() == {}
