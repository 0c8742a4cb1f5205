"""Tiny Whispers that write something: one a given script, whatever it hears, one a text of its own for each clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from helpers.tiny_whisper import make_tiny_whisper
from transformers import GenerationConfig, WhisperForConditionalGeneration, WhisperTokenizer


def make_scripted_whisper(
    folder: Path, script: Sequence[str], *, multilingual: bool = True, chunk_length: int = 4
) -> Path:
    """Write a checkpoint that answers each window with ``script``; return its folder.

    Nothing but the position decides its next token: every layer adds 0, and the embedding of a position is the
    embedding of the token that is to follow there.

    Args:
        folder: Where to write.
        script: Pieces of text and of timestamps (``<|1.00|>``), the first one written when timestamps are asked for;
            without timestamps the model begins at the second one. After the last comes the end.
        multilingual: As make_tiny_whisper's.
        chunk_length: Window in seconds.
    """
    make_tiny_whisper(folder, multilingual=multilingual, chunk_length=chunk_length)
    tokenizer = WhisperTokenizer.from_pretrained(folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    ids = [id for piece in script for id in tokenizer(piece, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        _write(model.model.decoder, ids, first=2 if multilingual else 0)
    model.save_pretrained(folder)
    return folder


def make_talker(folder: Path) -> Path:
    """Write a random Whisper whose texts differ from clip to clip.

    With weights of the usual 0.02 all clips get the same text; and it may write letters only, or most would be empty.
    """
    make_tiny_whisper(folder, seed=1, init_std=0.6)
    generation = GenerationConfig.from_pretrained(folder)
    letters = range(94)  # "!" to "~" are the first bytes of the vocabulary
    generation.suppress_tokens = [id for id in range(500) if id not in letters]
    generation.save_pretrained(folder)
    return folder


def _write(decoder: torch.nn.Module, ids: Sequence[int], first: int) -> None:
    """Set a decoder's weights; ``first`` is the prompt's last position when timestamps are asked for."""
    for layer in decoder.layers:
        for part in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
            part.weight.zero_()
            part.bias.zero_()
    tokens = decoder.embed_tokens.weight
    tokens.copy_(torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0)))
    # Centred rows of one length: a row's product with itself is then the largest, after the layer norm too.
    tokens.sub_(tokens.mean(dim=-1, keepdim=True)).div_(tokens.norm(dim=-1, keepdim=True))
    end = decoder.config.eos_token_id
    answers = torch.full((len(decoder.embed_positions.weight),), end)
    answers[first : first + len(ids)] = torch.tensor(ids)
    decoder.embed_positions.weight.copy_(100 * tokens[answers])
    decoder.layer_norm.weight.fill_(50.0)  # as sure of each token as a trained model
    decoder.layer_norm.bias.zero_()
