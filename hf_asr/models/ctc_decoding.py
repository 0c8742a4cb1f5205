"""From a CTC model's frames to text: the best token of every frame, or a beam of prefixes with a word n-gram model."""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError
from hf_asr.models.ctc_loss import state_lengths
from hf_asr.models.ctc_processor import check_settings, vocabulary_of

INPUTS = ("input_values", "input_features", "attention_mask")
# Tokens that a frame gives less than this share are not followed; CTC's frames are peaked, so that few are left.
LEAST = math.log(1e-4)
NOTHING = -math.inf
# What pieces of words begin with where a vocabulary has no token between words (SentencePiece).
WORD_START = "▁"


def decoding_options(arguments: Arguments) -> dict[str, Any]:
    """Return what decides decoding: the beam, and with a language model its file and weights.

    Raises:
        UserError: Options of ``generate`` are given as well.
    """
    check_settings(arguments)
    ctc = arguments.ctc
    if ctc.lm is None:
        return {"beam": ctc.beam}
    return {"beam": ctc.beam, "lm": ctc.lm, "lm_weight": ctc.lm_weight, "word_score": ctc.word_score}


def check_decoding(model: PreTrainedModel, options: Mapping[str, Any]) -> None:
    """See that the language model can be read, before the first batch.

    Raises:
        UserError: It cannot.
    """
    if options.get("lm"):
        load_lm(options["lm"])


def decode(
    model: PreTrainedModel, processor: ProcessorMixin, batch: Mapping[str, Any], options: Mapping[str, Any]
) -> list[str]:
    """Write one text a clip.

    Args:
        model: The model, or one with adapters.
        processor: Its processor.
        batch: Inputs on the model's device.
        options: From :func:`decoding_options`.
    """
    logits, lengths = emissions(model, batch)
    tokenizer = processor.tokenizer
    if options.get("beam", 1) == 1:
        best = logits.argmax(-1).tolist()
        collapsed = [
            collapse(ids[:length], model.config.pad_token_id) for ids, length in zip(best, lengths, strict=True)
        ]
        return [text_of(ids, tokenizer) for ids in collapsed]
    search = beam_search_of(tokenizer, options)
    logits = logits.log_softmax(-1)
    return [text_of(search(scores[:length].numpy()), tokenizer) for scores, length in zip(logits, lengths, strict=True)]


def emissions(model: PreTrainedModel, batch: Mapping[str, Any]) -> tuple[torch.Tensor, list[int]]:
    """Run a batch; return logits float32 (B, S, V) on the CPU, and the states of each clip that are read."""
    logits = model(**{name: batch[name] for name in INPUTS if name in batch}).logits
    return logits.float().cpu(), state_lengths(model, batch, logits.shape[1]).tolist()


def collapse(ids: Iterable[int], blank: int) -> list[int]:
    """Merge runs of the same token and drop blanks, in this order."""
    return [id for id, _ in itertools.groupby(ids) if id != blank]


