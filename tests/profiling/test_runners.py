"""Runs stage by stage: the same tokens in every variant, a fixed number of them, window after window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_ctc import make_tiny_ctc
from helpers.tiny_moonshine import make_tiny_moonshine
from helpers.tiny_speech2text import make_tiny_speech2text
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.errors import UserError
from hf_asr.profiling.runners import Stopwatch, timed
from hf_asr.profiling.subject import Subject, find_subject
from hf_asr.profiling.synthetic import noise
from hf_asr.profiling.variants import VARIANTS, NotAvailable, make_runner

CPU = torch.device("cpu")
TOKENS = 5


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    """One tiny checkpoint of each family that can be taken apart."""
    folder = tmp_path_factory.mktemp("subjects")
    made = {
        "whisper": make_tiny_whisper(folder / "whisper", chunk_length=2),
        "speech2text": make_tiny_speech2text(folder / "speech2text", max_target_positions=40),
        "moonshine": make_tiny_moonshine(folder / "moonshine"),
        "ctc": make_tiny_ctc(folder / "ctc", "wav2vec2"),
    }
    return {name: find_subject(str(path), language="en") for name, path in made.items()}


def clips(number: int, seconds: float) -> list[np.ndarray]:
    return [noise(seconds, seed) for seed in range(number)]


def ids_of(subject: Subject, variant: str, seconds: float = 1.0, dtype: str = "float32") -> list[list[int]]:
    return make_runner(variant, subject, CPU, dtype)(clips(2, seconds), TOKENS, Stopwatch(CPU))


@pytest.mark.parametrize("family", ["whisper", "speech2text", "moonshine", "ctc"])
def test_every_stage_is_timed(subjects: dict[str, Subject], family: str) -> None:
    subject = subjects[family]
    watch = timed(make_runner("sdpa", subject, CPU, "float32"), clips(3, 1.0), TOKENS, CPU)
    decoder = {"first_token", "tokens"} if subject.has_decoder else set()
    assert set(watch.laps) == {"features", "encoder", "detokenise"} | decoder
    assert watch.total == pytest.approx(sum(watch.laps.values()))
    assert (watch.first_token is not None) == subject.has_decoder


@pytest.mark.parametrize("family", ["whisper", "speech2text", "moonshine"])
def test_so_many_tokens_are_written_whatever_they_are(subjects: dict[str, Subject], family: str) -> None:
    assert [len(ids) for ids in ids_of(subjects[family], "sdpa")] == [TOKENS, TOKENS]


def test_beyond_its_window_a_whisper_goes_window_by_window(subjects: dict[str, Subject]) -> None:
    assert [len(ids) for ids in ids_of(subjects["whisper"], "sdpa", seconds=5.0)] == [3 * TOKENS, 3 * TOKENS]


@pytest.mark.parametrize("variant", ["eager", "static_cache"])
def test_how_it_is_computed_changes_no_token(subjects: dict[str, Subject], variant: str) -> None:
    assert ids_of(subjects["whisper"], variant) == ids_of(subjects["whisper"], "sdpa")


@pytest.mark.parametrize("variant", ["int8", "fp16_encoder", "bf16", "thinned"])
def test_variants_that_change_the_numbers_run(subjects: dict[str, Subject], variant: str) -> None:
    runner = make_runner(variant, subjects["whisper"], CPU, "float32")
    assert len(runner(clips(1, 1.0), TOKENS, Stopwatch(CPU))[0]) == TOKENS


def test_the_encoder_alone_is_in_half_precision(subjects: dict[str, Subject]) -> None:
    runner = make_runner("fp16_encoder", subjects["whisper"], CPU, "float32")
    model = runner.modules()
    assert {p.dtype for p in model.get_encoder().parameters()} == {torch.float16}
    assert {p.dtype for p in model.get_decoder().parameters()} == {torch.float32}


REFUSED = [
    ("cuda_graphs", "whisper", "CUDA"),
    ("static_cache", "ctc", "only for Whisper"),
    ("fp16_encoder", "ctc", "no decoder"),
    ("thinned", "moonshine", "only for Whisper"),
    ("ctranslate2", "whisper", "not installed"),
    ("onnx", "ctc", "not installed"),
]


@pytest.mark.parametrize(("variant", "family", "reason"), REFUSED)
def test_what_cannot_be_had_says_why(subjects: dict[str, Subject], variant: str, family: str, reason: str) -> None:
    with pytest.raises(NotAvailable, match=reason):
        make_runner(variant, subjects[family], CPU, "float32")


def test_a_runtime_that_is_handed_in_is_used(subjects: dict[str, Subject]) -> None:
    own = make_runner("sdpa", subjects["ctc"], CPU, "float32")
    assert make_runner("onnx", subjects["ctc"], CPU, "float32", {"onnx": lambda subject, device: own}) is own


def test_every_variant_is_described() -> None:
    assert all(variant.about for variant in VARIANTS.values())


@pytest.mark.parametrize("name", ["config:whisper-tiny", "config:moonshine-tiny", "config:w2v-bert-mini"])
def test_a_name_alone_needs_no_tokenizer(name: str) -> None:
    subject = find_subject(name)
    assert not subject.writes
    model = subject.build()(subject.config) if name == "config:w2v-bert-mini" else None
    if model is not None:
        inputs = subject.inputs(model, clips(2, 1.0))
        assert next(iter(inputs.values())).shape[0] == 2


def test_random_weights_are_those_of_the_seed() -> None:
    first, second, other = (find_subject("config:w2v-bert-mini", seed=seed).load() for seed in (1, 1, 2))
    assert torch.equal(first.lm_head.weight, second.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_a_family_without_stages_is_refused() -> None:
    with pytest.raises(UserError, match="stages can be timed apart"):
        find_subject("config:parakeet-tdt-0.6b-v3")


def test_free_decoding_is_evaluates_own(subjects: dict[str, Subject], tmp_path: Path) -> None:
    from hf_asr.profiling.clips import noise_clips

    found = noise_clips(1.0, 3, seed=0)
    assert len(make_runner("sdpa", subjects["ctc"], CPU, "float32").write(found)) == 3
