"""Greedy and beam decoding of made-up frames, with a language model and without."""

from __future__ import annotations

import importlib.util
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.family_training import configuration, encoded
from helpers.tiny_ctc import make_tiny_ctc, parakeet_tokenizer

from hf_asr.errors import UserError
from hf_asr.models.ctc import FAMILY
from hf_asr.models.ctc_decoding import BeamSearch, collapse, load_lm, pieces_of, text_of
from hf_asr.models.ctc_vocabulary import make_tokenizer, new_vocabulary

VOCABULARY = new_vocabulary("acet")  # [PAD] 0, [UNK] 1, | 2, a 3, c 4, e 5, t 6
TOKENIZER = make_tokenizer(VOCABULARY)
PIECES = pieces_of(TOKENIZER)


class Words:
    """A language model that knows some words and finds all others as unlikely as can be."""

    def __init__(self, **known: float) -> None:
        self.known = known

    def start(self) -> tuple[str, ...]:
        return ()

    def word(self, state: tuple[str, ...], word: str) -> tuple[float, tuple[str, ...]]:
        return math.log(self.known.get(word, 1e-6)), (*state, word)

    def end(self, state: tuple[str, ...]) -> float:
        return 0.0


def frames(*likely: dict[str, float]) -> np.ndarray:
    """Return log-probabilities (S, V) of frames that say what is likely; the rest is shared by the others."""
    rows = np.full((len(likely), len(VOCABULARY)), 1e-9)
    for row, given in zip(rows, likely, strict=True):
        for token, share in given.items():
            row[VOCABULARY[token]] = share
    return np.log(rows / rows.sum(-1, keepdims=True))


def search(width: int, words: Any = None, weight: float = 0.0, bonus: float = 0.0) -> BeamSearch:
    return BeamSearch(PIECES, VOCABULARY["[PAD]"], width, words, weight, bonus)


def text(ids: list[int]) -> str:
    return text_of(ids, TOKENIZER)


# "cat" and "cet" sound alike; greedy takes the second.
CET = frames({"c": 0.9, "[PAD]": 0.1}, {"a": 0.45, "e": 0.55}, {"t": 0.9, "[PAD]": 0.1})


@pytest.mark.parametrize(
    ("ids", "kept"),
    [([3, 3, 0, 3], [3, 3]), ([0, 0], []), ([], []), ([4, 3, 3, 6, 0], [4, 3, 6]), ([3, 0, 0, 6], [3, 6])],
)
def test_runs_are_merged_before_blanks_go(ids: list[int], kept: list[int]) -> None:
    assert collapse(ids, 0) == kept


def test_texts_leave_out_what_is_unknown_and_unify_spaces() -> None:
    assert text([4, 3, 6, 2, 2, 1, 3]) == "cat a"


def test_a_beam_adds_up_paths_where_greedy_takes_one() -> None:
    scores = frames({"a": 0.4, "[PAD]": 0.6}, {"a": 0.4, "[PAD]": 0.6})
    assert collapse(scores.argmax(-1).tolist(), 0) == []  # the best path is 0.36
    assert text(search(5)(scores)) == "a"  # three paths that say "a" are 0.64


def test_a_wide_beam_finds_the_best_of_all_texts() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        logits = generator.standard_normal((4, len(VOCABULARY))) * 2
        scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        totals: dict[tuple[int, ...], float] = {}
        for path in itertools.product([0, *PIECES], repeat=4):
            ids = tuple(collapse(path, 0))
            totals[ids] = totals.get(ids, 0.0) + math.exp(sum(scores[place, id] for place, id in enumerate(path)))
        assert tuple(search(400)(scores)) == max(totals, key=lambda ids: totals[ids])


def test_a_language_model_turns_the_scales() -> None:
    assert text(collapse(CET.argmax(-1).tolist(), 0)) == "cet"
    assert text(search(8)(CET)) == "cet"
    assert text(search(8, Words(cat=0.5), weight=0.5)(CET)) == "cat"
    assert text(search(8, Words(cat=0.5), weight=0.0)(CET)) == "cet"


