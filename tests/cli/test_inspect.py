"""``hf-asr inspect``: a real reader's corpus becomes a page and numbers."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml, tone
from matplotlib import image

from hf_asr.cli import main
from hf_asr.cli.spectrogram import COLUMNS, power_spectrum, spectrogram_png
from hf_asr.data.audio import SAMPLE_RATE, encode


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The YAML of a run on a tiny corpus; its model is never looked at."""
    return tiny_yaml(tmp_path, tmp_path / "no-model", make_tiny_corpus(tmp_path / "corpus"))


def test_a_corpus_becomes_a_page_and_numbers(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert (
        main(["inspect", "--config", str(config), "data.limit.train=10", "--output-dir", str(out), "--clips", "2"]) == 0
    )
    assert capsys.readouterr().out.splitlines() == [str(out / "inspect.html"), str(out / "inspect.json")]
    found = json.loads((out / "inspect.json").read_text())
    assert {name: split["utterances"] for name, split in found["splits"].items()} == {
        "train": 10,
        "validation": 4,
        "test": 4,
    }
    page = (out / "inspect.html").read_text()
    assert page.count("<audio") == page.count("<img") == 6
    assert str(tmp_path) not in page


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"no audio at all", "broken audio"), (encode(tone(0, 1.0), SAMPLE_RATE, "wav")[:60], "Could not be decoded")],
    ids=["seen by the reader", "seen when decoded"],
)
def test_a_broken_clip_is_named(config: Path, tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "corpus" / "clip0.wav").write_bytes(content)
    assert main(["inspect", "--config", str(config), "data.min_seconds=0", "--output-dir", str(tmp_path)]) == 0
    page = (tmp_path / "inspect.html").read_text()
    assert told in page and "clip0.wav" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.path=x"], "--config: expected a YAML file"),
        (["--config", "{config}", "--clips", "-1"], "--clips: expected 0 or more"),
        (["--config", "{config}", "data.path=nowhere.csv"], "nowhere.csv"),
        (["--config", "{config}", "evaluation.normalizer=nothing"], "normalizer"),
    ],
)
def test_the_impossible_is_refused_with_one_message(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    given = [word.format(config=config) for word in words]
    assert main(["inspect", *given, "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_tone_is_where_its_frequency_is() -> None:
    time = np.arange(16_000) / 16_000
    power = power_spectrum(np.sin(2 * np.pi * 1000 * time).astype(np.float32))
    assert power.shape[1] == 201
    assert power.mean(axis=0).argmax() == 25, "1,000 Hz in steps of 40 Hz"


@pytest.mark.parametrize("seconds", [0.001, 0.3, 1.0, 61.0])
def test_every_length_has_a_picture(seconds: float) -> None:
    picture = image.imread(BytesIO(spectrogram_png(tone(1, seconds) if seconds > 0.01 else np.zeros(16, np.float32))))
    assert picture.shape[0] == 100
    assert 1 <= picture.shape[1] <= COLUMNS
