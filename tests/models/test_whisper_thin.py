"""Thinned Whisper: the stock model's numbers where nothing is left out, and the right ones where something is."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from helpers.thin_clips import FRAMES, POSITIONS, SECONDS, loud_whisper, pair, planned, prompts, windows
from helpers.tiny_whisper import make_tiny_whisper
from torch import nn
from torch.nn import functional
from torch.testing import assert_close
from transformers import WhisperForConditionalGeneration

from hf_asr.errors import UserError
from hf_asr.features.positions import Window
from hf_asr.models.chunked_head import targets
from hf_asr.models.losses import summed_cross_entropy
from hf_asr.models.whisper_thin import ThinStates, ThinWhisper, thinned


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multilingual Whisper of two layers each."""
    where = tmp_path_factory.mktemp("thin")
    return make_tiny_whisper(where, chunk_length=SECONDS, encoder_layers=2, decoder_layers=2)


# What the stock model's own logits in bfloat16 differ from those in float32: 0.08 of values up to 8.4. Seen here: 0.
PRECISIONS = {
    "float64": (torch.float64, False, 1e-10),
    "float32": (torch.float32, False, 1e-5),
    "autocast": (torch.float32, True, 0.08),
    "bfloat16": (torch.bfloat16, False, 0.08),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_stride_1_gives_the_stock_logits(folder: Path, attention: str, precision: str) -> None:
    dtype, autocast, tolerance = PRECISIONS[precision]
    stock, thin = (model.to(dtype) for model in pair(folder, attn_implementation=attention))
    whole = windows().to(dtype)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
        expected = stock(whole, decoder_input_ids=prompts())
        found = thin(**planned(whole), decoder_input_ids=prompts())
        left_out = thin(**planned(whole, stride=20), decoder_input_ids=prompts())
    assert_close(found.logits, expected.logits, rtol=0, atol=tolerance)
    states = found.encoder_last_hidden_state[:, :POSITIONS]
    assert_close(states, expected.encoder_last_hidden_state, rtol=0, atol=tolerance)
    assert (left_out.logits - expected.logits).abs().max() > 2 * tolerance  # the inputs could have told


def test_without_a_plan_it_is_the_stock_model(folder: Path) -> None:
    stock, thin = pair(folder)
    options = {"max_new_tokens": 8, "language": "ru"}
    with torch.no_grad():
        expected, found = (
            model(windows(), decoder_input_ids=prompts(), output_hidden_states=True) for model in (stock, thin)
        )
    assert_close(found.logits, expected.logits, rtol=0, atol=0)
    assert len(found.encoder_hidden_states) == len(expected.encoder_hidden_states) == 3
    assert torch.equal(thin.generate(windows(), **options), stock.generate(windows(), **options))
    with pytest.raises(ValueError, match="expects the mel input features to be of length 300"):
        thin(windows()[:, :, :128], decoder_input_ids=prompts())


def gradients(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.train()
    logits = model(**batch, decoder_input_ids=prompts()).logits
    summed_cross_entropy(logits, prompts()).backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def with_lora(model: Any) -> Any:
    torch.manual_seed(2)
    settings = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    wrapped = peft.get_peft_model(model, settings)
    wrapped.enable_input_require_grads()
    return wrapped


@pytest.mark.parametrize("lora", [False, True], ids=["all", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_stride_1_gives_the_stock_gradients(folder: Path, attention: str, checkpointing: bool, lora: bool) -> None:
    found = []
    for model, batch in zip(
        pair(folder, attn_implementation=attention), [{"input_features": windows()}, planned(windows())], strict=True
    ):
        trained = with_lora(model) if lora else model
        if checkpointing:
            trained.gradient_checkpointing_enable({"use_reentrant": False})
        found.append(gradients(trained, batch))
    assert found[0].keys() == found[1].keys() and found[0]
    assert all("lora" in name for name in found[0]) is lora
    for name, expected in found[0].items():
        assert_close(found[1][name], expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.abs().max())))


def test_without_a_mask_all_is_as_with_zeros(folder: Path) -> None:
    """Clips that keep equally many positions, none standing for others: no log weights are handed in."""
    frames, found = (101, 180, 120), []
    for bare in (False, True):
        _, thin = pair(folder)
        batch = planned(windows(frames), frames, stride=0, bucket=100)
        if bare:
            batch |= Window(POSITIONS, stride=0, bucket=100).of_batch(frames)
            assert batch.pop("log_weights").shape == (3, 104) and batch["positions"].shape == (3, 100)
        written = thin.generate(**batch, max_new_tokens=8, num_beams=2, language="ru")
        found.append((written, gradients(thin, batch)))
    assert torch.equal(found[0][0], found[1][0])
    for name, expected in found[0][1].items():
        assert_close(found[1][1][name], expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.abs().max())))


