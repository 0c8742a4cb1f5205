"""`hf-asr transcribe` writes down files of any length with every family that writes text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_families import TINY, Parts

from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.errors import UserError
from hf_asr.inference.transcribe import load_transcriber
from hf_asr.models import FAMILIES

WRITING = sorted(name for name in TINY if FAMILIES[name].scoring == "words")


@pytest.mark.parametrize("name", WRITING)
def test_long_and_short_files_are_written_down(name: str, tmp_path: Path) -> None:
    arguments = TINY[name](tmp_path)
    noise = np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE).astype(np.float32) * 0.1
    for file, seconds in (("long", 3), ("short", 1)):
        (tmp_path / f"{file}.wav").write_bytes(encode(noise[: seconds * SAMPLE_RATE], SAMPLE_RATE, "wav"))
    (tmp_path / "torn.wav").write_bytes(b"RIFF")
    transcriber = load_transcriber(arguments.model.name_or_path, language="en", batch_size=2)
    files = [(tmp_path / f"{file}.wav", file) for file in ("long", "torn", "short")]
    transcripts, drops = transcriber.transcribe(files, progress=False)
    assert [(item.file, item.duration) for item in transcripts] == [("long", 3.0), ("short", 1.0)]
    assert all(isinstance(item.text, str) for item in transcripts)
    assert drops.counts() == {"broken_audio": 1}
    ends = [part.end for part in transcripts[0].segments]
    assert all(0 <= part.start <= part.end <= 3.0 for part in transcripts[0].segments) and ends == sorted(ends)


@pytest.mark.parametrize("name", sorted(name for name in TINY if FAMILIES[name].scoring != "words"))
def test_a_classifier_writes_nothing(name: str, tmp_path: Path) -> None:
    parts = Parts.of(name, tmp_path)
    parts.model().save_pretrained(tmp_path / "saved")
    parts.processor.save_pretrained(tmp_path / "saved")
    with pytest.raises(UserError, match="expected a model that writes text"):
        load_transcriber(str(tmp_path / "saved"))
