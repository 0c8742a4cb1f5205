"""Two systems compared: what is found, what is refused, and hf-asr compare."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_asr.cli import main
from hf_asr.errors import UserError
from hf_asr.evaluation.comparison import compare, pair_up, read_system
from hf_asr.evaluation.report import write_results
from hf_asr.utterance import Drops, Hypothesis


def write(folder: Path, errors: list[int], *, normalizer: str = "basic", **changes: Any) -> Path:
    """Write a run's results: clips of ten words, so many of them wrong."""
    number = len(errors)
    rows = {
        "id": [f"c{place}" for place in range(number)],
        "text": ["A, b c d e f g h i j"] * number,
        "duration": [float(place % 20) for place in range(number)],
        "speaker": [f"s{place // 10}" for place in range(number)],
        "gender": ["fm"[place % 2] for place in range(number)],
    } | changes
    texts = [" ".join(["x"] * wrong + list("abcdefghij")[wrong:]) for wrong in errors]
    write_results(
        folder,
        rows=rows,
        hypotheses=[Hypothesis(id, text) for id, text in zip(rows["id"], texts, strict=True)],
        skipped=Drops(),
        conditions={},
        wall_seconds=None,
        normalizer=normalizer,
        metrics=[],
        about={"model": folder.name},
    )
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """A run and a better one, of 100 clips by ten speakers; the better one's results stand in its test/."""
    drawn = np.random.default_rng(0)
    errors = drawn.binomial(9, 0.4, 100)
    better = np.maximum(0, errors - drawn.binomial(2, 0.5, 100)) + (drawn.random(100) < 0.1)
    return write(tmp_path / "worse", errors.tolist()), write(tmp_path / "better" / "test", better.tolist()).parent


def compared(first: Path, second: Path, margin: float = 0.0, **options: Any) -> dict[str, Any]:
    systems = read_system(first), read_system(second)
    pair = pair_up(*systems, **options)
    return compare(*systems, pair, normalizer=options.get("normalizer"), margin=margin)


def test_a_comparison_by_speaker(runs: tuple[Path, Path]) -> None:
    found = compared(*runs)
    assert (found["by"], found["num_speakers"], found["num_utterances"], found["num_words"]) == (
        "speaker",
        10,
        100,
        1000,
    )
    assert found["difference"] == pytest.approx(found["b"]["rate"] - found["a"]["rate"])
    low, high = found["difference_interval"]
    assert low < found["difference"] < high < 0
    assert found["significant"]
    assert (found["matched_pairs"], found["regression"]) == (None, False)
    won = found["utterances"]
    assert sum(won.values()) == 100
    assert won["win"] > won["loss"] > 0
    assert (found["a"]["model"], found["b"]["model"], found["normalizer"]) == ("worse", "test", "basic")


def test_a_comparison_by_utterance_has_matched_pairs(runs: tuple[Path, Path]) -> None:
    found = compared(*runs, by="utterance")
    assert found["by"] == "utterance"
    assert found["matched_pairs"]["test"] == "MAPSSWE"
    assert found["matched_pairs"]["p_value"] < 0.05
    assert found["matched_pairs"]["mean"] < 0


def test_slices_add_up_to_the_whole(runs: tuple[Path, Path]) -> None:
    found = compared(*runs)
    parts = {part["name"]: part["groups"] for part in found["slices"]}
    assert set(parts) == {"duration", "speaker", "gender", "speaking_rate", "reference_length"}
    for groups in parts.values():
        for name in ("win", "tie", "loss"):
            assert sum(one[name] for one in groups) + 0 <= found["utterances"][name]
    assert sum(one["utterances"] for one in parts["gender"]) == 100
    assert all(
        one["difference_interval"][0] <= one["difference"] <= one["difference_interval"][1] for one in parts["gender"]
    )
    assert {one["small"] for one in parts["speaker"]} == {True}


def test_the_utterances_that_changed_most_come_first(runs: tuple[Path, Path]) -> None:
    changed = compared(*runs)["changed"]
    sizes = [abs(one["errors_b"] - one["errors_a"]) for one in changed]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) > 0


def test_a_run_against_itself(runs: tuple[Path, Path]) -> None:
    found = compared(runs[0], runs[0])
    assert (found["difference"], found["difference_interval"], found["p_value"]) == (0.0, [0.0, 0.0], 1.0)
    assert (found["significant"], found["changed"], found["utterances"]["tie"]) == (False, [], 100)


def test_characters_are_compared_when_asked(runs: tuple[Path, Path]) -> None:
    found = compared(*runs, rate="cer", by="utterance")
    assert (found["rate"], found["matched_pairs"]) == ("cer", None)


