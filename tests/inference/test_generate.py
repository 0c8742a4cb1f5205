"""The one road to hypotheses: each clip once, the same digits however it is called, and nothing left changed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator, PartialState, debug_launcher
from accelerate.state import AcceleratorState
from helpers.scripted_whisper import make_talker
from helpers.tiny_corpus import tone
from helpers.tiny_moonshine import make_tiny_moonshine
from transformers import MoonshineForConditionalGeneration, WhisperForConditionalGeneration

from hf_asr.config.arguments import (
    Arguments,
    DataArguments,
    EvaluationArguments,
    ExperimentArguments,
    FeatureArguments,
    ModelArguments,
    PeftArguments,
)
from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.data.corpora import ROW_FEATURES, Split
from hf_asr.errors import UserError
from hf_asr.features.cache import PreparedSplit, prepare_features
from hf_asr.inference.generate import (
    Conditions,
    Generated,
    auto_dtype,
    bare_model,
    generate_dataset,
    on_main,
    resolve_conditions,
)
from hf_asr.models import FAMILIES
from hf_asr.training.adapters import wrap_lora
from hf_asr.utterance import AudioRef, Drops, Utterance

FAMILY = FAMILIES["whisper"]
CPU = torch.device("cpu")
FLOAT32 = Conditions("full", "float32", 3, {"max_new_tokens": 6})


@dataclass
class Tiny:
    """A loaded tiny Whisper, and clips prepared for it in the cache and on the fly."""

    model: Any
    processor: Any
    cached: PreparedSplit
    live: PreparedSplit

    def run(self, model: Any = None, conditions: Conditions = FLOAT32, prepared: Any = None) -> Generated:
        return generate_dataset(
            model or self.model, FAMILY, self.processor, prepared or self.cached, conditions, progress=False
        )


def make_split(folder: Path, clips: int, broken: bool) -> Split:
    rows = []
    for index in range(clips):
        path = folder / f"clip{index}.wav"
        path.write_bytes(encode(tone(index, 0.5 + 0.2 * index), SAMPLE_RATE, "wav"))
        rows.append(Utterance(path.stem, AudioRef(str(path)), f"word {index}", "s", 0.5 + 0.2 * index).as_row())
    if broken:
        (folder / "torn.wav").write_bytes(b"RIFF")
        rows.insert(4, Utterance("torn", AudioRef(str(folder / "torn.wav")), "x", "s", 1.0).as_row())
    return Split("test", datasets.Dataset.from_list(rows, features=ROW_FEATURES), Drops(), None)


def arguments_of(tiny: Tiny, evaluation: EvaluationArguments | None = None, **model: Any) -> Arguments:
    """Return a configuration of the tiny model."""
    chosen = ModelArguments(tiny.model.name_or_path, **model)
    data = DataArguments(language="en")
    return Arguments(ExperimentArguments("tiny", seed=0), chosen, data, evaluation=evaluation or EvaluationArguments())


def load_again(tiny: Tiny, **model: Any) -> Any:
    """Load the tiny model anew, with other keys of the model section."""
    return FAMILY.load_model(arguments_of(tiny, **model), tiny.processor)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    model_arguments = ModelArguments(str(make_talker(folder / "model")))
    arguments = Arguments(ExperimentArguments("tiny"), model_arguments, DataArguments(language="en", max_seconds=4))
    processor = FAMILY.load_processor(arguments, None)
    model = FAMILY.load_model(arguments, processor)
    encoder = FAMILY.make_encoder(processor, model.config, arguments)
    split = make_split(folder, 10, broken=True)
    prepared = [
        prepare_features(
            split,
            encoder,
            fingerprint={},
            features=FeatureArguments(cache=cache, cache_dir=str(folder / "cache"), num_proc=1),
            on_bad_clip="skip",
        )
        for cache in (True, False)
    ]
    return Tiny(model, processor, *prepared)


def texts(generated: Generated) -> dict[str, str]:
    return {hypothesis.id: hypothesis.text for hypothesis in generated.hypotheses}


def test_texts_are_those_of_plain_transformers(tiny: Tiny) -> None:
    found = tiny.run()
    assert [hypothesis.id for hypothesis in found.hypotheses] == [f"clip{index}" for index in range(10)]
    assert len(set(texts(found).values())) > 3, "the clips are to be told apart"
    rows = [tiny.cached.rows[index] for index in range(10)]
    expected = []
    for start in range(0, 10, 3):
        batch = FAMILY.make_collator(tiny.processor, tiny.model)(rows[start : start + 3])
        tokens = tiny.model.generate(batch["input_features"], max_new_tokens=6)
        expected += tiny.processor.batch_decode(tokens, skip_special_tokens=True)
    assert [hypothesis.text for hypothesis in found.hypotheses] == expected


def test_durations_and_speed(tiny: Tiny) -> None:
    found = tiny.run()
    assert found.durations == pytest.approx([0.5 + 0.2 * index for index in range(10)])
    assert found.seconds_of_audio == pytest.approx(14.0)
    assert found.rtfx == found.seconds_of_audio / found.wall_seconds > 0


def test_a_broken_clip_has_no_hypothesis_and_is_named(tiny: Tiny) -> None:
    cached, live = tiny.run(prepared=tiny.cached), tiny.run(prepared=tiny.live)
    assert tiny.cached.drops.counts() == {"broken_audio": 1}
    assert cached.drops.total() == 0, "what the cache left out is told by the prepared split"
    assert live.drops.counts() == {"broken_audio": 1}
    assert live.drops.reasons["broken_audio"][0][0] == "torn"
    assert texts(live) == texts(cached)


def test_a_batch_of_nothing_but_broken_clips(tiny: Tiny) -> None:
    found = tiny.run(conditions=replace(FLOAT32, batch_size=1), prepared=tiny.live)
    assert len(found.hypotheses) == 10
    assert found.drops.total() == 1


def test_a_clip_twice_is_an_error(tiny: Tiny) -> None:
    twice = replace(tiny.cached, rows=[tiny.cached.rows[0], *(tiny.cached.rows[index] for index in range(9))])
    with pytest.raises(AssertionError, match="decoded twice"):
        tiny.run(prepared=twice)


def test_a_missing_clip_is_an_error(tiny: Tiny) -> None:
    fewer = replace(tiny.cached, rows=[tiny.cached.rows[index] for index in range(9)])
    with pytest.raises(AssertionError, match="was not decoded"):
        tiny.run(prepared=fewer)


def test_the_model_and_all_random_states_are_left_as_found(tiny: Tiny) -> None:
    model = tiny.model.train()
    model.model.encoder.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    tiny.run(conditions=replace(FLOAT32, generation={"max_new_tokens": 6, "do_sample": True}))
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert set(modes.values()) == {True, False}
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()
    model.eval()


def test_a_failure_leaves_the_model_as_found_too(tiny: Tiny) -> None:
    model = tiny.model.train()
    with pytest.raises(AssertionError):
        tiny.run(prepared=replace(tiny.cached, rows=[tiny.cached.rows[0]]))
    broken = replace(tiny.cached, rows=[{}] * 10)
    with pytest.raises(KeyError):
        tiny.run(prepared=broken)
    assert all(module.training for module in model.modules())
    model.eval()


def test_sampling_depends_on_the_clips_alone(tiny: Tiny) -> None:
    sampled = replace(FLOAT32, generation={"max_new_tokens": 6, "do_sample": True, "temperature": 3.0})
    torch.manual_seed(1)
    first = texts(tiny.run(conditions=sampled))
    torch.manual_seed(2)
    assert texts(tiny.run(conditions=sampled)) == first
    assert first != texts(tiny.run())


def test_training_mode_checkpointing_and_a_switched_off_cache_change_nothing(tiny: Tiny) -> None:
    expected = texts(tiny.run())
    model = load_again(tiny, dropout=0.5)
    model.activation_checkpointing_enable()
    model.config.use_cache = False
    model.train()
    assert texts(tiny.run(model)) == expected


def test_the_cache_is_on_unless_asked_otherwise(tiny: Tiny) -> None:
    seen: list[Mapping[str, Any]] = []

    def spy(model: Any, processor: Any, batch: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
        seen.append(options)
        return FAMILY.decode(model, processor, batch, options)

    for given_generation in ({}, {"use_cache": False}):
        conditions = replace(FLOAT32, batch_size=10, generation={"max_new_tokens": 2, **given_generation})
        generate_dataset(tiny.model, replace(FAMILY, decode=spy), tiny.processor, tiny.cached, conditions)
    assert [options.get("use_cache") for options in seen] == [None, False]


def test_adapters_are_looked_through_and_stay_active(tiny: Tiny) -> None:
    base = WhisperForConditionalGeneration.from_pretrained(tiny.model.name_or_path)
    base.generation_config = tiny.model.generation_config
    wrapped = wrap_lora(base, FAMILY, PeftArguments(method="lora", r=4))
    assert texts(tiny.run(wrapped)) == texts(tiny.run())
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    adapted = texts(tiny.run(wrapped))
    assert adapted != texts(tiny.run())
    merged = wrapped.merge_and_unload()
    assert bare_model(merged) is merged
    assert texts(tiny.run(merged)) == adapted


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    AcceleratorState._reset_state(True)
    yield Accelerator(cpu=True, mixed_precision="bf16")
    AcceleratorState._reset_state(True)


def test_training_in_bf16_does_not_reach_validation(tiny: Tiny, accelerator: Accelerator) -> None:
    model = load_again(tiny)
    expected, plain = texts(tiny.run(model)), logits_dtypes(tiny, model)
    prepared = accelerator.prepare(model)
    wrapped = prepared.forward
    assert logits_dtypes(tiny, prepared) == plain == {torch.float32}
    assert texts(tiny.run(prepared)) == expected
    assert prepared.forward is wrapped, "training goes on in bf16"


def logits_dtypes(tiny: Tiny, model: Any, conditions: Conditions = FLOAT32) -> set[torch.dtype]:
    """Return the dtypes that a matrix product inside the decoder had."""
    seen = set()
    layer = bare_model(model).model.decoder.layers[0].fc2
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    tiny.run(model, conditions)
    hook.remove()
    return seen


def test_half_precision_is_autocast_and_the_weights_stay(tiny: Tiny) -> None:
    conditions = replace(FLOAT32, dtype="bfloat16")
    assert logits_dtypes(tiny, tiny.model, conditions) == {torch.bfloat16}
    assert {parameter.dtype for parameter in tiny.model.parameters()} == {torch.float32}


def test_half_weights_are_computed_as_stored_or_refused(tiny: Tiny) -> None:
    half = load_again(tiny, dtype="bfloat16")
    conditions = resolve_conditions(
        FAMILY, arguments_of(tiny, evaluation=EvaluationArguments(batch_size=3)), CPU, half.dtype
    )
    assert conditions.dtype == "bfloat16"
    assert logits_dtypes(tiny, half, replace(FLOAT32, dtype="bfloat16")) == {torch.bfloat16}
    with pytest.raises(UserError, match=r"evaluation\.dtype is float32, .* bfloat16 .* evaluation\.dtype=bfloat16"):
        tiny.run(half)


@pytest.mark.parametrize(
    ("device", "has_bf16", "weights", "asked", "dtype"),
    [
        ("cpu", True, torch.float32, "auto", "float32"),
        ("cpu", True, torch.bfloat16, "auto", "bfloat16"),
        ("cpu", True, torch.float32, "bfloat16", "bfloat16"),
        ("cuda", True, torch.float32, "auto", "bfloat16"),
        ("cuda", False, torch.float32, "auto", "float16"),
        ("cuda", True, torch.float16, "auto", "float16"),
        ("cuda", True, torch.float32, "float32", "float32"),
        ("mps", False, torch.float32, "auto", "float32"),
    ],
)
def test_auto_dtype(
    monkeypatch: pytest.MonkeyPatch, device: str, has_bf16: bool, weights: torch.dtype, asked: str, dtype: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert (asked if asked != "auto" else auto_dtype(torch.device(device), weights)) == dtype


def test_conditions_as_they_are_stored() -> None:
    evaluation = EvaluationArguments(batch_size=5, generation={"num_beams": 2})
    arguments = Arguments(ExperimentArguments("x"), ModelArguments("x"), evaluation=evaluation)
    assert resolve_conditions(FAMILY, arguments, CPU).as_dict() == {
        "window": "full",
        "dtype": "float32",
        "batch_size": 5,
        "generation": {"num_beams": 2},
    }


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"num_beam": 2}, "WhisperForConditionalGeneration does not know num_beam; did you mean num_beams"),
        ({"zzz": 2}, "does not know zzz; use names of"),
        ({"num_return_sequences": 2}, "may not set num_return_sequences"),
        ({"return_dict_in_generate": True}, "may not set return_dict_in_generate"),
    ],
)
def test_generation_options_that_cannot_be(tiny: Tiny, generation: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny.run(conditions=replace(FLOAT32, generation=generation))


@pytest.mark.parametrize("name", ["num_beams", "repetition_penalty", "compression_ratio_threshold", "temperature"])
def test_generation_options_that_can_be(tiny: Tiny, name: str) -> None:
    FAMILY.check_decoding(tiny.model, {name: 1.0})


@pytest.mark.parametrize(
    ("family", "generation", "message"),
    [
        ("whisper", {"temperature": [0.0, 0.4]}, "expected compression_ratio_threshold or logprob_threshold beside"),
        ("whisper", {"temperature": [], "logprob_threshold": -1.0}, "expected numbers of at least 0, found none"),
        ("whisper", {"temperature": [0.0, -1.0], "logprob_threshold": -1.0}, r"found \[0.0, -1.0\]"),
        ("moonshine", {"temperature": [0.0, 0.4]}, "expected one number for this MoonshineForCond"),
        ("whisper", {"no_speech_threshold": 0.6}, "expected logprob_threshold beside it"),
        ("whisper", {"no_speech_threshold": 0.6, "logprob_threshold": -1.0}, "logprob_threshold: expected temperature"),
        ("moonshine", {"logprob_threshold": -1.0}, "does not know logprob_threshold"),
    ],
)
def test_a_fallback_that_cannot_be(
    tiny: Tiny, family: str, generation: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = tiny.model
    if family == "moonshine":
        model = MoonshineForConditionalGeneration.from_pretrained(make_tiny_moonshine(tmp_path))
    with pytest.raises(UserError, match=message):
        FAMILIES[family].check_decoding(model, generation)


def test_progress_is_shown_on_stderr_only(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    generate_dataset(tiny.model, FAMILY, tiny.processor, tiny.cached, FLOAT32)
    assert capsys.readouterr().out == ""


def in_two_processes(tiny: Tiny, expected: dict[str, str], clips: list[float]) -> None:
    """Run on each of two processes; what is wrong there ends the test."""
    torch.set_num_threads(1)
    assert PartialState(cpu=True).num_processes == 2
    found = tiny.run(prepared=tiny.live)
    assert texts(found) == expected
    assert [hypothesis.id for hypothesis in found.hypotheses] == list(expected)
    assert found.durations == clips
    assert found.drops.counts() == {"broken_audio": 1}
    assert on_main(lambda: PartialState().process_index) == 0
    with pytest.raises(UserError, match="told by the main process"):
        on_main(failing)


def failing() -> None:
    raise UserError("told by the main process")


def test_two_processes_give_what_one_gives(tiny: Tiny) -> None:
    alone = tiny.run(prepared=tiny.live)
    AcceleratorState._reset_state(True)
    debug_launcher(in_two_processes, (tiny, texts(alone), alone.durations), num_processes=2)
    AcceleratorState._reset_state(True)


def test_on_main_in_one_process() -> None:
    assert on_main(max, 1, 2) == 2
    with pytest.raises(UserError, match="told by"):
        on_main(failing)
