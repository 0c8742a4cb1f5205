"""From the data section to splits: read, filtered, mixed, counted, and looked at for leaks."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import datasets

from hf_asr.config.arguments import SPLITS, DataArguments
from hf_asr.data.leaks import leaks_between
from hf_asr.data.listed import list_sources
from hf_asr.data.resolve import resolve
from hf_asr.data.row_table import ROW_FEATURES
from hf_asr.data.sampling import epoch_order
from hf_asr.data.selection import CORPORA
from hf_asr.data.stream import Stream
from hf_asr.data.streaming import stream_rows
from hf_asr.errors import UserError
from hf_asr.utterance import Drops, Seconds

__all__ = ["CORPORA", "ROW_FEATURES", "Split", "build_splits", "find_leaks"]

logger = logging.getLogger(__name__)


@dataclass
class Split:
    """The rows of a split, undecoded.

    Attributes:
        name: ``train``, ``validation`` or ``test``.
        rows: Rows of ``utterance.ROW_TYPES``, a ``datasets.Dataset``; a ``Stream`` for train with ``data.streaming``.
        drops: What was left out; what a stream leaves out only while it is read comes with its rows.
        seconds: Audio in all; None for a stream.
        warnings: What a user should know before training on it: leaks.
    """

    name: str
    rows: Any
    drops: Drops
    seconds: Seconds | None
    warnings: list[str] = field(default_factory=list)


def build_splits(data: DataArguments, *, seed: int, names: Sequence[str] = SPLITS) -> dict[str, Split]:
    """Read the splits of a data section.

    ``data.limit`` keeps the first clips of a split after the filters, in the corpus's order; nothing is read beyond
    them, and they are no drops. Sources with weights are sampled without repetition, see :func:`mix`.

    Args:
        data: The data section.
        seed: ``experiment.seed``; it only decides what a mixture samples and how a stream is shuffled.
        names: Which of ``train``, ``validation``, ``test``.

    Returns:
        Name to split, in the order asked for. Ids are unique within a split.

    Raises:
        UserError: A split is missing, its corpus cannot be read, nothing of it is left, or all its references are
            empty.
    """
    splits = {name: _split(data, name, seed) for name in names}
    for second, line in _leaks(splits):
        second.warnings.append(line)
    for split in splits.values():
        _log(split)
    return splits


def find_leaks(splits: Mapping[str, Split]) -> list[str]:
    """Return one line for each kind of leak between two splits: same clips, sentences or speakers.

    A stream is not looked into.
    """
    return [line for _, line in _leaks(splits)]


def check_streams(splits: Mapping[str, Split], max_steps: int, processes: int, workers: int) -> None:
    """See, before anything is loaded, that something ends a stream, and that every process has a shard of it.

    The log tells how many shards there are for how many processes.

    Args:
        splits: From :func:`build_splits`.
        max_steps: ``training.max_steps``, below 1 for none.
        processes: How many processes train.
        workers: Loader workers of each.

    Raises:
        UserError: Nothing does, or one has none.
    """
    for split in splits.values():
        if isinstance(split.rows, Stream):
            split.rows.check_length(max_steps)
            split.rows.check_readers(processes)
            logger.info("%s: %s", split.name, split.rows.dealing(processes, workers))


def mix(
    tables: Sequence[datasets.Dataset], weights: Sequence[float | None], *, seed: int, limit: int | None = None
) -> tuple[datasets.Dataset, list[str]]:
    """Put tables together so that each has its share of the rows.

    With weights w the mixture is as large as can be without a row coming twice: table i gives
    ``round(total * w[i] / sum(w))`` rows, total being the smallest ``size[i] * sum(w) / w[i]``. So the table that is
    small for its weight is used whole and the others are sampled, as ``interleave_datasets`` does with
    ``first_exhausted``. Without weights every row is used.

    Args:
        tables: Rows of each source; none is empty.
        weights: Shares relative to each other; all None for no weights.
        seed: Decides which rows are sampled.
        limit: Most rows of the mixture; the shares are kept.

    Returns:
        The mixture, source after source, each in its own order; and the ids that were left out.
    """
    sizes = [len(table) for table in tables]
    shares = [weight or size for weight, size in zip(weights, sizes, strict=True)]
    total = min(size * sum(shares) / share for size, share in zip(sizes, shares, strict=True))
    total = total if limit is None else min(total, limit)
    kept, left_out = [], list[str]()
    for index, (table, share) in enumerate(zip(tables, shares, strict=True)):
        order = epoch_order(len(table), seed=seed, epoch=index, shuffle=True)
        number = round(total * share / sum(shares))
        kept.append(table if number >= len(table) else table.select(sorted(order[:number].tolist())))
        left_out += table.select_columns("id").select(sorted(order[number:].tolist()))["id"][:]
    return datasets.concatenate_datasets(kept), left_out


def _split(data: DataArguments, name: str, seed: int) -> Split:
    drops = Drops()
    if data.streaming and name == "train":
        return Split(name, stream_rows(data, name, seed, drops), drops, None)
    sources, limit = resolve(data, name), data.limit.get(name)
    tables = list_sources(sources, name, drops, most=limit if len(sources) == 1 else None)
    rows = tables[0]
    if len(tables) > 1:
        rows, left_out = mix(tables, [source.weight for source in sources], seed=seed, limit=limit)
        for id in left_out:
            drops.add("not_sampled", id)
    if name != "train" and "label" not in data.columns:
        _check_references(name, rows)
    return Split(name, rows, drops, _sum_of(rows, "duration"))


def _leaks(splits: Mapping[str, Split]) -> Iterator[tuple[Split, str]]:
    """Yield (the split that is evaluated, what it shares) for each pair, in the order train, validation, test."""
    ordered = [splits[name] for name in SPLITS if name in splits]
    for first, second in combinations(ordered, 2):
        if isinstance(first.rows, datasets.Dataset) and isinstance(second.rows, datasets.Dataset):
            for line in leaks_between(first.name, first.rows, second.name, second.rows):
                yield second, line


def _sum_of(rows: datasets.Dataset, column: str) -> float:
    blocks = rows.select_columns(column).iter(batch_size=10_000)
    return math.fsum(value for block in blocks for value in block[column])


def _check_references(name: str, rows: datasets.Dataset) -> None:
    for block in rows.select_columns("text").iter(batch_size=10_000):
        if any(text.strip() for text in block["text"]):
            return
    raise UserError(
        f"{name}: expected transcripts, found {len(rows)} clips whose texts are all empty: every word of a hypothesis "
        "would count as an error. Check data.columns.text, or take another split."
    )


def _log(split: Split) -> None:
    if split.seconds is not None:
        logger.info("%s: %d clips, %.2f h", split.name, len(split.rows), split.seconds / 3600)
    for line in split.drops.lines():
        logger.info("%s: %s", split.name, line)
    for line in split.warnings:
        logger.warning(line)
