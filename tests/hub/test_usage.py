"""The Python on a card transcribes a clip with the model of every family that writes text."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import soundfile
from helpers.tiny_families import Parts

from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.hub.model_card import USAGE

TEXTUAL = ("whisper", "speech2text", "moonshine", "parakeet_tdt", "audio_llm", "ctc")
# transformers' pipeline decodes encoder-decoders with 5 beams and up to 256 tokens: not what the card's rates were
# counted on. The others decode greedily there as well.
GREEDY = ("parakeet_tdt", "audio_llm", "ctc")
GAIN = 16.0


@pytest.mark.parametrize("name", TEXTUAL)
def test_it_transcribes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts.of(name, tmp_path)
    model = parts.model(gain=GAIN)
    model.save_pretrained(tmp_path / "best_checkpoint")
    parts.processor.save_pretrained(tmp_path / "best_checkpoint")
    samples, _ = soundfile.read(parts.rows.rows[3]["audio"]["path"])
    monkeypatch.chdir(tmp_path)
    soundfile.write("clip.wav", samples, SAMPLE_RATE)
    code = (parts.family.usage or USAGE).format(model="best_checkpoint")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "card", "exec"), {})
    (expected,) = parts.decoded(model, [parts.encoded[3]])
    assert expected
    if name in GREEDY:
        assert printed.getvalue().strip().startswith(expected)
    else:
        assert printed.getvalue().strip()
