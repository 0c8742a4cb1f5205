"""Columns of the corpus come to the slices by their names, through cached and live splits alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from hf_asr.data.corpora import ROW_FEATURES
from hf_asr.errors import UserError
from hf_asr.evaluation.clip_columns import clip_columns
from hf_asr.features.cache import PreparedSplit
from hf_asr.utterance import AudioRef, Drops, Utterance


def prepared(ids: list[str], corpus_ids: list[str] | None = None, path: str = "no.wav", **extra: str) -> PreparedSplit:
    """Return a split whose corpus has one more clip and another order than what could be encoded."""
    rows = [
        Utterance(
            id, AudioRef(path), "text", language="ru", corpus="common_voice", extra={"age": f"age of {id}", **extra}
        )
        for id in (corpus_ids or ids)
    ]
    corpus = datasets.Dataset.from_list([row.as_row() for row in rows], features=ROW_FEATURES)
    table = datasets.Dataset.from_dict({"id": ids})
    return PreparedSplit("test", [], table, Drops(), corpus=corpus)  # type: ignore[arg-type]


def test_columns_are_joined_by_id() -> None:
    found = clip_columns(prepared(["b", "a"], ["a", "torn", "b"]), ["age", "language", "speaker"])
    assert found == {"age": ["age of b", "age of a"], "language": ["ru", "ru"]}


def test_common_voice_names_its_accents_either_way() -> None:
    assert clip_columns(prepared(["a"], accent="moscow"), ["accents"]) == {"accents": ["moscow"]}


def test_the_usual_columns_are_those_that_are_there() -> None:
    found = clip_columns(prepared(["a"], mood="good"), [])
    assert found == {"snr": [None], "age": ["age of a"]}


def test_bounds_do_not_hide_a_name() -> None:
    assert set(clip_columns(prepared(["a"], votes="3"), [{"votes": [1, 2]}])) == {"votes"}


def test_snr_is_estimated_from_the_audio_and_a_column_of_that_name_wins(shared_data: Path) -> None:
    (found,) = clip_columns(prepared(["a"], path=str(shared_data / "jfk.flac")), ["snr"])["snr"]
    assert isinstance(found, float)
    assert 10 < found < 60
    assert clip_columns(prepared(["a"], snr="7"), ["snr"]) == {"snr": ["7"]}


@pytest.mark.parametrize("corpus", [True, False])
def test_a_missing_column_is_told_before_anything_is_decoded(corpus: bool) -> None:
    split = prepared(["a"], gender="f")
    split = split if corpus else PreparedSplit("test", split.rows, split.table, Drops())
    expected = "expected a column gendre in the rows of test, found duration" if corpus else "test has no column gendre"
    with pytest.raises(UserError, match=expected):
        clip_columns(split, ["gendre"])


def test_rows_keep_their_extra_columns() -> None:
    row: dict[str, Any] = prepared(["a"], gender="f").corpus[0]  # type: ignore[index]
    assert json.loads(row["extra"]) == {"age": "age of a", "gender": "f"}
