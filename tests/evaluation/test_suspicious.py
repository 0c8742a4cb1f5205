"""Training clips whose transcript the untouched model contradicts: left out, counted, listed, and the list reused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
from helpers.tiny_training import build_rows

from hf_asr.config.arguments import Arguments
from hf_asr.config.parser import ConfigError, load_arguments
from hf_asr.errors import UserError
from hf_asr.evaluation import suspicious
from hf_asr.evaluation.suspicious import LIST, MADE_WITH, REASON, drop_suspicious
from hf_asr.features.cache import CachedRows, LiveRows, PreparedSplit
from hf_asr.inference.generate import Conditions, Generated
from hf_asr.utterance import Drops, Hypothesis

TEXTS = {"right": "one two", "near": "one two three", "wrong": "one", "silent": "..."}
WRITTEN = {"right": "One two.", "near": "one two tree", "wrong": "something else altogether", "silent": "hello"}
CONDITIONS = Conditions(window="full", dtype="float32", batch_size=4, generation={})
FAMILY: Any = SimpleNamespace(name="whisper", scoring="words")


def arguments_with(limit: float | None) -> Arguments:
    """Return a configuration with this limit."""
    changes = [] if limit is None else [f"data.drop_suspicious={limit}"]
    words = ["experiment.name=x", "model.name_or_path=y", "data.corpus=manifest", "data.path=z.csv", *changes]
    return load_arguments([], words)


def with_error(row: dict[str, Any]) -> dict[str, Any]:
    """Encode a row as LiveRows wants it."""
    return row | {"error": ""}


def split(kind: str = "cached") -> PreparedSplit:
    """Return a training split of four clips, one of them dropped before."""
    features = [row["input_features"].tobytes() for row in build_rows(4)]
    columns = {"id": list(TEXTS), "text": list(TEXTS.values()), "speaker": ["s"] * 4, "duration": [1.0] * 4}
    table = datasets.Dataset.from_dict(columns | {"input_features": features})
    encoder: Any = with_error
    rows: Any = CachedRows(table, 8, "float32") if kind == "cached" else LiveRows(table, encoder, "skip")
    return PreparedSplit("train", rows, table, Drops({"too_short": [("tiny", "")]}))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let a stand-in write the hypotheses; return the names of the splits it was asked for."""
    asked: list[str] = []

    def write(model: Any, family: Any, processor: Any, prepared: PreparedSplit, conditions: Any) -> Generated:
        asked.append(prepared.name)
        return Generated([Hypothesis(id, text) for id, text in WRITTEN.items()], [1.0] * 4, 1.0, Drops())

    monkeypatch.setattr(suspicious, "generate_dataset", write)
    return asked


def drop(run_dir: Path, limit: float | None, kind: str = "cached", **changes: Any) -> dict[str, PreparedSplit]:
    """Call it with the stand-in."""
    model: Any = None
    conditions = replace(CONDITIONS, **changes)
    prepared = {"train": split(kind)}
    return drop_suspicious(model, FAMILY, None, prepared, conditions, arguments_with(limit), run_dir)


@pytest.mark.parametrize("kind", ["cached", "live"])
@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (0.5, ["right", "near"]),
        (0.01, ["right"]),
        (6, ["right", "near", "silent"]),
        (99, ["right", "near", "wrong", "silent"]),
    ],
)
def test_clips_above_the_limit_are_left_out(
    tmp_path: Path, decoded: list[str], kind: str, limit: float, kept: list[str]
) -> None:
    train = drop(tmp_path, limit, kind)["train"]
    assert train.column("id") == kept and len(train.rows) == len(kept)
    assert [train.rows[index]["id"] for index in range(len(kept))] == kept
    assert train.drops.counts().get(REASON, 0) == 4 - len(kept) and train.drops.counts()["too_short"] == 1


def test_the_untouched_split_stays_as_it_was(tmp_path: Path, decoded: list[str]) -> None:
    before = split()
    after = drop_suspicious(None, FAMILY, None, {"train": before}, CONDITIONS, arguments_with(0.5), tmp_path)  # type: ignore[arg-type]
    assert len(before.rows) == 4 and before.drops.total() == 1 and after["train"] is not before


def test_the_list_is_for_people(tmp_path: Path, decoded: list[str]) -> None:
    train = drop(tmp_path, 0.5)["train"]
    with (tmp_path / LIST).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["wrong", "silent"], "the worst first"
    assert rows[0] == {"id": "wrong", "text": "one", "hypothesis": WRITTEN["wrong"], "cer": rows[0]["cer"]}
    assert float(rows[1]["cer"]) == 5.0, "an empty reference counts as one character"
    assert ("silent", "CER 5.00: the model wrote 'hello'") in train.drops.reasons[REASON]


def test_off_by_default(tmp_path: Path, decoded: list[str]) -> None:
    assert len(drop(tmp_path, None)["train"].rows) == 4
    assert decoded == [] and not list(tmp_path.iterdir())


def test_a_resumed_run_reuses_its_list(tmp_path: Path, decoded: list[str]) -> None:
    first, second = drop(tmp_path, 0.5)["train"], drop(tmp_path, 0.5)["train"]
    assert decoded == ["train"]
    assert second.column("id") == first.column("id") and second.drops == first.drops


def test_a_list_that_was_cut_off_is_made_anew(tmp_path: Path, decoded: list[str]) -> None:
    drop(tmp_path, 0.5)
    (tmp_path / MADE_WITH).unlink()
    drop(tmp_path, 0.5)
    assert decoded == ["train", "train"]


@pytest.mark.parametrize(
    ("limit", "changes", "words"),
    [(0.6, {}, "drop_suspicious is 0.6, was 0.5"), (0.5, {"generation": {"num_beams": 2}}, "generation is")],
)
def test_a_list_made_otherwise_is_refused(
    tmp_path: Path, decoded: list[str], limit: float, changes: dict[str, Any], words: str
) -> None:
    drop(tmp_path, 0.5)
    with pytest.raises(UserError, match=words):
        drop(tmp_path, limit, **changes)


def test_nothing_left_is_an_error(tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WRITTEN, "right", "no")
    with pytest.raises(UserError, match=r"expected clips with a CER of at most 0.01, found 4 clips"):
        drop(tmp_path, 0.01)


def test_a_model_that_writes_no_text_is_refused(tmp_path: Path) -> None:
    family: Any = SimpleNamespace(name="classifier", scoring="classes")
    model: Any = None
    with pytest.raises(UserError, match="expected a model that writes texts, found a classifier"):
        drop_suspicious(model, family, None, {"train": split()}, CONDITIONS, arguments_with(0.5), tmp_path)


def test_a_stream_is_refused_with_the_configuration() -> None:
    words = ["experiment.name=x", "model.name_or_path=y", "data.corpus=manifest", "data.path=z.csv"]
    with pytest.raises(ConfigError, match=r"data\.drop_suspicious: expected a training split that can be decoded"):
        load_arguments([], [*words, "data.drop_suspicious=0.5", "data.streaming=true"])


def test_conditions_are_kept_beside_the_list(tmp_path: Path, decoded: list[str]) -> None:
    drop(tmp_path, 0.5)
    made_with = json.loads((tmp_path / MADE_WITH).read_text())
    assert made_with["normalizer"] == "basic" and made_with["batch_size"] == 4 and made_with["clips"] == 4
