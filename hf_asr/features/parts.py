"""One cache written by many machines: each encodes a range of a split's rows, the last to finish joins them.

The parts lie in ``<cache_dir>/<split>-<hash>.8-parts/part-3/``, each whole or absent as a cache is. When none is
missing the joint manifest is written into that folder and the folder gets the cache's name: nothing is copied, and
whoever is killed at whatever moment leaves either parts or the cache. The machines need a folder that they all see, and
lists of the corpus that are the same for all; the hash tells when they are not.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_asr.config.arguments import Arguments, FeatureArguments
from hf_asr.data.corpora import Split
from hf_asr.data.stream import Stream
from hf_asr.errors import UserError
from hf_asr.features.augmented import caches_train
from hf_asr.features.cache import MANIFEST, cache_folder, is_whole, num_processes, write_once
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.prepare import scoring_encoder
from hf_asr.features.storage import disk_error, only_one, sync
from hf_asr.files import write_whole
from hf_asr.utterance import Drops

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """Which part of every split is encoded here.

    Attributes:
        number: From 1 to ``of``.
        of: How many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``3/8``.

        Raises:
            UserError: It is none.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        shard = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.of:
            raise UserError(
                f"--shard: expected a number and how many there are, 1/8 to 8/8, found {text!r}. The first is 1."
            )
        return shard

    @classmethod
    def of_launcher(cls) -> Shard:
        """Return what torchrun or accelerate gave this process; 1/1 without them."""
        return cls(int(os.environ.get("RANK", "0")) + 1, int(os.environ.get("WORLD_SIZE", "1")))

    def bounds(self, rows: int) -> tuple[int, int]:
        """Return the first row of this part and the one behind its last; parts differ by one row at most."""
        return (self.number - 1) * rows // self.of, self.number * rows // self.of


def write_parts(
    splits: Mapping[str, Split],
    encoder: ClipEncoder,
    arguments: Arguments,
    shard: Shard,
    *,
    trained_on: Collection[str] = ("train",),
) -> dict[str, list[int]]:
    """Encode this shard of every split that has a cache; join the parts of those that are complete by now.

    A split with fewer rows than there are shards has a part for each row.

    Args:
        splits: From :func:`hf_asr.data.corpora.build_splits`, the same on every machine.
        encoder: The family's encoder.
        arguments: The whole configuration, ``features.cache`` on.
        shard: The part to write.
        trained_on: As for :func:`hf_asr.features.prepare.prepare_splits`.

    Returns:
        Split to the numbers of the parts that are still missing; none where the cache is whole.

    Raises:
        UserError: The cache cannot be written, or a clip is bad and ``data.on_bad_clip`` is ``raise``.
    """
    missing = {}
    for name, split in splits.items():
        trains = name in trained_on
        if isinstance(split.rows, Stream) or (trains and not caches_train(arguments)):
            continue
        chosen = encoder if trains else scoring_encoder(encoder)
        missing[name] = _write_part(split, chosen, arguments.features, arguments.data.on_bad_clip, shard)
    return missing


def _write_part(
    split: Split, encoder: ClipEncoder, features: FeatureArguments, on_bad_clip: str, shard: Shard
) -> list[int]:
    folder, settings = cache_folder(split, encoder, features)
    mine = Shard(shard.number, max(1, min(shard.of, len(split.rows))))
    parts = folder.with_name(f"{folder.name}.{mine.of}-parts")
    if not is_whole(folder) and mine.number <= mine.of:
        begin, end = mine.bounds(len(split.rows))
        rows = split.rows.select(range(begin, end))
        sharers = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        features = replace(features, num_proc=num_processes(features, len(rows), sharers))
        some = replace(split, name=f"{split.name}, part {mine.number} of {mine.of}", rows=rows)
        write_once(parts / _name(mine.number), some, encoder, settings, features, on_bad_clip)
    try:
        return _join(folder, parts, mine.of, settings)
    except OSError as error:
        raise disk_error(error, folder.parent) from error


def _join(folder: Path, parts: Path, number: int, settings: Mapping[str, Any]) -> list[int]:
    """Make the parts a cache unless some are missing; return their numbers."""
    with only_one(folder):
        if is_whole(folder):
            return []
        missing = [place for place in range(1, number + 1) if not is_whole(parts / _name(place))]
        if not missing:
            _write_joint_manifest(parts, number, settings)
            shutil.rmtree(folder, ignore_errors=True)  # one that was damaged
            parts.rename(folder)
            sync(folder.parent)
            logger.info("features: %d parts are joined in %s", number, folder)
        return missing


def _write_joint_manifest(parts: Path, number: int, settings: Mapping[str, Any]) -> None:
    """Write what is in all parts, in the order of the rows."""
    names = [_name(place) for place in range(1, number + 1)]
    manifests = [json.loads((parts / name / MANIFEST).read_text("utf-8")) for name in names]
    drops = Drops()
    for manifest in manifests:
        drops.merge(Drops.from_dict(manifest["drops"]))
    joint = {
        "settings": settings,
        "files": {
            f"{name}/{file}": size
            for name, manifest in zip(names, manifests, strict=True)
            for file, size in manifest["files"].items()
        },
        "clips": sum(manifest["clips"] for manifest in manifests),
        "seconds": sum(manifest["seconds"] for manifest in manifests),
        "feature_size": manifests[0]["feature_size"],
        "drops": drops.to_dict(),
    }
    write_whole(parts / MANIFEST, json.dumps(joint, indent=1, ensure_ascii=False))


def _name(number: int) -> str:
    return f"part-{number}"
