"""Validation in one pass: the encoder runs once a batch, and loss and texts are those of two passes to the last bit."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from helpers.family_training import trainer_of
from helpers.tiny_families import Parts

from hf_asr.config.arguments import FreezeArguments, PeftArguments
from hf_asr.inference import generate
from hf_asr.inference.generate import Conditions
from hf_asr.inference.states import RememberedStates, encoding_once
from hf_asr.models.family import collator_for
from hf_asr.training import validation
from hf_asr.training.adapters import make_trainable
from hf_asr.training.trainer import SpeechTrainer

# Eight clips in batches of three.
BATCHES = 3
LORA = PeftArguments(method="lora", r=2, alpha=4, dropout=0.1)
NEW_TOKENS = {"max_new_tokens": 6}


@pytest.fixture(scope="module", params=["whisper", "speech2text", "moonshine"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts.of(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts.of("whisper", tmp_path_factory.mktemp("whisper"))


def trainer_in(folder: Path, parts: Parts, window: str = "full", **changes: Any) -> SpeechTrainer:
    """Return a trainer as ``build_trainer`` makes it, its model loud enough to write something else for each clip."""
    evaluation = changes.pop("evaluation", window)
    generation = NEW_TOKENS | changes.pop("generation", {})
    dtype, lora = changes.pop("dtype", "float32"), changes.pop("lora", False)
    parts.arguments.model.window, parts.arguments.evaluation.window = window, evaluation
    model = parts.model(gain=16.0)
    trained = make_trainable(model, parts.family, FreezeArguments(), LORA, seed=0)[0] if lora else model
    trainer = trainer_of(parts.family, parts.processor, trained, parts.encoded, folder, **changes)
    if parts.family.name == "whisper":  # a random model writes timestamps unasked, and generate goes on at their place
        first = model.generation_config.no_timestamps_token_id + 1
        generation["suppress_tokens"] = list(range(first, model.config.vocab_size))
    trainer.conditions = Conditions(evaluation, dtype, 3, generation)
    trainer.eval_window = replace(trainer.conditions, window=window).choice()
    trainer.eval_collator = collator_for(parts.family, parts.processor, model, trainer.eval_window)
    return trainer


class Texts:
    """Keeps what ``generate_dataset`` wrote."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[list[str]] = []
        monkeypatch.setattr(validation, "generate_dataset", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        generated = generate.generate_dataset(*args, **kwargs)
        self.found.append([hypothesis.text for hypothesis in generated.hypotheses])
        return generated


class Runs:
    """Counts how often the encoder's first layer runs."""

    def __init__(self, trainer: SpeechTrainer) -> None:
        self.number = 0
        generate.bare_model(trainer.model).get_encoder().layers[0].register_forward_hook(self)

    def __call__(self, *args: Any) -> None:
        self.number += 1


def compare(trainer: SpeechTrainer, texts: Texts) -> None:
    """See that one pass gives what two give, with half of the encoder's runs."""
    runs = Runs(trainer)
    assert trainer.one_pass()
    once = trainer.evaluate()
    assert runs.number == BATCHES
    trainer.eval_window = None
    assert not trainer.one_pass()
    twice = trainer.evaluate()
    assert runs.number == 3 * BATCHES
    assert {k: v for k, v in once.items() if k != "eval_runtime"} == {
        k: v for k, v in twice.items() if k != "eval_runtime"
    }
    assert texts.found[0] == texts.found[1]
    assert len(set(texts.found[0])) > 1


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_every_family_encodes_once(parts: Parts, lora: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(trainer_in(tmp_path, parts, lora=lora), Texts(monkeypatch))


@pytest.mark.parametrize("window", ["thinned", "clip"])
@pytest.mark.parametrize("beams", [1, 2])
def test_windows_encode_once(
    whisper: Parts, window: str, beams: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(trainer_in(tmp_path, whisper, window, generation={"num_beams": beams}), Texts(monkeypatch))


def test_training_in_bfloat16_encodes_once(whisper: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, texts = trainer_in(tmp_path, whisper, bf16=True, dtype="bfloat16"), Texts(monkeypatch)
    trainer.train()  # from now on accelerate's autocast is around the model's forward
    compare(trainer, texts)
    AcceleratorState._reset_state(True)


@pytest.mark.parametrize(
    "changes",
    [{"dtype": "bfloat16"}, {"window": "thinned", "evaluation": "full"}],
    ids=["arithmetic", "window"],
)
def test_other_conditions_take_two_passes(whisper: Parts, changes: dict[str, Any], tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, whisper, **changes)
    runs = Runs(trainer)
    assert not trainer.one_pass()
    assert trainer.evaluate()["eval_loss"] > 0
    assert runs.number == 2 * BATCHES


def test_nothing_is_kept_and_training_computes_its_own(whisper: Parts, tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, whisper)
    encoder, alive = generate.bare_model(trainer.model).get_encoder(), []
    handle = encoder.layer_norm.register_forward_hook(lambda module, given, states: alive.append(weakref.ref(states)))
    trainer.evaluate()
    handle.remove()
    gc.collect()
    assert len(alive) == BATCHES and not any(reference() is not None for reference in alive)
    assert "forward" not in vars(encoder)
    runs = Runs(trainer)
    trainer.train()
    assert runs.number == 2  # steps
    assert "forward" not in vars(encoder)


def test_an_error_leaves_the_encoder_as_it_was(whisper: Parts) -> None:
    model = whisper.model()
    with pytest.raises(RuntimeError, match="on the way"), encoding_once(model, ("input_features",)):
        assert isinstance(vars(model.get_encoder())["forward"], RememberedStates)
        raise RuntimeError("on the way")
    assert "forward" not in vars(model.get_encoder())


def test_other_inputs_are_encoded_anew(whisper: Parts) -> None:
    model = whisper.model()
    batch = whisper.collate(model, whisper.encoded[:2])
    other = batch["input_features"].clone()
    other[0, 0, 0] += 1.0
    with torch.no_grad(), encoding_once(model, whisper.family.encoder_inputs):
        encoder = model.get_encoder()
        first, again = encoder(batch["input_features"]), encoder(input_features=batch["input_features"].clone())
        assert again.last_hidden_state is first.last_hidden_state and again is not first
        assert encoder(other).last_hidden_state is not first.last_hidden_state
        assert encoder(batch["input_features"][:1]).last_hidden_state.shape[0] == 1
        recorded = encoder(batch["input_features"][:1], output_hidden_states=True)
        assert recorded.hidden_states is not None
        assert encoder(batch["input_features"][:1]).hidden_states is None


def on_a_process(whisper: Parts, folder: Path, expected: dict[str, float]) -> None:
    """Evaluate on each of two processes; what is wrong there ends the test."""
    torch.set_num_threads(1)
    trainer = trainer_in(folder, whisper)
    assert trainer.one_pass() and trainer.accelerator.num_processes == 2
    with mock.patch.object(validation, "validation_scores", wraps=validation.validation_scores) as scored:
        found = trainer.evaluate()
    assert found["eval_loss"] == pytest.approx(expected["eval_loss"], rel=1e-7)
    assert found["eval_wer"] == expected["eval_wer"]
    assert scored.call_count == (1 if trainer.args.process_index == 0 else 0)
    trainer.eval_window = None
    twice = trainer.evaluate()
    assert {k: found[k] for k in ("eval_loss", "eval_wer")} == {k: twice[k] for k in ("eval_loss", "eval_wer")}


def test_two_processes_give_what_one_gives(whisper: Parts, tmp_path: Path) -> None:
    expected = trainer_in(tmp_path, whisper).evaluate()
    AcceleratorState._reset_state(True)
    debug_launcher(on_a_process, (whisper, tmp_path, expected), num_processes=2)
    AcceleratorState._reset_state(True)
