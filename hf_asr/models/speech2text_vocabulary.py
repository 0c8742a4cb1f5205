"""Another tokenizer for a trained Speech2Text: pieces that both know keep their embedding, new ones begin at the mean.

Input embedding and head are one matrix. Rows are moved by what they stand for, not by their number: row 700 of an
English vocabulary says nothing about piece 700 of a multilingual one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

EMBEDDING = "model.decoder.embed_tokens"
# A buffer that is not saved: how many rows of a model in memory have never been trained.
NEW_ROWS = "new_rows"


def fit_vocabulary(model: PreTrainedModel, own: Mapping[str, int], given: Mapping[str, int]) -> int:
    """Give a model the vocabulary of another tokenizer, in place; embedding and head stay tied.

    Args:
        model: Speech2TextForConditionalGeneration with the checkpoint's weights.
        own: Pieces and ids it was trained with.
        given: Pieces and ids of the new tokenizer.

    Returns:
        How many rows are new.
    """
    embedding: Any = model.get_input_embeddings()
    old = embedding.weight.data.clone()
    rows = moved_rows(old, own, given, padding=model.config.pad_token_id)
    model.resize_token_embeddings(len(rows), mean_resizing=False)
    embedding = model.get_input_embeddings()
    embedding.weight.data.copy_(rows)
    embedding.padding_idx = model.config.pad_token_id
    model.tie_weights()
    new = len(set(given) - set(own))
    if new:
        embedding.register_buffer(NEW_ROWS, torch.tensor(new), persistent=False)
    return new


def moved_rows(old: torch.Tensor, own: Mapping[str, int], given: Mapping[str, int], padding: int) -> torch.Tensor:
    """Return the embedding of a new vocabulary.

    Args:
        old: (V, d) embedding of the old vocabulary.
        own: Its pieces and ids.
        given: The new vocabulary's pieces and ids.
        padding: Id of the padding in both, whose row is all zeros.

    Returns:
        (V', d): the old row where the piece is known, the mean of the old rows (padding left out) where it is not.
    """
    used = torch.ones(len(old), dtype=torch.bool, device=old.device)
    used[padding] = False
    rows = old[used].mean(dim=0).repeat(1 + max(given.values()), 1)
    for piece, index in given.items():
        if own.get(piece, len(old)) < len(old):
            rows[index] = old[own[piece]]
    rows[padding] = 0
    return rows


def must_train(model: PreTrainedModel) -> tuple[str, ...]:
    """Return globs of the parameters that a model with new rows cannot do without training."""
    return (f"{EMBEDDING}.*",) if f"{EMBEDDING}.{NEW_ROWS}" in dict(model.named_buffers()) else ()
