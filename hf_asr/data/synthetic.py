"""Placeholder so that corpora can be imported; the owner of this file overwrites it."""

from collections.abc import Iterator

from hf_asr.config.arguments import DataArguments
from hf_asr.utterance import Drops, Utterance


def read(data: DataArguments, split: str, drops: Drops) -> Iterator[Utterance]:
    raise NotImplementedError
