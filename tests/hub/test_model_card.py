"""The model card: its whole text, its metadata as the Hub's reader sees them, and its snippet run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_whisper import make_tiny_whisper
from huggingface_hub import ModelCard

from hf_asr.config.arguments import (
    Arguments,
    DataArguments,
    ExperimentArguments,
    FreezeArguments,
    HubArguments,
    ModelArguments,
    PeftArguments,
)
from hf_asr.data.audio import encode
from hf_asr.evaluation.intervals import PairedDifference
from hf_asr.hub.model_card import is_hub_id, render_model_card, write_model_card

CONDITIONS = {"window": "full", "dtype": "float32", "batch_size": 8, "generation": {"num_beams": 1}}
BASELINE: dict[str, Any] = {
    "wer": 0.5,
    "cer": 0.25,
    "mer": 0.45,
    "wil": 0.6,
    "wer_interval": [0.45, 0.55],
    "cer_interval": [0.2, 0.3],
    "substitutions": 400,
    "deletions": 60,
    "insertions": 40,
    "hits": 540,
    "num_utterances": 200,
    "num_words": 1000,
    "normalizer": "basic",
    "seconds_of_audio": 1800.0,
    "skipped": {},
    "wer_interval_by": "speaker",
    **CONDITIONS,
}
RESULTS = BASELINE | {
    "wer": 0.2,
    "cer": 0.075,
    "wer_interval": [0.17, 0.2345],
    "cer_interval": [0.05, 0.1],
    "substitutions": 150,
    "deletions": 30,
    "insertions": 20,
    "hits": 820,
    "skipped": {"broken_audio": 1},
}
DATA = {
    "train": {"utterances": 4321, "seconds": 36000.0, "drops": {"too_long": 3, "few_votes": 1200}},
    "validation": {"utterances": 200, "seconds": 1800.0, "drops": {}},
    "test": {"utterances": 200, "seconds": None, "drops": {}},
}
CARD = """---
base_model: openai/whisper-small
datasets:
- org/corpus
language: ru
library_name: transformers
license: apache-2.0
metrics:
- wer
- cer
- mer
- wil
pipeline_tag: automatic-speech-recognition
tags:
- automatic-speech-recognition
- hf-asr
- radio
model-index:
- name: whisper_ru
  results:
  - task:
      type: automatic-speech-recognition
      name: Speech recognition
    dataset:
      name: common_voice ru-RU
      type: common_voice
      config: ru-RU
      split: test
    metrics:
    - type: wer
      value: 0.2
      name: 'WER (normaliser: basic)'
      args:
        normalizer: basic
        interval:
        - 0.17
        - 0.2345
        interval_level: 0.95
        interval_by: speaker
    - type: cer
      value: 0.075
      name: 'CER (normaliser: basic)'
      args:
        normalizer: basic
        interval:
        - 0.05
        - 0.1
        interval_level: 0.95
        interval_by: speaker
    - type: mer
      value: 0.45
      name: 'MER (normaliser: basic)'
      args:
        normalizer: basic
    - type: wil
      value: 0.6
      name: 'WIL (normaliser: basic)'
      args:
        normalizer: basic
---

# whisper_ru

Radio speech of the north.

