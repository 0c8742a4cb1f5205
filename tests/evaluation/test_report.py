"""test_results.json and test_predictions.csv: their keys and columns, and that they survive any text."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hf_asr.errors import UserError
from hf_asr.evaluation.report import (
    COLUMNS,
    PREDICTIONS,
    RESULTS,
    compare_results,
    join_rows,
    read_predictions,
    read_results,
    write_results,
)
from hf_asr.utterance import Drops, Hypothesis

ROWS = {
    "id": ["one", "two", "three", "four"],
    "text": ["Hello, World!", "a b c", "", "never decoded"],
    "duration": [1.5, 2.0, 0.5, 9.0],
    "speaker": ["s1", "s2", "s1", "s3"],
}
# In another order than the rows: joined by id.
HYPOTHESES = [Hypothesis("two", "a x c d"), Hypothesis("one", "hello world"), Hypothesis("three", "oh")]
CONDITIONS = {"window": "full", "dtype": "float32", "batch_size": 8, "generation": {"num_beams": 2}}


def write(folder: Path, **changes: Any) -> dict[str, Any]:
    """Write the results of the rows above."""
    skipped = Drops()
    skipped.add("broken_audio", "four", "no frames")
    given: dict[str, Any] = {
        "rows": ROWS,
        "hypotheses": HYPOTHESES,
        "skipped": skipped,
        "conditions": CONDITIONS,
        "wall_seconds": 0.5,
    }
    return write_results(folder, **(given | changes))


def test_the_keys_of_the_results(tmp_path: Path) -> None:
    results = write(tmp_path / "run" / "test")
    assert results == read_results(tmp_path / "run" / "test")
    assert list(results) == [
        *(
            "wer",
            "cer",
            "mer",
            "wil",
            "ser",
            "substitutions",
            "deletions",
            "insertions",
            "hits",
            "num_utterances",
            "num_words",
            "num_empty_references",
        ),
        *("normalizer", "wer_interval", "wer_interval_by", "cer_interval"),
        *("wer_interval_by_speaker", "wer_interval_by_utterance"),
        *("interval_method", "interval_level", "interval_samples", "raw_wer", "raw_cer"),
        *("seconds_of_audio", "wall_seconds", "rtfx", "skipped", "skipped_items", "split", "seed"),
        *("window", "dtype", "batch_size", "generation"),
    ]


def test_the_values_of_the_results(tmp_path: Path) -> None:
    results = write(tmp_path, about={"model": "runs/x/best_checkpoint"})
    assert results["wer"] == 3 / 5
    assert (results["substitutions"], results["deletions"], results["insertions"], results["hits"]) == (1, 0, 2, 4)
    assert (results["num_utterances"], results["num_words"], results["normalizer"]) == (3, 5, "basic")
    assert (results["seconds_of_audio"], results["rtfx"]) == (4.0, 8.0)
    assert results["skipped"] == {"broken_audio": 1}
    assert results["skipped_items"] == {"broken_audio": [["four", "no frames"]]}
    assert (results["split"], results["generation"]) == ("test", {"num_beams": 2})
    assert results["model"] == "runs/x/best_checkpoint"
    low, high = results["wer_interval"]
    assert 0 <= low <= results["wer"] <= high


def test_metrics_that_are_not_named_come_from_the_same_counts(tmp_path: Path) -> None:
    every, none = write(tmp_path / "a"), write(tmp_path / "b", metrics=[])
    assert every == none


def test_a_metric_that_is_unknown_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found 'blue'"):
        write(tmp_path, metrics=["wer", "blue"])
    assert not (tmp_path / RESULTS).exists()


@pytest.mark.parametrize(
    ("changes", "seconds", "rtfx"),
    [
        ({"wall_seconds": None}, 4.0, None),
        ({"rows": ROWS | {"duration": [1.5, None, 0.5, 9.0]}}, None, None),
    ],
)
def test_speed_is_null_where_something_is_not_known(
    changes: dict[str, Any], seconds: float | None, rtfx: float | None, tmp_path: Path
) -> None:
    results = write(tmp_path, **changes)
    assert (results["seconds_of_audio"], results["rtfx"]) == (seconds, rtfx)


def test_the_predictions_are_a_table_in_the_order_of_the_split(tmp_path: Path) -> None:
    write(tmp_path)
    table = pd.read_csv(tmp_path / PREDICTIONS, keep_default_na=False)
    assert tuple(table.columns) == COLUMNS
    assert table.values.tolist() == [
        ["one", "Hello, World!", "hello world", "hello world", "hello world", 1.5, "s1", 0, 0, 0, 2],
        ["two", "a b c", "a x c d", "a b c", "a x c d", 2.0, "s2", 1, 0, 1, 2],
        ["three", "", "oh", "", "oh", 0.5, "s1", 0, 0, 1, 0],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines",
        "carriage\rreturn\r\nfeed",
        'quote " and, comma',
        "=1+1",
        "\u2028 sep",
        "nul \x00 end",
        "İ ß 𝄞 हिन्दी",
    ],
)
def test_any_text_comes_back(text: str, tmp_path: Path) -> None:
    rows = {"id": ["x\n1"], "text": [text], "duration": [None], "speaker": [None]}
    write(tmp_path, rows=rows, hypotheses=[Hypothesis("x\n1", text)], normalizer="none")
    (row,) = read_predictions(tmp_path)
    assert (row["id"], row["reference"], row["hypothesis"]) == ("x\n1", text, text)
    assert (row["duration"], row["speaker"], row["hits"] > 0) == (None, "", True)


def test_a_lone_surrogate_does_not_lose_the_results(tmp_path: Path) -> None:
    rows = {"id": ["x"], "text": ["a b"], "duration": [1.0], "speaker": [""]}
    write(tmp_path, rows=rows, hypotheses=[Hypothesis("x", "a \ud800")])
    assert read_predictions(tmp_path)[0]["hypothesis"] == "a \\ud800"


def test_without_predictions_only_the_results_are_written(tmp_path: Path) -> None:
    write(tmp_path, save_predictions=False)
    assert [path.name for path in tmp_path.iterdir()] == [RESULTS]


def test_a_failed_write_leaves_the_old_file_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write(tmp_path, seed=7)
    assert read_results(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="expected a folder that can be written"):
        write(tmp_path / "file" / "test")


@pytest.mark.parametrize("hypotheses", [[Hypothesis("one", "a"), Hypothesis("one", "b")], [Hypothesis("nine", "a")]])
def test_hypotheses_belong_to_one_clip_each(hypotheses: list[Hypothesis]) -> None:
    with pytest.raises(AssertionError):
        join_rows(ROWS, hypotheses)


@pytest.mark.parametrize("content", [None, '{"wer": 0.', "\xff", "[1]"])
def test_results_that_are_missing_or_broken_are_told(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / RESULTS).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match="score that split"):
        read_results(tmp_path)


def test_predictions_that_are_missing_or_foreign_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keep its predictions"):
        read_predictions(tmp_path)
    (tmp_path / PREDICTIONS).write_text("id,text\n1,x\n")
    with pytest.raises(UserError, match="expected the columns id, reference"):
        read_predictions(tmp_path)


@pytest.mark.parametrize(
    ("turned", "message"),
    [
        (lambda text: text.rsplit(",", 3)[0], "found fewer cells up to line 4"),
        (lambda text: text[:-1] + ",x\n", "found more cells up to line 4"),
        (lambda text: text[:-1] + "x\n", "expected whole numbers of errors"),
        (lambda text: text + '"three,"\n', "found fewer cells"),
        (lambda text: "\x00" + text, "expected"),
    ],
)
def test_predictions_that_are_damaged_are_told(turned: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / PREDICTIONS
    path.write_text(turned(path.read_text(encoding="utf-8")), encoding="utf-8", newline="")
    with pytest.raises(UserError, match=message):
        read_predictions(tmp_path)


def test_the_text_of_a_long_recording_comes_back(tmp_path: Path) -> None:
    long = {"id": ["talk"], "text": ["word " * 40_000], "duration": [9000.0], "speaker": ["s"]}
    write(tmp_path, rows=long, hypotheses=[Hypothesis("talk", "word " * 40_000)], skipped=Drops())
    assert read_predictions(tmp_path)[0]["reference"] == long["text"][0]


def test_predictions_that_went_through_a_spreadsheet_are_read(tmp_path: Path) -> None:
    write(tmp_path)
    path, before = tmp_path / PREDICTIONS, read_predictions(tmp_path)
    path.write_bytes("\ufeff".encode() + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_predictions(path) == before
    path.write_bytes(path.read_bytes() + "é".encode("latin-1"))
    with pytest.raises(UserError, match="expected a CSV table in UTF-8"):
        read_predictions(path)


def many(speakers: list[str], wrong: int) -> tuple[dict[str, list[Any]], list[Hypothesis]]:
    """Forty clips of five words, ``wrong`` of them misheard in each."""
    ids = [str(clip) for clip in range(40)]
    rows = {"id": ids, "text": ["a b c d e"] * 40, "duration": [1.0] * 40, "speaker": speakers}
    return rows, [Hypothesis(id, " ".join(["x"] * wrong + ["a", "b", "c", "d", "e"][wrong:])) for id in ids]


@pytest.mark.parametrize(
    ("speakers", "by"),
    [(8, "speaker"), (4, "utterance"), (1, "utterance")],
)
@pytest.mark.parametrize("rate", ["wer", "cer"])
def test_two_folders_are_compared_clip_by_clip(speakers: int, by: str, rate: str, tmp_path: Path) -> None:
    for name, wrong in (("baseline", 3), ("test", 1)):
        rows, hypotheses = many([f"s{clip % speakers}" for clip in range(40)], wrong)
        write(tmp_path / name, rows=rows, hypotheses=hypotheses)
    found = compare_results(tmp_path / "baseline", tmp_path / "test", rate=rate)  # type: ignore[arg-type]
    assert found.difference == pytest.approx(-2 / 5 if rate == "wer" else -2 / 9)
    assert (found.by, found.significant) == (by, True)


def test_other_clips_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", hypotheses=HYPOTHESES[:2])
    with pytest.raises(UserError, match="same clips"):
        compare_results(tmp_path / "a", tmp_path / "b")


def test_files_end_their_lines_as_unix_does(tmp_path: Path) -> None:
    write(tmp_path)
    assert b"\r" not in (tmp_path / PREDICTIONS).read_bytes()
    assert json.loads((tmp_path / RESULTS).read_bytes())
    with (tmp_path / PREDICTIONS).open(newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 4
