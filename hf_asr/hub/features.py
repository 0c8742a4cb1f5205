"""Feature caches to the Hub: Parquet shards of true-length features and labels, with a data-set card."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import DatasetCardData
from huggingface_hub.constants import is_offline_mode

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError
from hf_asr.features.cache import MANIFEST, PreparedSplit
from hf_asr.hub.model_card import base_model_text, corpus_name, hours
from hf_asr.hub.privacy import hash_speaker, public_value
from hf_asr.hub.push import hub_api, is_private
from hf_asr.hub.run_files import PushFile
from hf_asr.hub.secrets import check_secrets
from hf_asr.hub.sending import send

logger = logging.getLogger(__name__)

TO_PUSH = "to_push_features"
# Bytes of features in a shard; the Hub's viewer and streams read shards of this size well.
SHARD_BYTES = 256 * 2**20
ROWS_AT_ONCE = 100
COLUMNS = ("id", "text", "label", "speaker", "duration", "input_features", "labels")


def push_features(arguments: Arguments, prepared: Mapping[str, PreparedSplit], endpoint: str | None = None) -> str:
    """Push the cached splits to a data set; while offline leave the shards in ``to_push_features`` of the run folder.

    Args:
        arguments: The whole configuration.
        prepared: Split to its features; a split without a cache is left out, and told.
        endpoint: Address of the Hub in place of ``HF_ENDPOINT``.

    Returns:
        The data set's address; offline, the folder's path.

    Raises:
        UserError: No split is cached, a text holds a secret, or the Hub refuses it.
    """
    hub, run_dir = arguments.hub, arguments.run_dir
    repo = hub.features_repo or f"{hub.repo}-features"
    folder = run_dir / TO_PUSH
    files = write_feature_shards(arguments, prepared, folder, repo)
    check_secrets(files)
    if is_offline_mode():
        logger.warning("hub.push_features: not pushed, offline: %d files are in %s", len(files), folder)
        return str(folder)
    private = is_private(hub.private, vars(arguments.data))
    message = f"Features of {arguments.experiment.name}"
    place = send(hub_api(endpoint), repo, files, private=private, message=message, repo_type="dataset")
    shutil.rmtree(folder)
    logger.info("pushed the features to %s", place)
    return place


def write_feature_shards(
    arguments: Arguments, prepared: Mapping[str, PreparedSplit], folder: Path, repo: str
) -> list[PushFile]:
    """Write the cached splits as Parquet shards with their card; return the files, the card last.

    Raises:
        UserError: No split has a cache.
    """
    cached = {name: split for name, split in prepared.items() if _is_cached(split)}
    for name in prepared.keys() - cached.keys():
        logger.warning("hub.push_features: %s has no cache of features and is left out", name)
    if not cached:
        raise UserError(
            "hub.push_features: expected at least one split with a cache of features, found none. Set "
            "features.cache=true and data.streaming=false, or hub.push_features=false."
        )
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    files = []
    for name, split in cached.items():
        assert split.table is not None
        files += [PushFile(f"data/{path.name}", path) for path in write_split(split.table, name, folder / "data")]
    manifest = {name: _manifest_of(split) for name, split in cached.items()}
    (folder / "features.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (folder / "README.md").write_text(features_card(arguments, cached, manifest, repo), "utf-8")
    return [*files, *(PushFile(name, folder / name) for name in ("features.json", "README.md"))]


def _is_cached(split: PreparedSplit) -> bool:
    """Tell whether a split's features are on disk; not so streams, live rows and banks."""
    return split.folder is not None and split.table is not None and set(COLUMNS) <= set(split.table.column_names)


def write_split(table: datasets.Dataset, name: str, folder: Path, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Write a cached split as ``NAME-00000-of-00003.parquet`` ...; speakers' ids are hashed, the rest is as it was."""
    parts: list[Path] = []
    writer: pq.ParquetWriter | None = None
    written = 0
    for block in table.select_columns(list(COLUMNS)).with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
        block = _public(block)
        if writer is not None and written + block.nbytes > shard_bytes:
            writer.close()
            writer, written = None, 0
        if writer is None:
            parts.append(folder / f".{name}-{len(parts):05d}.part")
            writer = pq.ParquetWriter(parts[-1], block.schema, compression="zstd")
        writer.write_table(block)
        written += block.nbytes
    if writer is not None:
        writer.close()
    named = [folder / f"{name}-{index:05d}-of-{len(parts):05d}.parquet" for index in range(len(parts))]
    return [part.rename(path) for part, path in zip(parts, named, strict=True)]


def _public(block: pa.Table) -> pa.Table:
    column = block.schema.get_field_index("speaker")
    hashed = pa.array([hash_speaker(speaker or "") for speaker in block["speaker"].to_pylist()], pa.string())
    return block.set_column(column, "speaker", hashed)


def _manifest_of(split: PreparedSplit) -> dict[str, Any]:
    """Return what tells how a split's features were made, and what was left out of it."""
    assert split.folder is not None and split.table is not None
    manifest = json.loads((split.folder / MANIFEST).read_text("utf-8"))
    kept: dict[str, Any] = public_value(
        {
            "encoder": manifest["settings"]["encoder"],
            "given": manifest["settings"]["given"],
            "feature_size": manifest["feature_size"],
            "clips": len(split.table),
            "seconds": manifest["seconds"],
            "left_out": split.drops.counts(),
        }
    )
    return kept


def features_card(
    arguments: Arguments, cached: Mapping[str, PreparedSplit], manifest: Mapping[str, Any], repo: str
) -> str:
    """Return the data-set card: what a row holds, how it is read, and what it was made of."""
    data = arguments.data
    language = data.language.replace("_", "-").split("-")[0].lower() if data.language else None
    metadata = DatasetCardData(
        language=language,
        license=arguments.hub.license,
        task_categories=["automatic-speech-recognition"],
        tags=["hf-asr", "features"],
        pretty_name=f"Features of {arguments.experiment.name}",
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in cached],
            }
        ],
    )
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hf_asr.hub", "."), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    first = next(iter(manifest.values()))
    text = environment.get_template("features_card.md.jinja").render(
        card_data=metadata.to_yaml(),
        name=arguments.experiment.name,
        repo=repo,
        split=next(iter(cached)),
        corpus=corpus_name(data),
        base_model=base_model_text(arguments.model.name_or_path),
        dtype=arguments.features.store_dtype,
        feature_size=first["feature_size"],
        text_pipeline=data.text_pipeline,
        rows=list(_rows(manifest)),
    )
    return text.strip() + "\n"


def _rows(manifest: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, made in manifest.items():
        left_out = ", ".join(f"{reason.replace('_', ' ')}: {number:,}" for reason, number in made["left_out"].items())
        yield [name, f"{made['clips']:,}", hours(made["seconds"]), left_out or "none"]