- Task: transcribe
- Language: ru-RU
- Base model: [openai/whisper-small](https://huggingface.co/openai/whisper-small)
- Corpus: common_voice ru-RU
- Licence: apache-2.0

## Results

Scored on 200 clips (hours: 0.50, words: 1,000) of the test split. Rates in per cent, counted over the whole set \
with the normaliser `basic`; in brackets the 95 % bootstrap interval by speaker.

| | WER | CER | MER | WIL | substitutions | deletions | insertions | hits |
|---|---|---|---|---|---|---|---|---|
| before fine-tuning | 50.00 [45.00, 55.00] | 25.00 [20.00, 30.00] | 45.00 | 60.00 | 400 | 60 | 40 | 540 |
| after | 20.00 [17.00, 23.45] | 7.50 [5.00, 10.00] | 45.00 | 60.00 | 150 | 30 | 20 | 820 |

WER changed by -30.00 points [-34.00, -26.50; paired, by speaker], -60.0 % relative; the same clips, \
scored by the same code.

Decoding: window `"full"`, dtype `"float32"`, batch_size `8`, generation `{"num_beams": 1}`.

## Use

```python
import soundfile
from transformers import pipeline

transcriber = pipeline("automatic-speech-recognition", model="best_checkpoint")
audio, rate = soundfile.read("clip.wav", dtype="float32", always_2d=True)
print(transcriber({"raw": audio.mean(axis=1), "sampling_rate": rate})["text"])
```

## Data

| split | clips | hours | left out |
|---|---|---|---|
| train | 4,321 | 10.00 | few votes: 1,200, too long: 3 |
| validation | 200 | 0.50 | none |
| test | 200 | not counted | none |

Text of the labels: `none`. Clips from 0.3 to 30.0 seconds were used.

## Training

trained 88,154,880 of 241,734,912 parameters

| setting | value |
|---|---|
| seed | 42 |
| eval_strategy | epoch |
| learning_rate | 0.001 |
| max_steps | 4000 |
| num_train_epochs | 3 |
| per_device_train_batch_size | 8 |
| warmup_steps | 0.1 |
| language token | `<|ru|>` |
| frozen | encoder |
| adapters | lora, r 32, alpha 64, dropout 0.05, merged True |

## Provenance

| | |
|---|---|
| seed | 7 |

## Limits

- The rates hold for this test set; other microphones, accents, noise and topics were not measured.
- It writes one token after the other and can write fluent text that nobody said, above all in silence, noise and \
music; that was not measured.
- Clips of the test split that were left out: broken audio: 1.
- It was read from checkpoint-12.
- Not for children's speech.
"""


def example_arguments(**hub: Any) -> Arguments:
    """Return a configuration with something to say in every part of the card."""
    card = {"description": "Radio speech of the north.", "limits": ["Not for children's speech."]}
    return Arguments(
        ExperimentArguments("whisper_ru", output_dir="/home/anna/runs", tags=["radio"]),
        ModelArguments("openai/whisper-small", language_token="ru"),
        DataArguments("common_voice", path="/home/anna/cv-corpus/ru", language="ru-RU"),
        training={"max_steps": 4000, "resume_from_checkpoint": "/home/anna/runs/x"},
        freeze=FreezeArguments(["encoder"]),
        peft=PeftArguments("lora"),
        hub=HubArguments(**({"license": "apache-2.0", "card": {"datasets": ["org/corpus"], **card}} | hub)),
    )


def render(arguments: Arguments, baseline: dict[str, Any] | None = BASELINE, **results: Any) -> str:
    """Render the example's card with some values of its results changed."""
    return render_model_card(
        arguments,
        baseline=baseline,
        results=RESULTS | results,
        data_summary=DATA,
        trainable="trained 88,154,880 of 241,734,912 parameters",
        notes=["It was read from /home/anna/runs/checkpoint-12"],
    )


def test_the_whole_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_asr.hub.model_card.provenance_rows", lambda run_dir, arguments: [("seed", "7")])
    path = write_model_card(
        tmp_path,
        example_arguments(),
        baseline=BASELINE,
        results=RESULTS,
        data_summary=DATA,
        trainable="trained 88,154,880 of 241,734,912 parameters",
        notes=["It was read from /home/anna/runs/checkpoint-12."],
        difference=PairedDifference(-0.3, -0.34, -0.265, 0.001, "speaker"),
    )
    assert path == tmp_path / "README.md"
    assert path.read_text(encoding="utf-8") == CARD


def test_the_hubs_reader_finds_every_rate_as_a_fraction() -> None:
    data = ModelCard(render(example_arguments())).data
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        "wer": 0.2,
        "cer": 0.075,
        "mer": 0.45,
        "wil": 0.6,
    }
    assert (data.language, data.license, data.base_model) == ("ru", "apache-2.0", "openai/whisper-small")