def test_the_chunked_head_works_on_a_plan(folder: Path) -> None:
    _, thin = pair(folder)
    batch = {**planned(windows(), stride=10), "decoder_input_ids": prompts()}
    plain = summed_cross_entropy(thin(**batch).logits, prompts())
    with targets(thin, "proj_out", prompts(), 0.0):
        chunked = thin(**batch).logits
    assert_close(chunked, plain)


def attended(attention: nn.Module, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Attend from (Q, D) to (K, D) without any mask, one head at a time."""
    heads = [
        projection(states).unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(0, 1)
        for projection, states in ((attention.q_proj, queries), (attention.k_proj, keys), (attention.v_proj, keys))
    ]
    scores = heads[0] @ heads[1].transpose(1, 2) * attention.head_dim**-0.5
    return attention.out_proj((scores.softmax(-1) @ heads[2]).transpose(0, 1).flatten(1))


def encoded_with_copies(model: WhisperForConditionalGeneration, features: torch.Tensor, plan: Any) -> torch.Tensor:
    """Encode one clip's (F, M) window, every key as often as it counts; from the definition, not from the code."""
    encoder, copies = model.model.encoder, torch.from_numpy(plan.weights)
    convolved = functional.gelu(encoder.conv2(functional.gelu(encoder.conv1(features[None]))))[0].T
    states = (convolved + encoder.embed_positions.weight)[torch.from_numpy(plan.positions)]
    for layer in encoder.layers:
        inputs = layer.self_attn_layer_norm(states)
        states = states + attended(layer.self_attn, inputs, inputs.repeat_interleave(copies, 0))
        states = states + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(states))))
    return encoder.layer_norm(states)


@pytest.mark.parametrize("window", [Window(POSITIONS, 5, 7), Window(POSITIONS, 0, 40), Window(POSITIONS, 0, 0, 50)])
def test_a_key_with_a_weight_counts_as_so_many_keys(folder: Path, window: Window) -> None:
    stock, thin = pair(folder)
    whole = windows()
    batch = {"input_features": whole[:, :, : window.padded_frames(FRAMES)], **window.of_batch(FRAMES)}
    with torch.no_grad():
        found = thin(**batch, decoder_input_ids=prompts(), output_hidden_states=True)
        for index, frames in enumerate(FRAMES):
            plan = window.of_clip(frames)
            states = encoded_with_copies(stock, whole[index], plan)
            own = found.encoder_last_hidden_state[index, : len(plan.positions)]
            assert_close(own, states, rtol=0, atol=2e-5)
            copies = (states.repeat_interleave(torch.from_numpy(plan.weights), 0)[None],)
            expected = stock(encoder_outputs=copies, decoder_input_ids=prompts()[index : index + 1]).logits[0]
            assert_close(found.logits[index], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("stride", [0, 1, 10])
def test_neighbours_in_a_batch_change_nothing(folder: Path, stride: int) -> None:
    _, thin = pair(folder)
    frames = (300, *FRAMES)
    whole = windows(frames)
    with torch.no_grad():
        together = thin(**planned(whole, frames, stride=stride), decoder_input_ids=prompts(4)).logits
        for index, count in enumerate(frames):
            alone = planned(whole[index : index + 1], [count], stride=stride)
            logits = thin(**alone, decoder_input_ids=prompts(4)[index : index + 1]).logits[0]
            assert_close(together[index], logits, rtol=0, atol=1e-5)


# Seen by no published model: timestamps written unasked, after which the stock method goes on inside the audio.
FALLBACK = {"temperature": (0.0, 0.4, 0.8), "logprob_threshold": -1.0, "compression_ratio_threshold": 1.2}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "without cache": {"use_cache": False},
    "beams": {"num_beams": 3},
    "detected language": {"language": None},
    "no speech": {"no_speech_threshold": 0.0, "logprob_threshold": 0.0, "temperature": 0.0},
    "fallback": FALLBACK,
    "fallback and no speech": FALLBACK | {"no_speech_threshold": 0.99},
    "a prompt": {"prompt_ids": torch.tensor([5, 6, 7])},
}


