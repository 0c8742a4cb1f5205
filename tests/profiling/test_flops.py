"""FLOPs by formula are the published figures, and what torch counts under the math kernel."""

from __future__ import annotations

import pytest
import torch

from hf_asr.models import FAMILIES
from hf_asr.profiling.architectures import published
from hf_asr.profiling.counted import count, shapes_only
from hf_asr.profiling.flops import GIGA, analytic, attention

WHISPER = {
    "whisper-tiny": (36.94, 0.0656, 23.2),
    "whisper-base": (87.4, 0.1156, 59.8),
    "whisper-small": (344.0, 0.3331, 261.4),
    "whisper-medium": (1138.0, 0.9583, 917.5),
}


@pytest.mark.parametrize("name", WHISPER)
def test_whisper_at_30_s(name: str) -> None:
    config, _ = published(FAMILIES["whisper"], name)
    flops = analytic(config, 3000)
    encoder, step, without = WHISPER[name]
    assert flops.encoder / GIGA == pytest.approx(encoder, rel=0.01)
    assert flops.decoder_step / GIGA == pytest.approx(step, rel=0.01)
    own = config.encoder_layers * attention(1500, 1500, config.d_model)
    assert (flops.encoder - own) / GIGA == pytest.approx(without, rel=0.01), "what leaves attention out counts"


@pytest.mark.parametrize(("seconds", "expected"), [(5, 71.7), (15, 229.2), (30, 500.0), (60, 1166.0)])
def test_wav2vec2_base(seconds: int, expected: float) -> None:
    config, _ = published(FAMILIES["ctc"], "wav2vec2-base")
    assert analytic(config, 16_000 * seconds).encoder / GIGA == pytest.approx(expected, rel=0.01)


COUNTED = [
    ("whisper", "whisper-tiny", {"input_features": (1, 80, 3000)}, 3000),
    ("ctc", "wav2vec2-base", {"input_values": (1, 80_000)}, 80_000),
    ("ctc", "wav2vec2-xls-r-300m", {"input_values": (1, 48_000)}, 48_000),
    ("ctc", "hubert-base", {"input_values": (1, 33_333)}, 33_333),
    ("moonshine", "moonshine-tiny", {"input_values": (1, 80_000)}, 80_000),
    ("moonshine", "moonshine-base", {"input_values": (1, 50_001)}, 50_001),
    ("speech2text", "speech2text-small", {"input_features": (1, 499, 80)}, 499),
]


@pytest.mark.parametrize(("family", "name", "shapes", "frames"), COUNTED, ids=[row[1] for row in COUNTED])
def test_the_formula_is_what_torch_counts(family: str, name: str, shapes: dict, frames: int) -> None:
    config, _ = published(FAMILIES[family], name)
    inputs = {key: torch.zeros(shape, device="meta") for key, shape in shapes.items()}
    counted = count(shapes_only(FAMILIES[family].build, config), inputs)
    formula = analytic(config, frames)
    assert formula.states == counted.states
    for field in ("encoder", "cross_kv", "decoder_step", "head"):
        assert (getattr(formula, field) or 0) == pytest.approx(getattr(counted, field) or 0, rel=0.01), field


def test_an_architecture_without_a_formula_is_counted() -> None:
    config, _ = published(FAMILIES["ctc"], "w2v-bert-mini")
    assert analytic(config, 250) is None
    inputs = {"input_features": torch.zeros(1, 250, 160, device="meta")}
    counted = count(shapes_only(FAMILIES["ctc"].build, config), inputs)
    assert counted.encoder > 0 and counted.decoder_step is None
    assert counted.head == 2 * 250 * 144 * config.vocab_size


@pytest.mark.parametrize(
    ("family", "name"),
    [
        (family, name)
        for family in ("whisper", "moonshine", "speech2text", "ctc")
        for name in FAMILIES[family].config_names
    ],
)
def test_every_name_has_an_architecture_without_a_tokenizer(family: str, name: str) -> None:
    config, processor = published(FAMILIES[family], name)
    assert config.vocab_size > 0 and processor.feature_extractor.sampling_rate == 16_000


def test_a_family_that_needs_its_tokenizer_has_none() -> None:
    assert published(FAMILIES["parakeet_tdt"], "parakeet-tdt-0.6b-v3") is None
