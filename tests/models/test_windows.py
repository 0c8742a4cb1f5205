"""``model.window`` and ``evaluation.window`` through the family: what is loaded, collated, decoded and refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.thin_clips import SECONDS
from helpers.tiny_families import tiny_arguments
from helpers.tiny_whisper import make_tiny_whisper
from torch.testing import assert_close
from transformers import WhisperForConditionalGeneration

from hf_asr.config.arguments import Arguments
from hf_asr.data.corpora import build_splits
from hf_asr.errors import UserError
from hf_asr.features.positions import WindowChoice
from hf_asr.models import FAMILIES, get_family
from hf_asr.models.family import collator_for
from hf_asr.models.whisper import FAMILY
from hf_asr.models.whisper_thin import ThinWhisper


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> Arguments:
    folder = tmp_path_factory.mktemp("windows")
    checkpoint = make_tiny_whisper(folder / "model", chunk_length=SECONDS)
    return tiny_arguments(folder / "corpus", checkpoint)


def choice(arguments: Arguments, window: str) -> WindowChoice:
    return WindowChoice.of(arguments.model, window)


def loaded(arguments: Arguments, window: str, evaluation: str = "full") -> tuple[Any, Any, list[dict[str, Any]]]:
    """Return processor, model and four encoded rows."""
    arguments.model.window, arguments.evaluation.window = window, evaluation
    processor = FAMILY.load_processor(arguments, None)
    model = FAMILY.load_model(arguments, processor)
    encode = FAMILY.make_encoder(processor, model.config, arguments)
    rows = build_splits(arguments.data, seed=0, names=["train"])["train"].rows
    return processor, model.eval(), [encode(row) for row in list(rows)[:4]]


@pytest.mark.parametrize(
    ("window", "evaluation", "kind"),
    [
        ("full", "full", WhisperForConditionalGeneration),
        ("thinned", "full", ThinWhisper),
        ("full", "clip", ThinWhisper),
    ],
)
def test_a_model_takes_plans_where_a_window_asks_for_it(
    arguments: Arguments, window: str, evaluation: str, kind: type
) -> None:
    _, model, _ = loaded(arguments, window, evaluation)
    assert type(model) is kind


@pytest.mark.parametrize(
    ("window", "keep", "stride", "run", "positions", "total"),
    # Clips of 62, 142, 102 and 182 frames, in a window of 300 frames and 150 positions.
    [("thinned", 0.2, 10, 1, 112, 150), ("thinned", 0.2, 10, 10, 128, 150), ("clip", 0.5, 10, 1, 96, None)],
)
def test_batches_carry_the_plan(
    arguments: Arguments, window: str, keep: float, stride: int, run: int, positions: int, total: int | None
) -> None:
    processor, model, rows = loaded(arguments, window)
    chosen = arguments.model
    chosen.window_keep_seconds, chosen.window_stride, chosen.window_run = keep, stride, run
    batch = collator_for(FAMILY, processor, model, choice(arguments, window))(rows)
    frames = [len(row["input_features"]) for row in rows]
    assert batch["positions"].shape == batch["log_weights"].shape == (4, positions)
    expected = [total] * 4 if total else [-(-count // 16) * 8 for count in frames]
    assert_close(batch["log_weights"].exp().sum(1), torch.tensor(expected, dtype=torch.float32))
    assert batch["input_features"].shape[2] == 192 and max(frames) <= 186
    assert {"labels", "decoder_input_ids", "ids", "skipped"} <= set(batch)


def test_decoding_at_stride_1_gives_the_full_window_s_text(arguments: Arguments) -> None:
    processor, model, rows = loaded(arguments, "full", "thinned")
    arguments.model.window_stride = 1
    options = {"max_new_tokens": 10, "num_beams": 2}
    batches = [
        collator_for(FAMILY, processor, model, choice(arguments, window))(rows) for window in ("full", "thinned")
    ]
    assert "positions" not in batches[0] and "positions" in batches[1]
    texts = [FAMILY.decode(model, processor, batch, options) for batch in batches]
    assert texts[0] == texts[1] and len(texts[0]) == 4


def test_mixing_gives_some_batches_the_full_window(arguments: Arguments) -> None:
    processor, model, rows = loaded(arguments, "clip")
    collate = collator_for(FAMILY, processor, model, choice(arguments, "clip"), mix=0.5, seed=3)
    batches = [collate([row, other]) for row in rows for other in rows]
    assert {"positions" in batch for batch in batches} == {True, False}
    for batch in batches:
        assert ("positions" in batch) == (batch["input_features"].shape[2] < 100 * SECONDS)
        inputs = {name: batch[name] for name in ("input_features", "positions", "log_weights") if name in batch}
        assert model(**inputs, decoder_input_ids=batch["decoder_input_ids"]).logits.isfinite().all()


def test_other_families_have_only_their_full_window(arguments: Arguments) -> None:
    arguments.model.window, arguments.model.family = "thinned", "classifier"
    with pytest.raises(UserError, match=r"model\.window: expected full for a classifier model.*found thinned"):
        get_family(arguments.model)
    arguments.model.window, arguments.model.family = "full", None
    assert get_family(arguments.model) is FAMILY
    for name, family in FAMILIES.items():
        assert (family.window_padder is None) == (name != "whisper")
    with pytest.raises(UserError, match=r"evaluation\.window: expected full for a ctc model"):
        collator_for(FAMILIES["ctc"], None, None, WindowChoice("clip"))  # type: ignore[arg-type]


def test_flash_attention_is_refused_before_training(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    processor, model, _ = loaded(arguments, "full")
    model.config._attn_implementation = "flash_attention_2"
    monkeypatch.setattr("hf_asr.models.whisper.load_model", lambda *sections: model)
    arguments.model.window = "thinned"
    with pytest.raises(UserError, match="attn_implementation: expected sdpa or eager"):
        FAMILY.load_model(arguments, processor)


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention"])
def test_attention_is_refused_before_its_package_is_asked_for(arguments: Arguments, attention: str) -> None:
    arguments = copy.deepcopy(arguments)
    arguments.model.attn_implementation, arguments.model.window = attention, "clip"
    processor = FAMILY.load_processor(arguments, None)
    with pytest.raises(UserError, match=f"expected sdpa or eager, .* found {attention}"):
        FAMILY.load_model(arguments, processor)


@pytest.mark.parametrize("window", ["full", "thinned"])
def test_options_that_need_all_positions_are_refused_before_training(arguments: Arguments, window: str) -> None:
    """Only what decodes in that window is: a model that is trained on less may be decoded in the full one."""
    arguments = copy.deepcopy(arguments)
    arguments.evaluation.generation = {"cache_implementation": "static"}
    arguments.model.window, arguments.evaluation.window = "thinned", window
    processor = FAMILY.load_processor(arguments, None)
    if window == "full":
        FAMILY.load_model(arguments, processor)
        return
    with pytest.raises(UserError, match=r"^evaluation\.generation\.cache_implementation: expected another .*=full\.$"):
        FAMILY.load_model(arguments, processor)


@pytest.mark.parametrize("given", ["thinned window", "bank"])
def test_the_options_of_the_stock_model_are_those_of_one_that_takes_plans(arguments: Arguments, given: str) -> None:
    """Once refused, as if the model were none that falls back to other temperatures."""
    arguments = copy.deepcopy(arguments)
    window = "thinned" if given == "thinned window" else "full"
    arguments.model.window, arguments.features.bank = window, "on" if given == "bank" else "off"
    processor = FAMILY.load_processor(arguments, None)
    model = FAMILY.load_model(arguments, processor)
    assert isinstance(model, ThinWhisper)
    options = {"temperature": [0.0, 0.4], "compression_ratio_threshold": 1.35, "logprob_threshold": -1.0}
    FAMILY.check_decoding(model, options | {"no_speech_threshold": 0.6})
    with pytest.raises(UserError, match="does not know zzz"):
        FAMILY.check_decoding(model, {"zzz": 1})


def test_a_refusal_while_decoding_is_one_message(arguments: Arguments) -> None:
    processor, model, rows = loaded(arguments, "thinned")
    collate = collator_for(FAMILY, processor, model, WindowChoice("thinned", 0.1, 3))
    with pytest.raises(UserError, match=r"^evaluation\.generation\.cache_implementation: expected another value"):
        FAMILY.decode(model, processor, collate(rows), {"cache_implementation": "static"})


def test_a_folder_of_its_own(arguments: Arguments, tmp_path: Path) -> None:
    """Saving after training on plans writes a folder that the full window decodes alike, without hf_asr."""
    processor, model, rows = loaded(arguments, "thinned")
    model.save_pretrained(tmp_path)
    stock = WhisperForConditionalGeneration.from_pretrained(tmp_path)
    FAMILY.check_saved(tmp_path, model)
    batch = FAMILY.make_collator(processor, model)(rows)
    assert FAMILY.decode(stock, processor, batch, {"max_new_tokens": 10}) == FAMILY.decode(
        model, processor, batch, {"max_new_tokens": 10}
    )