def test_the_bonus_is_for_every_word() -> None:
    scores = frames({"a": 1.0}, {"|": 0.45, "[PAD]": 0.55}, {"t": 1.0})
    known = Words(a=0.5, t=0.5, at=0.5)
    assert text(search(8, known, weight=1.0, bonus=0.0)(scores)) == "at"
    assert text(search(8, known, weight=1.0, bonus=2.0)(scores)) == "a t"


def test_pieces_of_words_begin_words() -> None:
    tokenizer = parakeet_tokenizer("ab")
    pieces = pieces_of(tokenizer)
    assert {tokenizer.convert_ids_to_tokens(id): tuple(piece) for id, piece in pieces.items()} == {
        "▁": (True, ""),
        "a": (False, "a"),
        "b": (False, "b"),
    }


def test_special_tokens_are_never_written() -> None:
    assert [TOKENIZER.convert_ids_to_tokens(id) for id in PIECES] == ["|", "a", "c", "e", "t"]
    assert search(5)(frames({"[UNK]": 1.0}, {"a": 1.0})) == [VOCABULARY["a"]]


ARPA = r"""\data\
ngram 1=5
ngram 2=3

\1-grams:
-2.0	<unk>	0
0	<s>	-0.3
-0.7	</s>	0
-0.5	cat	-0.2
-0.6	tea	-0.2

\2-grams:
-0.2	<s> cat
-0.3	cat tea
-0.1	tea </s>

\end\
"""


@pytest.fixture
def arpa(tmp_path: Path) -> str:
    """An ARPA file that knows "cat tea"; skipped without kenlm."""
    if importlib.util.find_spec("kenlm") is None:
        pytest.skip("kenlm is not installed; pip install 'hf_asr[lm]'")
    (tmp_path / "words.arpa").write_text(ARPA)
    return str(tmp_path / "words.arpa")


def test_arpa_scores_are_natural_logarithms(arpa: str) -> None:
    words = load_lm(arpa)
    score, behind = words.word(words.start(), "cat")
    assert score == pytest.approx(-0.2 * math.log(10), abs=1e-4)
    assert words.word(behind, "tea")[0] == pytest.approx(-0.3 * math.log(10), abs=1e-4)
    assert words.end(words.word(behind, "tea")[1]) == pytest.approx(-0.1 * math.log(10), abs=1e-4)


def test_an_arpa_file_turns_the_scales(arpa: str) -> None:
    assert text(search(8, load_lm(arpa), weight=0.5, bonus=1.5)(CET)) == "cat"


def test_a_model_decodes_with_beam_and_arpa(arpa: str, tmp_path: Path) -> None:
    arguments = configuration(make_tiny_ctc(tmp_path / "model"))
    processor = FAMILY.load_processor(arguments, None)
    model: Any = FAMILY.load_model(arguments, processor)
    arguments.ctc.beam, arguments.ctc.lm = 4, arpa
    options = FAMILY.decoding_options(arguments)
    assert options == {"beam": 4, "lm": arpa, "lm_weight": 0.5, "word_score": 1.5}
    FAMILY.check_decoding(model, options)
    rows = encoded(FAMILY.make_encoder(processor, model.config, arguments), ["cat", "tea cat"])
    with torch.no_grad():
        texts = FAMILY.decode(model, processor, FAMILY.make_collator(processor, model)(rows), options)
    assert len(texts) == 2


def test_files_that_are_no_language_model_are_told(arpa: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ctc\.lm: expected an ARPA or KenLM file, found nothing at"):
        load_lm(str(tmp_path / "no.arpa"))
    (tmp_path / "bad.arpa").write_text("hello")
    with pytest.raises(UserError, match=r"ctc\.lm: expected an ARPA or KenLM file, found .*bad\.arpa"):
        load_lm(str(tmp_path / "bad.arpa"))


def test_without_kenlm_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kenlm", None)
    (tmp_path / "words.arpa").write_text(ARPA)
    with pytest.raises(UserError, match=r"pip install 'hf_asr\[lm\]'"):
        load_lm(str(tmp_path / "words.arpa"))


def test_greedy_is_stored_as_a_beam_of_one(tmp_path: Path) -> None:
    assert FAMILY.decoding_options(configuration(tmp_path)) == {"beam": 1}
