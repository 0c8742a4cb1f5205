"""Batches are cut by number or by seconds: the later source decides, one source may not say both."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_asr.config.parser import ConfigError, load_arguments

BASE = "experiment: {name: x}\nmodel: {name_or_path: y}\ndata: {corpus: manifest, path: a.csv"


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("}\ntraining: {per_device_train_batch_size: 4}", "data.batch_seconds=60", (None, 60)),
        (", batch_seconds: 60}", "training.per_device_train_batch_size=4", (4, None)),
        (", batch_seconds: 60}", "data.batch_seconds=90", (None, 90)),
        (", batch_seconds: 60}", "training.per_device_train_batch_size=null", (None, 60)),
    ],
)
def test_the_later_source_replaces_the_earlier_ones(
    tmp_path: Path, first: str, second: str, expected: tuple[int | None, float | None]
) -> None:
    arguments = load_arguments([write(tmp_path, "a.yaml", BASE + first)], [second])
    assert (arguments.training.get("per_device_train_batch_size"), arguments.data.batch_seconds) == expected


def test_both_in_one_file_is_an_error(tmp_path: Path) -> None:
    text = BASE + ", batch_seconds: 60}\ntraining: {per_device_train_batch_size: 4}"
    with pytest.raises(ConfigError, match=r"a\.yaml: training\.per_device_train_batch_size: expected it or data"):
        load_arguments([write(tmp_path, "a.yaml", text)])


def test_a_stream_may_have_buckets(tmp_path: Path) -> None:
    arguments = load_arguments([write(tmp_path, "a.yaml", BASE + ", batch_seconds: 60, streaming: true}")])
    assert arguments.data.batch_seconds == 60
