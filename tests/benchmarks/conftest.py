"""The benchmarks' own folder on the path, and a setting so small that a row takes a second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
from helpers.tiny_corpus import tone
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.data.audio import SAMPLE_RATE, encode

CLIPS, SECONDS = 8, 1.5


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch, project_root: Path) -> None:
    monkeypatch.syspath_prepend(str(project_root / "benchmarks"))


@pytest.fixture
def micro(tmp_path: Path, on_path: None) -> Any:
    """A setting of eight tones, a Whisper of a few thousand parameters with a window of 4 s, one round."""
    from setting import Setting
    from speech import MP3_RATE, Speech

    folder = tmp_path / "speech" / "clips"
    folder.mkdir(parents=True)
    lines = ["path\ttext\tspeaker\tseconds"]
    upsample = torchaudio.transforms.Resample(SAMPLE_RATE, MP3_RATE)
    for index in range(CLIPS):
        samples = upsample(torch.from_numpy(tone(index, SECONDS))).numpy()
        (folder / f"{index}.mp3").write_bytes(encode(samples, MP3_RATE, "mp3"))
        lines.append(f"clips/{index}.mp3\tthe the\tspeaker\t{SECONDS}")
    (tmp_path / "speech" / "manifest.tsv").write_text("\n".join(lines) + "\n")
    speech = Speech(tmp_path / "speech" / "manifest.tsv", CLIPS, SECONDS, 11, "tones")
    checkpoint = make_tiny_whisper(tmp_path / "checkpoint")
    return Setting(tmp_path, speech, checkpoint, batch=2, rounds=1, new_tokens=4, scale=(5, 10))
