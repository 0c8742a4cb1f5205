"""Vocabularies: from the training split only, in one order, with what CTC needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import Dataset
from helpers.family_training import configuration
from helpers.streams import stream_of_table
from helpers.tiny_ctc import make_tiny_ctc

from hf_asr.errors import UserError
from hf_asr.models.ctc import FAMILY
from hf_asr.models.ctc_processor import CtcLabels, StateCount, identity_of
from hf_asr.models.ctc_vocabulary import (
    characters_of,
    extended,
    make_tokenizer,
    missing_characters,
    new_vocabulary,
    read_vocabulary,
    texts_of,
)


def rows(*texts: str) -> Dataset:
    return Dataset.from_dict({"text": list(texts)})


@pytest.mark.parametrize(
    ("texts", "pipeline", "found"),
    [
        (["ba", "a c"], "none", "abc"),
        (["Öl!", "a"], "none", "!alÖ"),
        (["Öl!", "a"], "basic", "alö"),
        (["ещё"], "russian", "ещ"),
        (["a|b\n c"], "none", "abc"),
        (["", "  "], "none", ""),
    ],
)
def test_characters_are_those_of_the_pipelines_texts(texts: list[str], pipeline: str, found: str) -> None:
    assert "".join(characters_of(texts, pipeline)) == found


def test_the_order_is_that_of_code_points_whatever_the_texts_order() -> None:
    first, second = (new_vocabulary(characters_of(texts, "none")) for texts in (["cab", "é"], ["é", "bca"]))
    assert first == second == {"[PAD]": 0, "[UNK]": 1, "|": 2, "a": 3, "b": 4, "c": 5, "é": 6}


def test_only_train_is_looked_at(tmp_path: Path) -> None:
    arguments = configuration(make_tiny_ctc(tmp_path, head=False), data={"text_pipeline": "basic"})
    processor = FAMILY.load_processor(arguments, rows("Ab"))
    assert "z" not in processor.tokenizer.get_vocab()
    labeller = CtcLabels(processor.tokenizer, StateCount(FAMILY.load_config(arguments, processor)), "basic")
    assert labeller.read(labeller.encode("a z")) == "a [UNK]"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("hello  you", "hello you"),
        ("[PAD] a", "[UNK][UNK][UNK][UNK][UNK] a"),
        ("a|b", "a b"),
        ("aa", "aa"),
    ],
)
def test_labels_are_characters_special_tokens_included(text: str, read: str) -> None:
    tokenizer = make_tokenizer(new_vocabulary("abehlouy"))
    labeller = CtcLabels(tokenizer, StateCount(None), "none")  # type: ignore[arg-type]
    assert labeller.read(labeller.encode(text)) == read


def test_a_vocabulary_is_saved_as_the_usual_file_and_found_again(tmp_path: Path) -> None:
    folder = make_tiny_ctc(tmp_path / "a", head=False)
    processor = FAMILY.load_processor(configuration(folder), rows("abc"))
    processor.save_pretrained(tmp_path / "b")
    assert json.loads((tmp_path / "b" / "vocab.json").read_text()) == new_vocabulary("abc")
    arguments = configuration(folder)
    arguments.ctc.vocabulary = str(tmp_path / "b" / "vocab.json")
    assert identity_of(FAMILY.load_processor(arguments, None)) == identity_of(processor)


def test_capitals_take_lower_case_texts() -> None:
    tokenizer = make_tokenizer(new_vocabulary("ABC"), do_lower_case=True)
    assert missing_characters(tokenizer, ["ab cd"], "none") == ["d"]
    longer = extended(tokenizer, ["d"])
    assert longer.encoder == {**new_vocabulary("ABC"), "D": 6}
    assert longer.decode(longer("abd")["input_ids"]) == "abd"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"[PAD]": 0, "[UNK]": 1, "a": 2}', r"expected a word boundary \(\|\)"),
        ('{"[UNK]": 0, "|": 1, "a": 2}', r"expected a blank \(\[PAD\] or <pad>\)"),
        ('{"[PAD]": 0, "|": 1, "a": 2}', "expected an unknown token"),
        ('{"[PAD]": 0, "[UNK]": 1, "|": 3}', "expected a mapping of tokens to 0, 1, 2"),
        ("[1, 2]", "expected a mapping"),
        ("{", "or the path of a vocab.json, found"),
    ],
)
def test_files_that_are_no_vocabulary_are_told(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vocab.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_vocabulary(str(path))


def test_a_stream_and_no_split_are_told_what_to_give() -> None:
    for train, found in ((None, "found none"), (stream_of_table(rows("a")), "found a stream")):
        with pytest.raises(UserError, match=rf"{found}.*the path of a vocab\.json"):
            texts_of(train, "so it is")


def test_train_without_a_character_is_told() -> None:
    with pytest.raises(UserError, match=r"expected characters in the training texts"):
        new_vocabulary(characters_of(["!", "?"], "basic"))


def test_pieces_of_words_cannot_be_extended(tmp_path: Path) -> None:
    arguments = configuration(make_tiny_ctc(tmp_path, "parakeet"))
    arguments.ctc.vocabulary = "extend"
    with pytest.raises(UserError, match="extend expects a vocabulary of characters"):
        FAMILY.load_processor(arguments, rows("a"))
