"""The Moonshine family: waveforms and their true length, labels between one start and one end, limits by duration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.clips import noise, row_of, write_clip
from helpers.tiny_moonshine import make_tiny_moonshine
from transformers import MoonshineForConditionalGeneration, PreTrainedTokenizerFast

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.errors import UserError
from hf_asr.models import get_family
from hf_asr.models.moonshine import FAMILY, SHORTEST, clip_limits


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_moonshine(tmp_path_factory.mktemp("moonshine"))


def sections(folder: Path | str, language: str | None = "en", **model: Any) -> Arguments:
    return Arguments(
        ExperimentArguments("test"), ModelArguments(str(folder), **model), DataArguments(language=language)
    )


def load(folder: Path | str, **model: Any) -> tuple[Any, Any, Any]:
    """Return processor, model and encoder."""
    arguments = sections(folder, **model)
    processor = FAMILY.load_processor(arguments, None)
    loaded = FAMILY.load_model(arguments, processor)
    return processor, loaded.eval(), FAMILY.make_encoder(processor, loaded.config, arguments)


def talkative(model: Any) -> Any:
    """Make a random model write something: never the end token, and not the same token for ever."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
        model.model.decoder.embed_tokens.weight[2] = 0
    return model


def batch_of(tmp_path: Path, processor: Any, model: Any, encoder: Any, seconds: tuple[float, ...]) -> dict[str, Any]:
    rows = [
        encoder(row_of(write_clip(tmp_path / f"{index}.wav", noise(length, index)), "abcdef"[index:]))
        for index, length in enumerate(seconds)
    ]
    return dict(FAMILY.make_collator(processor, model)(rows))


def test_labels_are_the_tokenizers_own_behind_the_start(tiny: Path) -> None:
    processor, model, encoder = load(tiny)
    assert [model.config.decoder_start_token_id, *encoder.labeller.encode("ab c")] == processor.tokenizer(
        "ab c"
    ).input_ids