def text_of(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text of collapsed tokens; unknown ones are left out."""
    kept = [id for id in ids if id != tokenizer.unk_token_id]
    return " ".join(str(tokenizer.decode(kept, group_tokens=False, skip_special_tokens=True)).split())


class WordScores(Protocol):
    """A language model over words; scores are natural logarithms of probabilities."""

    def start(self) -> Any:
        """Return the state at the start of a sentence."""

    def word(self, state: Any, word: str) -> tuple[float, Any]:
        """Return a word's score after ``state``, and the state behind it."""

    def end(self, state: Any) -> float:
        """Return the score of the sentence's end."""


class NGram:
    """An ARPA or KenLM file, read by kenlm."""

    def __init__(self, path: str) -> None:
        import kenlm  # the extra "lm"

        self._kenlm = kenlm
        self._model = kenlm.Model(path)

    def start(self) -> Any:
        """Return the state at the start of a sentence."""
        state = self._kenlm.State()
        self._model.BeginSentenceWrite(state)
        return state

    def word(self, state: Any, word: str) -> tuple[float, Any]:
        """Return a word's score after ``state``, and the state behind it."""
        behind = self._kenlm.State()
        return self._model.BaseScore(state, word, behind) * math.log(10), behind

    def end(self, state: Any) -> float:
        """Return the score of the sentence's end."""
        return self.word(state, "</s>")[0]


@functools.lru_cache(maxsize=2)
def load_lm(path: str) -> NGram:
    """Read a language model, once.

    Raises:
        UserError: There is no such file, it is none, or kenlm is not installed.
    """
    if not Path(path).is_file():
        raise UserError(f"ctc.lm: expected an ARPA or KenLM file, found nothing at {path}. Check the path.")
    try:
        return NGram(path)
    except ImportError as error:
        raise UserError("ctc.lm: expected kenlm, found it is not installed. pip install 'hf_asr[lm]'.") from error
    except (OSError, RuntimeError) as error:
        raise UserError(f"ctc.lm: expected an ARPA or KenLM file, found {path}: {error}. Give another.") from error


class Piece(NamedTuple):
    """What a token writes.

    Attributes:
        boundary: It ends the word before it.
        text: What it adds to the word that it stands in.
    """

    boundary: bool
    text: str


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> dict[int, Piece]:
    """Return id to piece; special tokens are left out, they are never written."""
    delimiter = tokenizer.init_kwargs.get("word_delimiter_token")
    shown = str.lower if tokenizer.init_kwargs.get("do_lower_case") else str
    special = set(tokenizer.all_special_ids) - {vocabulary_of(tokenizer).get(delimiter or "")}
    pieces = {}
    for token, id in vocabulary_of(tokenizer).items():
        if id not in special:
            start = token == delimiter or token.startswith(WORD_START)
            text = "" if token == delimiter else token.removeprefix(WORD_START)
            pieces[id] = Piece(start, shown(text))
    return pieces


def beam_search_of(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> BeamSearch:
    """Make the beam search that the options ask for."""
    assert tokenizer.pad_token_id is not None
    return BeamSearch(
        pieces=pieces_of(tokenizer),
        blank=int(tokenizer.pad_token_id),
        width=int(options["beam"]),
        words=load_lm(options["lm"]) if options.get("lm") else None,
        weight=float(options.get("lm_weight", 0.0)),
        bonus=float(options.get("word_score", 0.0)),
    )


@dataclass(frozen=True, slots=True)
class _Sentence:
    """The words of a prefix: their score so far, the language model's state, and the word that is still open."""

    score: float
    state: Any
    open: str


@dataclass(slots=True)
class _Prefix:
    """Log-probabilities of all paths that spell a prefix, by whether they end in a blank."""

    sentence: _Sentence
    blank: float = NOTHING
    token: float = NOTHING

    @property
    def score(self) -> float:
        return _add(self.blank, self.token) + self.sentence.score


@dataclass(frozen=True)
class BeamSearch:
    """CTC prefix beam search, with a word n-gram model at the ends of words (Hannun et al. 2014, algorithm 1).

    Attributes:
        pieces: Id to what it writes; others are never written.
        blank: Id of the blank.
        width: Prefixes kept after every frame.
        words: Language model; None for none.
        weight: Its weight (alpha).
        bonus: Added for every word (beta), with a language model.
    """

    pieces: Mapping[int, Piece]
    blank: int
    width: int
    words: WordScores | None = None
    weight: float = 0.0
    bonus: float = 0.0

    def __call__(self, scores: np.ndarray) -> list[int]:
        """Return the most probable tokens of log-probabilities (S, V)."""
        start = _Sentence(0.0, self.words.start() if self.words else None, "")
        beam: dict[tuple[int, ...], _Prefix] = {(): _Prefix(start, blank=0.0)}
        for frame in scores:
            beam = self._step(beam, frame)
        best: tuple[int, ...] = max(beam, key=lambda ids: self._final(beam[ids]))
        return list(best)

    def _step(self, beam: Mapping[tuple[int, ...], _Prefix], frame: np.ndarray) -> dict[tuple[int, ...], _Prefix]:
        followed = np.flatnonzero(frame >= min(LEAST, float(frame.max())))
        found: dict[tuple[int, ...], _Prefix] = {}
        for ids, prefix in beam.items():
            both = _add(prefix.blank, prefix.token)
            for id in followed.tolist():
                score = float(frame[id])
                if id == self.blank:
                    stays = found.setdefault(ids, _Prefix(prefix.sentence))
                    stays.blank = _add(stays.blank, both + score)
                elif id in self.pieces:
                    self._extend(found, ids, prefix, id, score)
        best = heapq.nlargest(self.width, found, key=lambda ids: found[ids].score)
        return {ids: found[ids] for ids in best} or dict(beam)

    def _extend(
        self, found: dict[tuple[int, ...], _Prefix], ids: tuple[int, ...], prefix: _Prefix, id: int, score: float
    ) -> None:
        """Add a token to a prefix; the last token again is the same token unless a blank was between."""
        before = _add(prefix.blank, prefix.token)
        if ids and ids[-1] == id:
            same = found.setdefault(ids, _Prefix(prefix.sentence))
            same.token = _add(same.token, prefix.token + score)
            before = prefix.blank
        if before > NOTHING:
            longer = (*ids, id)
            if longer not in found:
                found[longer] = _Prefix(self._written(prefix.sentence, self.pieces[id]))
            found[longer].token = _add(found[longer].token, before + score)

    def _written(self, sentence: _Sentence, piece: Piece) -> _Sentence:
        if not piece.boundary:
            return _Sentence(sentence.score, sentence.state, sentence.open + piece.text)
        closed = self._closed(sentence)
        return _Sentence(closed.score, closed.state, piece.text)

    def _closed(self, sentence: _Sentence) -> _Sentence:
        """Score the open word."""
        if self.words is None or not sentence.open:
            return _Sentence(sentence.score, sentence.state, "")
        gained, state = self.words.word(sentence.state, sentence.open)
        return _Sentence(sentence.score + self.weight * gained + self.bonus, state, "")

    def _final(self, prefix: _Prefix) -> float:
        closed = self._closed(prefix.sentence)
        end = self.weight * self.words.end(closed.state) if self.words else 0.0
        return _add(prefix.blank, prefix.token) + closed.score + end


def _add(first: float, second: float) -> float:
    """Return log(exp(first) + exp(second))."""
    if first < second:
        first, second = second, first
    return first if second == NOTHING else first + math.log1p(math.exp(second - first))
