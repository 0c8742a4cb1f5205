"""The bank of states: written once, whole or absent, found again by what it was made of, and never too large."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_asr.config.arguments import FeatureArguments
from hf_asr.errors import UserError
from hf_asr.features import bank
from hf_asr.features.bank import bank_split
from hf_asr.features.bank_room import BankShape, why_no_room
from hf_asr.features.cache import PreparedSplit
from hf_asr.utterance import Drops

SHAPE = BankShape(layers=2, width=3, states_per_second=10)


class Table:
    """Columns of a split."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __getitem__(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]


def split_of(lengths: Sequence[int], folder: str = "train-abc", errors: Mapping[int, str] = {}) -> PreparedSplit:
    rows = [
        {
            "id": f"clip{index}",
            "text": "",
            "label": "b",
            "speaker": "s",
            "duration": length / 10,
            "input_features": np.full((length, 4), index, dtype=np.float16),
            "labels": [1],
            "error": errors.get(index, ""),
        }
        for index, length in enumerate(lengths)
    ]
    return PreparedSplit("train", rows, Table(rows), Drops(), Path(folder))  # type: ignore[arg-type]


class Encode:
    """States that tell the clip, the layer and the state; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        self.calls += 1
        return [self.states(row) for row in rows]

    @staticmethod
    def states(row: Mapping[str, Any]) -> np.ndarray:
        length = len(row["input_features"])
        values = float(row["input_features"][0, 0]) + np.arange(2 * length * 3) / 1024
        return values.reshape(2, length, 3).astype(np.float16)


def banked(folder: Path, split: PreparedSplit, encode: Any, settings: Mapping[str, Any] | None = None) -> PreparedSplit:
    return bank_split(
        split,
        encode,
        shape=SHAPE,
        settings=settings or {"encoder": "hash"},
        features=FeatureArguments(cache_dir=str(folder)),
        batch_size=2,
    )


def test_states_come_back_as_they_were(tmp_path: Path) -> None:
    split = split_of([4, 7, 1])
    found = banked(tmp_path, split, Encode())
    assert (len(found.rows), found.column("id"), found.column("label")) == (3, ["clip0", "clip1", "clip2"], ["b"] * 3)
    for index in (2, 0, 1):
        row, given = found.rows[index], split.rows[index]
        assert row["input_features"].dtype == np.float16
        np.testing.assert_array_equal(row["input_features"], Encode.states(given))
        kept = ("id", "text", "label", "speaker", "duration", "labels", "error")
        assert {name: row[name] for name in kept} == {name: given[name] for name in kept}


def test_the_second_time_nothing_is_encoded(tmp_path: Path) -> None:
    encode = Encode()
    first, second = (banked(tmp_path, split_of([4, 7, 1]), encode) for _ in range(2))
    assert (encode.calls, first.reused, second.reused) == (2, False, True)
    assert first.folder == second.folder


def test_another_split_copies_the_clips_that_a_bank_has(tmp_path: Path) -> None:
    encode, whole = Encode(), split_of([4, 7, 1])
    banked(tmp_path, whole, encode)
    other = split_of([4, 7, 1, 5], folder="fold-2")
    found = banked(tmp_path, other, encode)
    assert (found.reused, encode.calls) == (False, 3), "two batches of the first, one of the second's new clip"
    for index, given in enumerate(other.rows):
        np.testing.assert_array_equal(found.rows[index]["input_features"], Encode.states(given))
    banked(tmp_path, other, encode, {"encoder": "another"})
    assert encode.calls == 5, "another encoder's states are not taken"


@pytest.mark.parametrize(
    ("split", "settings"),
    [(split_of([4], folder="train-other"), None), (split_of([4]), {"encoder": "another"})],
)
def test_other_rows_or_weights_have_a_bank_of_their_own(
    tmp_path: Path, split: PreparedSplit, settings: Mapping[str, Any] | None
) -> None:
    banked(tmp_path, split_of([4]), Encode())
    assert not banked(tmp_path, split, Encode(), settings).reused


def test_shards_are_cut_and_read_by_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank, "SHARD_BYTES", 30)
    split = split_of([4, 7, 1, 2])
    found = banked(tmp_path, split, Encode())
    assert found.folder is not None
    assert len(list(found.folder.glob("states-*.bin"))) > 2
    rows = pickle.loads(pickle.dumps(found.rows))
    for index, given in enumerate(split.rows):
        np.testing.assert_array_equal(rows[index]["input_features"], Encode.states(given))


def test_an_interrupted_bank_is_no_bank(tmp_path: Path) -> None:
    class Stops(Encode):
        def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
            if self.calls:
                raise KeyboardInterrupt
            return super().__call__(rows)

    with pytest.raises(KeyboardInterrupt):
        banked(tmp_path, split_of([4, 7, 1]), Stops())
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    found = banked(tmp_path, split_of([4, 7, 1]), Encode())
    assert found.folder is not None
    (found.folder / "states-00000.bin").write_bytes(b"short")
    assert not banked(tmp_path, split_of([4, 7, 1]), Encode()).reused


def test_clips_that_cannot_be_read_are_left_out_and_told(tmp_path: Path) -> None:
    found = banked(tmp_path, split_of([4, 7, 1], errors={1: "broken_audio: no header"}), Encode())
    assert found.column("id") == ["clip0", "clip2"]
    assert found.drops.to_dict() == {"broken_audio": [["clip1", "no header"]]}
    with pytest.raises(UserError, match=r"found none left: broken_audio"):
        banked(tmp_path, split_of([4], folder="x", errors={0: "broken_audio: no header"}), Encode())


def test_the_forecast_is_what_is_written(tmp_path: Path) -> None:
    lengths = [40, 73, 25, 18]
    found = banked(tmp_path, split_of(lengths), Encode())
    assert found.folder is not None
    written = (found.folder / "states-00000.bin").stat().st_size
    forecast = SHAPE.forecast(sum(lengths) / 10, len(lengths)) - 400 * len(lengths)
    assert written == sum(lengths) * 2 * 3 * 2
    assert written <= forecast <= 1.05 * written


def test_too_large_is_told_before_anything_is_written(tmp_path: Path) -> None:
    features = FeatureArguments(cache_dir=str(tmp_path / "new"), bank_max_gb=1e-7)
    with pytest.raises(UserError, match=r"features.bank: expected at most features.bank_max_gb=1e-07 GB .*Raise it"):
        bank_split(split_of([4]), Encode(), shape=SHAPE, settings={}, features=features, batch_size=2)
    assert not (tmp_path / "new").exists()
    huge = BankShape(10**6, 10**9, 50)
    features.bank_max_gb = 1e12
    assert "GB free in" in why_no_room([split_of([4])], huge, features)


def test_states_beyond_float16_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected states that are finite numbers in float16, found others for clip0"):
        banked(tmp_path, split_of([4]), lambda rows: [np.full((2, 4, 3), np.inf, dtype=np.float16)])
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_numbers_as_labels_stay_numbers(tmp_path: Path) -> None:
    split = split_of([4, 2])
    for row in split.rows:
        row["labels"] = [2.5]
    assert banked(tmp_path, split, Encode()).rows[1]["labels"] == [2.5]