def test_rows_in_another_order_are_the_same_clips(runs: tuple[Path, Path], tmp_path: Path) -> None:
    lines = (runs[0] / "test_predictions.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "turned.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n", encoding="utf-8")
    assert compared(runs[0], tmp_path / "turned.csv")["difference"] == 0


def test_other_clips_are_refused_with_both_lists(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = write(tmp_path / "other", [1] * 99, id=[f"c{n}" for n in range(98)] + ["new"])
    with pytest.raises(UserError, match=r"found 100 and 99: 2 only in .*worse \(c98, c99\); 1 only in .*other \(new\)"):
        compared(runs[0], other)


def test_other_references_are_refused(tmp_path: Path) -> None:
    texts = ["A, b c d e f g h i j"] * 2
    first = write(tmp_path / "one", [1, 1])
    second = write(tmp_path / "two", [1, 1], text=[texts[0], "another text"])
    with pytest.raises(UserError, match=r"same references on both sides, found other ones for 1 clips \(c1\)"):
        compared(first, second)


def test_other_normalizers_are_told_and_can_be_made_one(tmp_path: Path) -> None:
    first, second = write(tmp_path / "one", [1, 1]), write(tmp_path / "two", [1, 1], normalizer="none")
    with pytest.raises(UserError, match=r"found basic in .*one and none in .*two; say --normalizer NAME"):
        compared(first, second)
    found = compared(first, second, normalizer="whisper_english")
    assert (found["difference"], found["normalizer"]) == (0.0, "whisper_english")


def test_an_id_that_comes_twice_is_refused(runs: tuple[Path, Path]) -> None:
    path = runs[0] / "test_predictions.csv"
    path.write_text(path.read_text(encoding="utf-8").replace('"c1",', '"c0",'), encoding="utf-8")
    with pytest.raises(UserError, match=r"expected each clip once in .*worse, found several rows of c0"):
        compared(*runs)


@pytest.mark.parametrize(
    ("speakers", "message"),
    [(["s"] * 4, "found 1 speaker; go by utterance"), (["s", "t", "", ""], "found 2 speakers and 2 clips without one")],
)
def test_an_interval_by_speaker_is_refused(speakers: list[str], message: str, tmp_path: Path) -> None:
    first, second = (write(tmp_path / name, [1, 2, 3, 4], speaker=speakers) for name in ("a", "b"))
    with pytest.raises(UserError, match=message):
        compared(first, second, by="speaker")


@pytest.mark.parametrize("rate", ["wer", "cer"])
def test_the_verb_writes_prints_and_passes(
    rate: str, runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", *map(str, runs), "--rate", rate, "--output-dir", str(tmp_path / "new" / "out"), "--json"]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "new" / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert main(words[:5]) == 0
    out = capsys.readouterr().out
    assert "significant" in out
    assert "gender f" in out


@pytest.mark.parametrize(
    ("turned", "margin", "code"),
    [(False, [], 0), (False, ["0.01"], 0), (True, [], 1), (True, ["0.01"], 1), (True, ["0.5"], 0)],
)
def test_a_regression_is_an_interval_above_the_margin(
    turned: bool, margin: list[str], code: int, runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = runs[::-1] if turned else runs
    assert main(["compare", str(first), str(second), "--fail-on-regression", *margin]) == code
    assert ("regression" in capsys.readouterr().err) is (code == 1)


def test_durations_that_are_no_number_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [math.nan if place < 3 else 2.0 for place in range(40)]
    runs = [write(tmp_path / name, [errors] * 40, duration=wrong) for name, errors in (("a", 2), ("b", 1))]
    assert main(["compare", *map(str, runs)]) == 0
    out = capsys.readouterr().out
    for column in ("duration", "speaking_rate"):
        assert f"  {column}: unknown, or no finite number, for 3 of 40 utterances, which are in no group\n" in out
    assert "gender: unknown" not in out


def test_a_regression_that_was_not_asked_for_fails_nothing(runs: tuple[Path, Path]) -> None:
    assert main(["compare", str(runs[1]), str(runs[0])]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "nowhere"], "found nothing there"),
        ([".", "."], "found no test_predictions.csv in it or in its test/"),
        ([".", ".", "--fail-on-regression", "-1"], "expected a fraction from 0 to below 1"),
        ([".", ".", "--fail-on-regression", "nan"], "expected a fraction from 0 to below 1"),
        ([".", ".", "--fail-on-regression", "2"], "such as 0.005 for half a point, found 2"),
    ],
)
def test_the_verb_tells_what_is_wrong(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_run_is_no_margin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "--fail-on-regression", "a", "b"])
    assert "found 'a'; give it, or write the option behind both runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [("id,reference\n1,a\n", "expected the columns id, reference"), ("", "expected the columns"), (None, "found none")],
)
def test_a_file_that_is_no_predictions_is_told(
    content: str | None, message: str, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    header = (runs[0] / "test_predictions.csv").read_text(encoding="utf-8").splitlines()[0]
    (tmp_path / "file.csv").write_text(f"{header}\n" if content is None else content)
    with pytest.raises(UserError, match=message):
        read_system(tmp_path / "file.csv")
