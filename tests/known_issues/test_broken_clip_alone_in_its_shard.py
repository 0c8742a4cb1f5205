"""A broken clip that was alone in its shard of a stream was in the log only: no row was left to tell it by."""

from __future__ import annotations

from pathlib import Path

from helpers.tiny_corpus import make_tiny_corpus

from hf_asr.config.arguments import DataArguments
from hf_asr.data.streaming import stream_rows
from hf_asr.utterance import Drops


def test_it_is_counted(tmp_path: Path) -> None:
    manifest = make_tiny_corpus(tmp_path, train=14, validation=0, test=0)
    (tmp_path / "clip3.wav").write_text("no audio")
    drops = Drops()
    data = DataArguments(corpus="manifest", path=str(manifest), columns={"split": "split"}, shuffle_buffer=1)
    rows = list(stream_rows(data, "train", 0, drops))
    assert len(rows) == 13
    assert drops.counts() == {"broken_audio": 1}