def written(model: Any, batch: dict[str, torch.Tensor], **options: Any) -> list[list[int]]:
    generation = model.generation_config
    stamps = list(range(generation.no_timestamps_token_id + 1, len(model.get_input_embeddings().weight)))
    chosen = {"language": "ru", "max_new_tokens": 12, "suppress_tokens": stamps} | options
    torch.manual_seed(0)
    return [row.tolist() for row in model.generate(**batch, **chosen)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_stride_1_writes_what_the_stock_model_writes(folder: Path, attention: str, way: str) -> None:
    stock, thin = pair(folder, attn_implementation=attention)
    expected = written(stock, {"input_features": windows()}, **WAYS[way])
    assert written(thin, planned(windows()), **WAYS[way]) == expected


@pytest.mark.parametrize("way", ["greedy", "beams", "detected language", "a prompt"])
def test_thinned_text_is_the_same_without_cache_and_alone(folder: Path, way: str) -> None:
    """Every cached step and every beam sees its own clip's weights: steps without cache read them anew."""
    _, thin = pair(folder)
    whole, options = windows(), WAYS[way]
    found = written(thin, planned(whole, stride=40), **options)
    assert found == written(thin, planned(whole, stride=40), **options, use_cache=False)
    for index, frames in enumerate(FRAMES):
        alone = written(thin, planned(whole[index : index + 1], [frames], stride=40), **options)[0]
        assert found[index][: len(alone)] == alone
    assert found != written(thin, planned(whole, stride=1), **options)  # weights matter to what is written


def test_states_that_are_there_already_are_decoded_with_their_weights(folder: Path) -> None:
    _, thin = pair(folder)
    batch = planned(windows(), stride=40)
    states = thin.model.encoder(**batch)
    assert isinstance(states, ThinStates)
    expected = written(thin, batch, num_beams=2)
    assert written(thin, {"encoder_outputs": copy.copy(states)}, num_beams=2) == expected
    logits = thin(**batch, decoder_input_ids=prompts()).logits
    stored = (states.last_hidden_state,)
    again = thin(encoder_outputs=stored, log_weights=batch["log_weights"], decoder_input_ids=prompts())
    assert_close(again.logits, logits, rtol=0, atol=0)


def test_fallback_decodes_only_the_clips_that_need_it_each_on_its_own_plan(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, thin = pair(folder)
    given: list[tuple[int, int]] = []
    plain = type(thin.model.encoder)._encode

    def spied(self: Any, features: Any, positions: Any, log_weights: Any, **options: Any) -> Any:
        given.append((len(features), int(log_weights.exp().sum())))
        return plain(self, features, positions, log_weights, **options)

    monkeypatch.setattr(type(thin.model.encoder), "_encode", spied)
    monkeypatch.setattr(thin, "_need_fallback", lambda sequence, outputs, index, *rest: (index == 1, False))
    batch = planned(windows(), stride=40)
    first = written(thin, batch)
    again = written(thin, batch, temperature=(0.0, 0.0), logprob_threshold=0.0)
    assert given == [(3, 450), (3, 450), (1, 150)]
    assert again == first  # the second clip was decoded greedily a second time


def test_unasked_timestamps_end_nothing_and_are_left_out(folder: Path) -> None:
    _, thin = pair(folder)
    first = thin.generation_config.no_timestamps_token_id + 1
    options = {"language": "ru", "max_new_tokens": 12, "return_dict_in_generate": True}
    raw = thin.generate(**planned(windows(), stride=10), **options).sequences[:, -12:]
    found = thin.generate(**planned(windows(), stride=10), **(options | {"return_dict_in_generate": False}))
    assert (raw >= first).any()
    for tokens, all_tokens in zip(found, raw, strict=True):
        kept = all_tokens[all_tokens < first].tolist()
        assert kept and tokens.tolist()[: len(kept)] == kept


def test_specaugment_of_the_config_spares_the_silence_that_stands_for_all(folder: Path) -> None:
    _, thin = pair(folder)
    thin.config.apply_spec_augment, thin.config.mask_time_prob, thin.config.mask_time_length = True, 0.9, 5
    batch = planned(windows(), stride=10)
    batch["input_features"] = batch["input_features"].clone()
    silence = batch["input_features"][..., -6:].clone()
    thin.train()(**batch, decoder_input_ids=prompts())
    assert_close(batch["input_features"][..., -6:], silence)
    assert (batch["input_features"][0, :, :101] == 0).any()


def test_what_is_saved_is_a_stock_whisper(folder: Path, tmp_path: Path) -> None:
    stock, thin = pair(folder)
    assert {name: tuple(value.shape) for name, value in thin.state_dict().items()} == {
        name: tuple(value.shape) for name, value in stock.state_dict().items()
    }
    thin.save_pretrained(tmp_path)
    again = WhisperForConditionalGeneration.from_pretrained(tmp_path)
    assert type(again) is WhisperForConditionalGeneration
    assert again.config.architectures == ["WhisperForConditionalGeneration"]
    for name, value in stock.state_dict().items():
        assert_close(again.state_dict()[name], value, rtol=0, atol=0)


def test_it_is_loaded_and_built_as_the_stock_model_is(folder: Path) -> None:
    loaded = ThinWhisper.from_pretrained(folder)
    stock = WhisperForConditionalGeneration.from_pretrained(folder)
    assert_close(dict(loaded.state_dict()), dict(stock.state_dict()), rtol=0, atol=0)
    assert loaded(**planned(windows(), stride=10), decoder_input_ids=prompts()).logits.shape[:2] == (3, 7)
    built = []
    for build in (ThinWhisper, WhisperForConditionalGeneration):
        torch.manual_seed(0)
        built.append(dict(build(stock.config).state_dict()))
    assert_close(built[0], built[1], rtol=0, atol=0)


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention"])
def test_attention_without_an_additive_mask_is_refused(folder: Path, attention: str) -> None:
    model, late = loud_whisper(folder), thinned(loud_whisper(folder))
    model.config._attn_implementation = late.config._attn_implementation = attention
    with pytest.raises(UserError, match=f"expected sdpa or eager.* found {attention}"):
        thinned(model)
    with pytest.raises(UserError, match=f"expected sdpa or eager.* found {attention}"):
        late(**planned(windows()), decoder_input_ids=prompts())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_token_timestamps": True}, "return_token_timestamps: .*times of words"),
        ({"return_timestamps": True}, "return_timestamps: .*next segment"),
        ({"cache_implementation": "static"}, "cache_implementation: .*static cache"),
    ],
)
def test_options_that_need_all_positions_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    _, thin = pair(folder)
    with pytest.raises(UserError, match=message):
        thin.generate(**planned(windows()), **options)
    vars(thin.generation_config).update(options)
    with pytest.raises(UserError, match=message):
        thin.generate(**planned(windows()))
