"""Exported models in `hf-asr profile`: the tokens of the original, stage by stage, or why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_ctc import make_tiny_ctc
from helpers.tiny_moonshine import make_tiny_moonshine
from helpers.tiny_speech2text import make_tiny_speech2text
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.cli.profile_exports import OnnxFrames, OnnxParts
from hf_asr.cli.profile_others import other_runtimes
from hf_asr.export.graphs import IDS, LOGITS
from hf_asr.profiling.clips import noise_clips
from hf_asr.profiling.runners import Runner, Stopwatch, timed
from hf_asr.profiling.subject import Subject, find_subject
from hf_asr.profiling.synthetic import noise
from hf_asr.profiling.variants import NotAvailable, make_runner

CPU = torch.device("cpu")
TOKENS = 5
CLIPS: list[np.ndarray] = [noise(1.0, seed) for seed in range(2)]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return find_subject(str(make_tiny_whisper(tmp_path_factory.mktemp("whisper"), chunk_length=2)), language="en")


def exported(subject: Subject, variant: str, folder: Path) -> Runner:
    return make_runner(variant, subject, CPU, "float32", other_runtimes(folder))


def ids_of(runner: Runner) -> list[list[int]]:
    return runner(CLIPS, TOKENS, Stopwatch(CPU))


@pytest.mark.parametrize(
    ("variant", "laps"),
    [
        # Graphs take seconds to write: quick below, by ones that are made by hand.
        pytest.param(
            "onnx", {"features", "encoder", "first_token", "tokens", "detokenise"}, marks=pytest.mark.slow, id="onnx"
        ),
        pytest.param("ctranslate2", {"features", "encoder", "decoder", "detokenise"}, id="ctranslate2"),
    ],
)
def test_a_whisper(whisper: Subject, variant: str, laps: set[str], tmp_path: Path) -> None:
    runner = exported(whisper, variant, tmp_path)
    watch = timed(runner, CLIPS, TOKENS, CPU)
    assert set(watch.laps) == laps and watch.total == pytest.approx(sum(watch.laps.values()))
    written = ids_of(runner)
    assert [len(ids) for ids in written] == [TOKENS, TOKENS]
    if variant == "onnx":  # CTranslate2 begins with two tokens, and never writes the end
        assert written == ids_of(make_runner("sdpa", whisper, CPU, "float32"))
    longer = runner([noise(5.0, 0)], TOKENS, Stopwatch(CPU))
    assert [len(ids) for ids in longer] == [3 * TOKENS], "three windows of 2 s"
    clips = noise_clips(1.0, 2, seed=0)
    assert runner.write(clips) == make_runner("sdpa", whisper, CPU, "float32").write(clips)
    with pytest.raises(ValueError, match="no WER at 5 s"):
        runner.write(noise_clips(5.0, 1, seed=0))
    assert list(tmp_path.iterdir()) == [], "an export is left only while it is loaded"


class Graph:
    """A graph that notes what it is given, and returns what it is told to."""

    def __init__(self, *outputs: dict[str, np.ndarray]) -> None:
        self.outputs, self.given = list(outputs), list[dict[str, np.ndarray]]()

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.given.append(dict(inputs))
        return self.outputs[min(len(self.given), len(self.outputs)) - 1]


def logits(*ids: int) -> dict[str, np.ndarray]:
    """Return logits (B, 1, V) whose largest are these, and a past that tells which step it is of."""
    return {LOGITS: np.eye(9)[list(ids)][:, None], "present.0.key": np.array(ids)}


def test_onnx_graphs_are_called_one_after_the_other() -> None:
    encoder, first = Graph({"last_hidden_state": np.zeros((2, 4, 3))}), Graph(logits(5, 6))
    following = Graph(logits(7, 8), logits(1, 2))
    watch = Stopwatch(CPU)
    watch.start()
    ids = OnnxParts(encoder, first, following, start=3)({"input_features": np.zeros((2, 80, 8))}, 3, watch)
    assert ids.tolist() == [[5, 7, 1], [6, 8, 2]] and set(watch.laps) == {"encoder", "first_token", "tokens"}
    assert first.given[0][IDS].tolist() == [[3], [3]]
    assert [step[IDS].tolist() for step in following.given] == [[[5], [6]], [[7], [8]]]
    assert [step["past_key_values.0.key"].tolist() for step in following.given] == [[5, 6], [7, 8]]
    frames = OnnxFrames(Graph({LOGITS: np.eye(4)[None, [2, 0, 3]]}))
    assert frames({"input_values": np.zeros((1, 9))}, 5, watch).tolist() == [[2, 0, 3]]


@pytest.mark.slow
def test_a_ctc_model(tmp_path: Path) -> None:
    subject = find_subject(str(make_tiny_ctc(tmp_path / "ctc", "wav2vec2")))
    assert ids_of(exported(subject, "onnx", tmp_path)) == ids_of(make_runner("sdpa", subject, CPU, "float32"))


@pytest.mark.slow
def test_a_model_whose_encoder_takes_a_mask(tmp_path: Path) -> None:
    subject = find_subject(str(make_tiny_speech2text(tmp_path / "s2t", max_target_positions=40)), language="en")
    assert ids_of(exported(subject, "onnx", tmp_path)) == ids_of(make_runner("sdpa", subject, CPU, "float32"))


def test_what_cannot_be_exported_says_why(whisper: Subject, tmp_path: Path) -> None:
    moonshine = find_subject(str(make_tiny_moonshine(tmp_path / "moonshine")))
    refused = [
        (moonshine, "onnx", CPU, "expected a whisper, speech2text or ctc model, found a moonshine"),
        (moonshine, "ctranslate2", CPU, "expected a Whisper that writes text, found a moonshine"),
        (find_subject("config:whisper-tiny"), "ctranslate2", CPU, "give --tokenizer"),
        (whisper, "onnx", torch.device("cuda"), "timed on a CPU"),
    ]
    for subject, variant, device, reason in refused:
        with pytest.raises(NotAvailable) as told:
            make_runner(variant, subject, device, "float32", other_runtimes(tmp_path))
        assert reason in str(told.value)
