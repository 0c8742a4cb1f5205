"""When each character and word is said: from the best token of every frame, or from a text that is known.

A CTC model's frames are peaked: a token's span is where it is written, often shorter than where it is heard, by some
20 to 60 ms on either side.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchaudio import functional

from hf_asr.errors import UserError
from hf_asr.inference.generate import to_device
from hf_asr.models.ctc_decoding import Piece, emissions, pieces_of
from hf_asr.models.ctc_processor import CtcLabels, StateCount, make_front_end, seconds_per_state, states_needed
from hf_asr.models.family import ModelFamily
from hf_asr.utterance import Seconds


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """A token and the frames that it is written in.

    Attributes:
        token: Its id.
        first: First frame.
        end: Frame behind the last one.
        score: Mean log-probability of the token over these frames, 0 at most.
    """

    token: int
    first: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class TextSpan:
    """A character or a word and when it is said.

    Attributes:
        text: The character or the word.
        start: Seconds from the start of the clip.
        end: Seconds from the start of the clip.
        score: Mean log-probability over its frames, 0 at most.
    """

    text: str
    start: Seconds
    end: Seconds
    score: float


def best_spans(log_probs: torch.Tensor, blank: int) -> list[TokenSpan]:
    """Return the tokens of the best path, that of greedy decoding.

    Args:
        log_probs: (S, V), float.
        blank: Id of the blank.
    """
    scores, ids = log_probs.max(-1)
    return _merged(ids, scores, blank)


def forced_spans(log_probs: torch.Tensor, labels: Sequence[int], blank: int) -> list[TokenSpan]:
    """Return where labels are written on the most probable path that writes them, one span a label.

    Args:
        log_probs: (S, V), float.
        labels: Token ids, none of them the blank.
        blank: Id of the blank.

    Raises:
        UserError: The clip has too few frames for the labels.
    """
    needed = states_needed(labels)
    if needed > len(log_probs):
        raise UserError(
            f"alignment: expected at least {needed} frames for {len(labels)} tokens, found {len(log_probs)}. Check "
            "that the text belongs to the clip."
        )
    if not labels:
        return []
    targets = torch.tensor([list(labels)], dtype=torch.int32)
    ids, scores = functional.forced_align(log_probs[None].float().cpu(), targets, blank=blank)
    spans = _merged(ids[0], scores[0], blank)
    assert [span.token for span in spans] == list(labels)
    return spans


def characters(spans: Sequence[TokenSpan], pieces: Mapping[int, Piece], frame: Seconds) -> list[TextSpan]:
    """Return the characters (or pieces of words) of spans; word boundaries and special tokens are none.

    Args:
        spans: From :func:`best_spans` or :func:`forced_spans`.
        pieces: What tokens write, from :func:`hf_asr.models.ctc_decoding.pieces_of`.
        frame: Seconds a frame.
    """
    written = [(span, pieces[span.token].text) for span in spans if span.token in pieces]
    return [TextSpan(text, span.first * frame, span.end * frame, span.score) for span, text in written if text]


def words(spans: Sequence[TokenSpan], pieces: Mapping[int, Piece], frame: Seconds) -> list[TextSpan]:
    """Return the words of spans, each from its first to its last character; arguments as of :func:`characters`."""
    groups: list[list[TokenSpan]] = [[]]
    for span in spans:
        piece = pieces.get(span.token)
        if piece is not None:
            if piece.boundary:
                groups.append([])
            if piece.text:
                groups[-1].append(span)
    return [_word(group, pieces, frame) for group in groups if group]


def align(
    model: Any, family: ModelFamily, processor: Any, labeller: CtcLabels, samples: np.ndarray, text: str
) -> list[TextSpan]:
    """Tell when the words of a known text are said.

    Args:
        model: A CTC model, ready to decode (see ``inference.generate.decoding``).
        family: Its family.
        processor: Its processor.
        labeller: Spells the text, as in training; from the family's encoder.
        samples: (T,) float32 at 16 kHz.
        text: What is said in the clip.

    Raises:
        UserError: The clip is too short for the text.
    """
    log_probs = log_probs_of(model, family, processor, [samples])[0]
    blank = int(model.config.pad_token_id)
    spans = forced_spans(log_probs, [id for id in labeller.encode(text) if id != blank], blank)
    frame = seconds_per_state(model.config, make_front_end(processor.feature_extractor))
    return words(spans, pieces_of(processor.tokenizer), frame)


def log_probs_of(model: Any, family: ModelFamily, processor: Any, clips: Sequence[np.ndarray]) -> list[torch.Tensor]:
    """Return log-probabilities (S, V) of clips' samples (T,), decoded in one batch, each with its own states only."""
    front_end = make_front_end(processor.feature_extractor)
    rows = [{"id": str(place), "input_features": front_end(clip), "labels": []} for place, clip in enumerate(clips)]
    batch = to_device(family.make_collator(processor, model)(rows), model)
    with torch.no_grad():
        logits, _ = emissions(model, batch)
    states = StateCount(model.config)
    lengths = [states(len(row["input_features"])) for row in rows]
    return [scores[:length].log_softmax(-1) for scores, length in zip(logits, lengths, strict=True)]


def _merged(ids: torch.Tensor, scores: torch.Tensor, blank: int) -> list[TokenSpan]:
    """Merge runs of frames with the same token; blanks are left out."""
    spans, first = [], 0
    for token, run in itertools.groupby(ids.tolist()):
        end = first + len(list(run))
        if token != blank:
            spans.append(TokenSpan(int(token), first, end, float(scores[first:end].mean())))
        first = end
    return spans


def _word(group: Sequence[TokenSpan], pieces: Mapping[int, Piece], frame: Seconds) -> TextSpan:
    text = "".join(pieces[span.token].text for span in group)
    frames = sum(span.end - span.first for span in group)
    score = sum(span.score * (span.end - span.first) for span in group) / frames
    return TextSpan(text, group[0].first * frame, group[-1].end * frame, score)