def test_a_batch_is_waveforms_with_their_true_length(tiny: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(tiny)
    batch = batch_of(tmp_path, processor, model, encoder, (0.5, 1.0))
    assert batch["input_values"].shape == batch["attention_mask"].shape == (2, 16_000)
    assert batch["attention_mask"].sum(dim=1).tolist() == [8000, 16_000]
    np.testing.assert_allclose(batch["input_values"][0, :8000], noise(0.5), atol=1e-3)
    assert not batch["input_values"][0, 8000:].any()
    assert (batch["decoder_input_ids"][:, 0] == 1).all()
    assert (batch["labels"] == 2).sum(dim=1).tolist() == [1, 1]
    given = {name: batch[name] for name in ("input_values", "attention_mask", "labels")}
    inputs = {name: batch[name] for name in ("input_values", "attention_mask", "decoder_input_ids")}
    ours = torch.nn.functional.cross_entropy(model(**inputs).logits.flatten(0, 1), batch["labels"].flatten())
    torch.testing.assert_close(ours, model(**given).loss)


def test_the_shortest_batch_gives_one_state(tiny: Path, tmp_path: Path) -> None:
    processor, model, _ = load(tiny)
    encoder = model.model.encoder
    batch = FAMILY.make_collator(processor, model)([])
    assert batch["input_values"].shape == (1, SHORTEST)
    assert encoder(batch["input_values"]).last_hidden_state.shape[1] == 1
    with pytest.raises(RuntimeError):
        encoder(batch["input_values"][:, 1:])


def test_tokens_by_duration(tiny: Path, tmp_path: Path) -> None:
    mask = torch.zeros(3, 32_000, dtype=torch.int64)
    mask[0], mask[1, :16_000], mask[2, :100] = 1, 1, 1
    assert clip_limits(mask, 6.5, longest=100) == [13, 6, 1]
    assert clip_limits(mask, 6.5, longest=10) == [10, 6, 1]


@pytest.mark.parametrize(("language", "rate"), [(None, 6.5), ("en-GB", 6.5), ("uk", 13.0)])
def test_the_limit_is_an_option_unless_the_user_sets_one(tiny: Path, language: str | None, rate: float) -> None:
    arguments = sections(tiny, language)
    assert FAMILY.decoding_options(arguments) == {"tokens_per_second": rate}
    arguments.evaluation.generation = {"num_beams": 2}
    assert FAMILY.decoding_options(arguments) == {"tokens_per_second": rate, "num_beams": 2}
    arguments.evaluation.generation = {"max_new_tokens": 7}
    assert FAMILY.decoding_options(arguments) == {"max_new_tokens": 7}


def test_a_clip_stops_at_its_own_limit_beside_a_longer_one(tiny: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(tiny)
    batch = batch_of(tmp_path, processor, talkative(model), encoder, (1.0, 1.0, 3.0))
    batch["input_values"][1], batch["attention_mask"][1] = batch["input_values"][2], batch["attention_mask"][2]
    texts = FAMILY.decode(model, processor, batch, {"tokens_per_second": 6.5})
    tokens = model.generate(batch["input_values"], attention_mask=batch["attention_mask"], max_new_tokens=19)
    limits = [6, 19, 19]
    expected = [row[: 1 + limit] for row, limit in zip(tokens.tolist(), limits, strict=True)]
    assert texts == [text.strip() for text in processor.batch_decode(expected, skip_special_tokens=True)]
    assert len(tokens[0]) == 20, "the tiny model was meant to loop"
    free = FAMILY.decode(model, processor, batch, {"max_new_tokens": 9})
    assert free == [text.strip() for text in processor.batch_decode(tokens[:, :10].tolist(), skip_special_tokens=True)]


def test_padding_is_heard_through_the_first_norm_and_alone_it_is_not(tiny: Path, tmp_path: Path) -> None:
    """Why the recipe decodes one by one: the mask comes after a norm over the whole row."""
    processor, model, encoder = load(tiny)
    batch = batch_of(tmp_path, processor, model, encoder, (0.5, 1.5))
    alone = batch_of(tmp_path, processor, model, encoder, (0.5,))
    states = model.model.encoder(batch["input_values"], attention_mask=batch["attention_mask"])
    same = model.model.encoder(alone["input_values"], attention_mask=alone["attention_mask"]).last_hidden_state[0]
    assert (int(states.attention_mask[0].sum()), len(same)) == (21, 19)  # the mask lets in two that touch the padding
    assert (states.last_hidden_state[0, : len(same)] - same).abs().max() > 0.01 * same.abs().max()
    (note,) = FAMILY.notes(sections(tiny), processor)
    assert "evaluation.batch_size=1" in note
    arguments = sections(tiny)
    arguments.evaluation.batch_size = 1
    assert FAMILY.notes(arguments, processor) == []


def test_a_saved_model_is_the_same_in_plain_transformers(tiny: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(tiny)
    talkative(model)
    batch = batch_of(tmp_path, processor, model, encoder, (0.5, 1.0))
    texts = FAMILY.decode(model, processor, batch, {"max_new_tokens": 8})
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    FAMILY.check_saved(tmp_path / "saved", model)
    plain = MoonshineForConditionalGeneration.from_pretrained(tmp_path / "saved").eval()
    reader = PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")
    tokens = plain.generate(batch["input_values"], attention_mask=batch["attention_mask"], max_new_tokens=8)
    assert [text.strip() for text in reader.batch_decode(tokens, skip_special_tokens=True)] == texts
    assert load(tmp_path / "saved")[2].fingerprint() == encoder.fingerprint()


def test_a_checkpoint_without_padding_takes_the_end_token(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    values = json.loads((folder / "config.json").read_text()) | {"pad_token_id": None}
    (folder / "config.json").write_text(json.dumps(values))
    processor, model, encoder = load(folder)
    batch = batch_of(tmp_path, processor, model, encoder, (0.5, 0.5))
    assert (model.config.pad_token_id, model.generation_config.pad_token_id) == (None, 2)
    assert batch["decoder_input_ids"][1, -1] == 2


def test_config_names_build_a_random_model(tiny: Path) -> None:
    model = ModelArguments("config:moonshine-tiny", tokenizer_name_or_path=str(tiny))
    assert get_family(model) is FAMILY
    first, again = (load(model.name_or_path, tokenizer_name_or_path=str(tiny))[1] for _ in range(2))
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert sum(parameter.numel() for parameter in first.parameters()) == 27_092_736
    with pytest.raises(UserError, match=r"model.tokenizer_name_or_path: expected a tokenizer"):
        load(model.name_or_path)


def test_dropouts_it_has_not_are_refused(tiny: Path) -> None:
    assert load(tiny, attention_dropout=0.2)[1].model.encoder.layers[0].self_attn.attention_dropout == 0.2
    with pytest.raises(UserError, match=r"model.dropout, model.layerdrop: expected 0, since Moonshine"):
        load(tiny, dropout=0.1, layerdrop=0.1)


def test_a_tokenizer_that_does_not_fit_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = make_tiny_moonshine(tmp_path / "small", vocab_size=100)
    with pytest.raises(UserError, match=r"expected ids below the model's 100 entries"):
        load(folder)


def test_unknown_options_are_told(tiny: Path) -> None:
    model = load(tiny)[1]
    FAMILY.check_decoding(model, {"tokens_per_second": 6.5, "num_beams": 2})
    with pytest.raises(UserError, match="does not know num_beam"):
        FAMILY.check_decoding(model, {"num_beam": 2})
