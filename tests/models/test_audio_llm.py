"""Qwen2-Audio: the chat template's prompt, the answer alone as labels, and its loss by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.clips import row_of
from helpers.family_training import configuration, curve, encoded, load, spoken, trainer_of
from helpers.tiny_audio_llm import make_tiny_audio_llm, tiny_audio_llm_tokenizer
from transformers import Qwen2AudioForConditionalGeneration

from hf_asr.config.arguments import PeftArguments
from hf_asr.errors import UserError
from hf_asr.features.collate import IGNORED
from hf_asr.models.audio_llm import FAMILY
from hf_asr.models.audio_prompt import audio_tokens, instruction_for, prompts_on_the_left
from hf_asr.training.adapters import make_trainable, merged
from hf_asr.training.freezing import names_of_group

TOKENIZER = tiny_audio_llm_tokenizer()
TEXTS = ["abc", "a b", "hello", "no", "four", "we", "hey", "zzz"]
ASKED = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nAudio 1: <|audio_bos|>{}<|audio_eos|>\nTranscribe this Russian speech.<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_audio_llm(tmp_path_factory.mktemp("audio_llm"))


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def asked(frames: int) -> list[int]:
    return ids(ASKED.format("<|AUDIO|>" * audio_tokens(frames)))


def russian(folder: Path) -> Any:
    return configuration(folder, data={"language": "ru"})


def outputs_of(model: Any, batch: dict[str, Any]) -> Any:
    return model(**{name: value for name, value in batch.items() if name not in ("labels", "ids", "skipped")})


@pytest.mark.parametrize(
    ("language", "task", "said"),
    [
        ("ru", "transcribe", "Transcribe this Russian speech."),
        ("zh-CN", "transcribe", "Transcribe this Chinese speech."),
        ("sah", "transcribe", "Transcribe this speech (sah)."),
        (None, "transcribe", "Transcribe this speech."),
        ("ru", "translate", "Translate this Russian speech into English."),
    ],
)
def test_instructions(language: str | None, task: str, said: str) -> None:
    assert instruction_for(language, task) == said


def test_a_batch_by_hand(tiny: Path) -> None:
    processor, model, encoder = load(FAMILY, russian(tiny))
    rows = encoded(encoder, ["ab", "dog <|im_end|>"], seconds_a_letter=0.2)
    batch = FAMILY.make_collator(processor, model)([*rows, rows[0] | {"padding": True}])
    first, second = asked(40), asked(280)
    one = ids("ab<|im_end|>")
    # A special token written out in a transcript is spelt.
    two = [*TOKENIZER("dog <|im_end|>", split_special_tokens=True)["input_ids"], *ids("<|im_end|>")]
    assert len(two) == len("dog <|im_end|>") + 1
    longest = len(second) + len(two)
    rest = longest - len(first) - len(one)
    pad = ids("<|endoftext|>")
    assert batch["input_ids"].tolist() == [
        [*first, *one, *pad * rest],
        [*second, *two],
        [*first, *one, *pad * rest],
    ]
    assert batch["labels"].tolist() == [
        [*[IGNORED] * len(first), *one, *[IGNORED] * rest],
        [*[IGNORED] * len(second), *two],
        [IGNORED] * longest,
    ]
    assert batch["attention_mask"].sum(-1).tolist() == [longest - rest, longest, longest - rest]
    assert batch["feature_attention_mask"].sum(-1).tolist() == [40, 280, 40]
    assert (batch["ids"], batch["skipped"]) == (["clip0", "clip1"], [])


def test_what_is_read_is_what_the_processor_makes(tiny: Path) -> None:
    processor, model, encoder = load(FAMILY, russian(tiny))
    clips = [spoken("abc"), spoken("hello")[:-37]]
    made = processor(text=[ASKED.format("<|AUDIO|>")] * 2, audio=clips, sampling_rate=16000, padding=True)
    rows = [encoder.encode(row_of("clip.wav", "x", str(place)), clip) for place, clip in enumerate(clips)]
    batch = FAMILY.make_collator(processor, model)(rows)
    np.testing.assert_array_equal(batch["feature_attention_mask"], np.array(made["feature_attention_mask"]))
    np.testing.assert_allclose(batch["input_features"], np.array(made["input_features"]), atol=1e-4)
    for place, texts in enumerate(made["input_ids"]):
        own = [token for token in batch["input_ids"][place].tolist() if token != ids("<|endoftext|>")[0]]
        assert own[:-2] == [token for token in texts if token != ids("<|endoftext|>")[0]]
    prompts, mask = prompts_on_the_left(batch, ids("<|endoftext|>")[0])
    assert prompts[0].tolist() == [*ids("<|endoftext|>") * (prompts.shape[1] - len(asked(45))), *asked(45)]
    assert mask.sum(-1).tolist() == [len(asked(45)), len(asked(75))]


def test_the_loss_is_that_of_the_answer(tiny: Path) -> None:
    processor, model, encoder = load(FAMILY, russian(tiny))
    batch = FAMILY.make_collator(processor, model)(encoded(encoder, ["abc", "hello world"]))
    outputs = outputs_of(model, batch)
    by_hand, count = 0.0, 0
    for row, labels in zip(outputs.logits.log_softmax(-1).tolist(), batch["labels"].tolist(), strict=True):
        for place, label in enumerate(labels):
            if label != IGNORED:
                by_hand, count = by_hand - row[place - 1][label], count + 1
    summed = FAMILY.loss.summed(model, batch, outputs, 0.0)
    assert float(summed.detach()) == pytest.approx(by_hand, rel=1e-5)
    assert int(FAMILY.loss.items(batch["labels"])) == count == len("abc") + len("hello world") + 2
    inputs = {name: value for name, value in batch.items() if name not in ("ids", "skipped")}
    torch.testing.assert_close(model(**inputs).loss, summed / count)
    smoothed = FAMILY.loss.summed(model, batch, outputs, 0.1)
    assert float(smoothed.detach()) != pytest.approx(by_hand, rel=1e-4)


def test_fillers_count_nothing(tiny: Path) -> None:
    processor, model, encoder = load(FAMILY, russian(tiny))
    rows, collate = encoded(encoder, ["abc", "hello"]), FAMILY.make_collator(processor, model)
    for filler in ([rows[0] | {"padding": True}], [rows[0] | {"error": "too_long: x"}]):
        model.zero_grad()
        batch = collate(filler)
        loss = FAMILY.loss.summed(model, batch, outputs_of(model, batch), 0.0)
        loss.backward()
        assert (float(loss.detach()), int(FAMILY.loss.items(batch["labels"]))) == (0, 0)
        grads = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        assert [name for name, grad in grads.items() if grad is None or grad.any()] == []


@pytest.mark.parametrize("method", ["none", "lora"])
def test_the_same_step_however_it_is_cut(tiny: Path, tmp_path: Path, method: str) -> None:
    curves = []
    for batch, accumulation in ((8, 1), (4, 2), (1, 8)):
        arguments = russian(tiny)
        processor, model, encoder = load(FAMILY, arguments)
        adapter = PeftArguments(method=method, r=4, dropout=0.0)
        model, _ = make_trainable(model, FAMILY, arguments.freeze, adapter, seed=0)
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        rows = encoded(encoder, TEXTS)
        curves.append(curve(trainer_of(FAMILY, processor, model, rows, tmp_path / str(batch), **sizes)))
    assert len(curves[0]) == 2
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)
    np.testing.assert_allclose(curves[2], curves[0], rtol=1e-5)


def test_adapters_go_to_the_language_model_alone(tiny: Path) -> None:
    arguments = russian(tiny)
    _, model, _ = load(FAMILY, arguments)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapped, report = make_trainable(model, FAMILY, arguments.freeze, PeftArguments(method="lora", r=4), seed=0)
    trained = {name for name, value in wrapped.named_parameters() if value.requires_grad}
    assert len(trained) == 2 * 4
    assert all(".language_model.layers." in name and ".lora_" in name for name in trained)
    assert 0 < report.trainable < report.total / 4
    for name, value in merged(wrapped).state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_an_answer_is_written_as_it_is_alone(tiny: Path) -> None:
    processor, model, encoder = load(FAMILY, russian(tiny))
    model.eval()
    rows, collate = encoded(encoder, TEXTS), FAMILY.make_collator(processor, model)
    options = FAMILY.decoding_options(russian(tiny)) | {"max_new_tokens": 8}
    together = FAMILY.decode(model, processor, collate(rows), options)
    assert together == [FAMILY.decode(model, processor, collate([row]), options)[0] for row in rows]
    assert "assistant" not in "".join(together)
    answers = [row | {"labels": ids("x<|im_end|>")} for row in rows]
    assert FAMILY.decode(model, processor, collate(answers), options) == together


def test_learns_to_write_and_is_the_same_when_reloaded(tmp_path: Path) -> None:
    arguments = russian(make_tiny_audio_llm(tmp_path / "model"))
    processor, model, encoder = load(FAMILY, arguments)
    rows = encoded(encoder, ["ab", "dcd"])
    training = {"optim": "adamw_torch", "learning_rate": 1e-2, "max_steps": 60}
    losses = [loss for loss, _ in curve(trainer_of(FAMILY, processor, model, rows, tmp_path, **training))]
    assert losses[-1] < 0.05 * losses[0]
    options = FAMILY.decoding_options(arguments)
    assert FAMILY.decode(model.eval(), processor, FAMILY.make_collator(processor, model)(rows), options) == [
        "ab",
        "dcd",
    ]
    saved = save(model, processor, tmp_path / "best")
    # Without data.language, the instruction that was learnt is asked again.
    again, other, _ = load(FAMILY, configuration(saved))
    assert other.generation_config.instruction == "Transcribe this Russian speech."
    assert FAMILY.decode(other.eval(), again, FAMILY.make_collator(again, other)(rows), options) == ["ab", "dcd"]


def test_adapters_learn_and_are_merged_into_a_stock_model(tiny: Path, tmp_path: Path) -> None:
    arguments = russian(tiny)
    processor, model, encoder = load(FAMILY, arguments)
    untrained = {name: value.clone() for name, value in model.state_dict().items()}
    rows = encoded(encoder, ["ab", "dcd"])
    wrapped, _ = make_trainable(model, FAMILY, arguments.freeze, PeftArguments(method="lora", dropout=0.0), seed=0)
    training = {"optim": "adamw_torch", "learning_rate": 1e-2, "max_steps": 25}
    losses = [loss for loss, _ in curve(trainer_of(FAMILY, processor, wrapped, rows, tmp_path, **training))]
    assert losses[-1] < losses[0] - 0.3  # a random base hardly bends to adapters of its attention
    batch = FAMILY.make_collator(processor, wrapped)(rows)
    adapted = outputs_of(wrapped.eval(), batch).logits
    best = merged(wrapped)
    torch.testing.assert_close(outputs_of(best, batch).logits, adapted, rtol=1e-4, atol=1e-5)
    saved = save(best, processor, tmp_path / "best")
    stock = Qwen2AudioForConditionalGeneration.from_pretrained(saved).eval()
    torch.testing.assert_close(outputs_of(stock, batch).logits, outputs_of(best, batch).logits, rtol=0, atol=0)
    moved = {name for name, value in stock.state_dict().items() if not torch.equal(value, untrained[name])}
    assert moved == {f"model.language_model.layers.0.self_attn.{name}_proj.weight" for name in "qkvo"}


def save(model: Any, processor: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    FAMILY.check_saved(folder, model)
    return folder


@pytest.mark.parametrize(
    ("text", "seconds", "said"),
    [
        ("a", 4.5, "too_long: 4.50 s, the model's window is 4"),
        ("a", 0.05, "too_short: 0.05 s, data.min_seconds is 0.3"),
        ("a" * 300, 1, "label_too_long: 302 tokens, the decoder has {} positions"),
    ],
)
def test_clips_that_cannot_be_learnt(tmp_path: Path, tiny: Path, text: str, seconds: float, said: str) -> None:
    _, _, encoder = load(FAMILY, russian(tiny))
    found = encoder.encode(row_of("clip.wav", text), np.zeros(int(seconds * 16000), np.float32))["error"]
    assert found == said.format(256 - len(asked(400)) + 1)


@pytest.mark.parametrize("group", sorted(FAMILY.freezable))
def test_every_group_is_there(tiny: Path, group: str) -> None:
    assert names_of_group(load(FAMILY, russian(tiny))[1], FAMILY, group)


def test_notes_warn_of_full_training(tiny: Path) -> None:
    arguments = russian(tiny)
    said = FAMILY.notes(arguments, None)
    assert said[0] == 'The model is asked "Transcribe this Russian speech." in its chat template.'
    assert "peft.method=lora" in said[1]
    arguments.peft.method = "lora"
    assert FAMILY.notes(arguments, None) == said[:1]


def test_what_a_user_is_told(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a Qwen2-Audio checkpoint with its own tokenizer"):
        load(FAMILY, configuration(tiny, tokenizer_name_or_path=str(tiny)))
    deaf = make_tiny_audio_llm(tmp_path / "deaf")
    template = "{% for message in messages %}{{ message['role'] }}{% endfor %}"
    (deaf / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(UserError, match=r"chat template that shows <\|AUDIO\|> once"):
        load(FAMILY, configuration(deaf))