@pytest.mark.parametrize(
    ("name", "hub_id", "told"),
    [
        ("openai/whisper-small", True, "[openai/whisper-small](https://huggingface.co/openai/whisper-small)"),
        ("config:whisper-tiny", False, "none: random weights in the shape of whisper-tiny"),
        ("/home/anna/base", False, "a local checkpoint, base"),
        ("C:\\Users\\anna\\base", False, "a local checkpoint, base"),
    ],
)
def test_only_a_hub_id_becomes_the_base_model(name: str, hub_id: bool, told: str) -> None:
    arguments = example_arguments()
    arguments.model.name_or_path = name
    card = render(arguments)
    assert is_hub_id(name) is hub_id
    assert ModelCard(card).data.base_model == (name if hub_id else None)
    assert f"- Base model: {told}\n" in card
    assert "anna" not in card


@pytest.mark.parametrize(
    ("tag", "code"), [("zh-CN", "zh"), ("pt_BR", "pt"), ("NO", "no"), ("yue", "yue"), (None, None)]
)
def test_language_is_the_iso_code_that_the_hub_takes(tag: str | None, code: str | None) -> None:
    arguments = example_arguments()
    arguments.data.language = tag
    assert ModelCard(render(arguments)).data.language == code


def test_without_a_baseline_there_is_one_row_and_no_change() -> None:
    card = render(example_arguments(), baseline=None)
    assert "before fine-tuning" not in card
    assert "WER changed" not in card
    assert "| after | 20.00 [17.00, 23.45] |" in card


def test_a_flawless_baseline_has_no_relative_change() -> None:
    card = render(example_arguments(), baseline=BASELINE | {"wer": 0.0, "wer_interval": [0.0, 0.0]})
    assert "WER changed by +20.00 points; the same clips" in card


TOO_SMALL = "This test set is too small to prove"


@pytest.mark.parametrize(("high", "told"), [(0.44, False), (0.46, True)])
def test_without_a_paired_comparison_overlapping_intervals_are_told(high: float, told: bool) -> None:
    assert (TOO_SMALL in render(example_arguments(), wer_interval=[0.1, high])) is told


@pytest.mark.parametrize(("high", "p_value", "told"), [(-0.01, 0.01, False), (0.01, 0.2, True), (-0.01, 0.2, True)])
def test_a_paired_comparison_decides_where_there_is_one(high: float, p_value: float, told: bool) -> None:
    card = render_model_card(
        example_arguments(),
        baseline=BASELINE,
        results=RESULTS,
        data_summary=DATA,
        trainable="",
        notes=[],
        difference=PairedDifference(-0.3, -0.34, high, p_value, "utterance"),
    )
    assert (TOO_SMALL in card) is told


def test_a_language_written_without_spaces_is_judged_by_its_characters() -> None:
    arguments = example_arguments()
    arguments.data.language = "zh-CN"
    assert "CER changed by -17.50 points, -70.0 % relative" in render(arguments)


def test_what_a_step_is_of_is_told_where_it_is_not_the_default() -> None:
    arguments = example_arguments()
    arguments.model.window, arguments.model.window_mix = "clip", 0.2
    arguments.data.batch_seconds, arguments.data.pack = 120.0, True
    card = render(arguments)
    rows = "| model.window | clip |\n| model.window_mix | 0.2 |\n| data.batch_seconds | 120.0 |\n| data.pack | True |\n"
    assert rows in card and "window_stride" not in card and "pack_share" not in card
    assert "per_device_train_batch_size" not in card


def test_a_mixture_a_stream_and_silence_about_the_licence() -> None:
    arguments = example_arguments(license=None, repo="org/name")
    arguments.data.corpus, arguments.data.sources = "", [{"corpus": "common_voice"}, {"corpus": "gigaspeech"}]
    card = render(arguments)
    assert "- Corpus: mixture of common_voice, gigaspeech\n" in card
    assert "- Licence: not stated" in card
    assert 'model="org/name"' in card
    assert ModelCard(card).data.license is None


def test_the_snippet_of_a_card_runs(tmp_path: Path) -> None:
    make_tiny_whisper(tmp_path / "best_checkpoint")
    tone = np.sin(np.arange(44_100) / 9).astype(np.float32)
    (tmp_path / "clip.wav").write_bytes(encode(np.stack([tone, tone], axis=1), 44_100, "wav"))
    snippet = re.search(r"```python\n(.*?)```", render(example_arguments()), re.DOTALL)
    assert snippet is not None
    done = subprocess.run(
        [sys.executable, "-c", snippet[1]], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
