"""Corpora that are lists in memory, read like any other: for tests of splits, mixtures and row tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hf_asr.config.arguments import DataArguments
from hf_asr.data.corpora import CORPORA, build_splits
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance

# Fake corpora by data.path: split to utterances.
CORPUS: dict[str, dict[str, list[Utterance]]] = {}


def clip(id: str, text: str = "a b", speaker: str = "", seconds: float | None = 2.0, **rest) -> Utterance:
    rest.setdefault("audio", AudioRef(path=f"/nowhere/{id}.wav"))
    return Utterance(id=id, text=text, speaker=speaker, duration=seconds, corpus="fake", **rest)


def clips(prefix: str, number: int, **rest) -> list[Utterance]:
    return [clip(f"{prefix}{i}", text=f"{prefix} {i}", speaker=f"s-{prefix}-{i % 7}", **rest) for i in range(number)]


def read_fake(data: DataArguments, split: str, drops: Drops) -> Iterator[Utterance]:
    if split not in CORPUS[data.path]:
        raise UserError(f"{data.path} has no {split}")
    drops.add("votes", f"{split}-outvoted")
    yield from CORPUS[data.path][split]


def use_fake_corpora(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put A and B in the place of two readers, fresh."""
    for name in ("common_voice", "hub"):
        monkeypatch.setitem(CORPORA, name, read_fake)
    CORPUS.clear()
    CORPUS["A"] = {"train": clips("a", 20), "dev": clips("d", 5), "test": clips("t", 5), "other": clips("o", 4)}
    CORPUS["B"] = {"train": clips("b", 10), "validation": clips("bv", 3), "test": clips("bt", 3)}


def section(path: str = "A", **rest) -> DataArguments:
    return DataArguments(corpus="common_voice", path=path, **rest)


def ids(split) -> list[str]:
    return list(split.rows["id"])


def ids_of(data: DataArguments, name: str, seed: int = 0) -> list[str]:
    return ids(build_splits(data, seed=seed, names=[name])[name])
