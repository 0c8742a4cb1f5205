"""Other sets: what is written where nobody speaks, what is lost and when that is too much, on every screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.scored_run import CONDITIONS, make_scored_run, write_scored

from hf_asr.errors import RunFailed, UserError
from hf_asr.evaluation.also import check_limits
from hf_asr.evaluation.guardrails import Guardrail, compare_sets, lines, read_guardrails
from hf_asr.evaluation.non_speech import wilson_interval, write_non_speech
from hf_asr.evaluation.page_report import report_page
from hf_asr.evaluation.page_run import read_run
from hf_asr.evaluation.report import read_predictions
from hf_asr.hub.model_card import invention, other_set_row
from hf_asr.utterance import Drops, Hypothesis

TRUTH = ("one two three four", "five six seven eight", "nine ten eleven twelve")
RIGHT = TRUTH
ONE_WRONG = ("one two three four", "five six seven", "nine ten eleven twelve")


def silent(folder: Path, texts: tuple[str, ...], **more: Any) -> dict[str, Any]:
    names = [f"{index}" for index in range(len(texts))]
    rows = {"id": names, "text": [""] * len(texts), "speaker": [""] * len(texts)}
    rows |= {"duration": [30.0] * len(texts), "sound": ["hum", "tone"] * (len(texts) // 2)}
    return write_non_speech(
        folder,
        rows=rows,
        hypotheses=[Hypothesis(id, text) for id, text in zip(names, texts, strict=True)],
        skipped=Drops(),
        conditions=CONDITIONS,
        wall_seconds=1.0,
        normalizer="basic",
        about={"set": "silence", "language": "en"},
        **more,
    )


def sets(run: Path, before: tuple[str, ...], after: tuple[str, ...]) -> Path:
    write_scored(run / "also" / "other" / "baseline", TRUTH, before)
    write_scored(run / "also" / "other" / "test", TRUTH, after)
    silent(run / "also" / "silence" / "baseline", ("", ""))
    silent(run / "also" / "silence" / "test", ("you", "..."))
    return run


def compared(run: Path, **limits: float) -> list[Guardrail]:
    compare_sets(run, run, ["other", "silence"], limits)
    return read_guardrails(run)


def test_every_word_is_counted_where_nobody_speaks(tmp_path: Path) -> None:
    results = silent(tmp_path, ("thank you", "...", "", "Bye."))
    # Four clips of 30 s: three words in two minutes; punctuation alone is no text.
    assert (results["words_per_minute"], results["share_with_text"], results["insertions"]) == (1.5, 0.5, 3)
    assert results["by_sound"]["hum"]["insertions"] == 2 and results["by_sound"]["tone"]["num_with_text"] == 1
    assert results == json.loads((tmp_path / "test_results.json").read_text())
    assert [row["insertions"] for row in read_predictions(tmp_path)] == [2, 0, 0, 1]
    assert "wer" not in results


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [(0, 24, (0.0, 0.13798)), (24, 24, (0.86202, 1.0)), (12, 24, (0.31428, 0.68572))],
)
def test_wilsons_interval(successes: int, trials: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=1e-4)


def test_what_was_lost_stands_beside_what_may_be(tmp_path: Path) -> None:
    other, silence = compared(sets(tmp_path, RIGHT, ONE_WRONG), other=10.0)
    assert (other.rate, other.before, other.after, other.difference) == ("wer", 0.0, 1 / 12, 1 / 12)
    assert other.difference_interval is not None and other.exceeded is False
    assert (silence.rate, silence.before, silence.after) == ("share_with_text", 0.0, 0.5)
    assert silence.words_per_minute == [0.0, 1.0]
    assert silence.limit is None and silence.exceeded is None
    check_limits(tmp_path)


@pytest.mark.parametrize(
    ("limits", "named"),
    [({"other": 8.33}, "other"), ({"other": 8.34}, ""), ({"other": 100 / 12}, ""), ({"silence": 49}, "silence")],
)
def test_a_limit_fails_a_run_once_it_is_passed(tmp_path: Path, limits: dict[str, float], named: str) -> None:
    compared(sets(tmp_path, RIGHT, ONE_WRONG), **limits)
    if not named:
        check_limits(tmp_path)
        return
    with pytest.raises(RunFailed, match=rf"evaluation.also_limits: {named} \+.* limit {limits[named]:g}"):
        check_limits(tmp_path)


def test_a_gain_never_fails(tmp_path: Path) -> None:
    other = compared(sets(tmp_path, ONE_WRONG, RIGHT), other=0.0)[0]
    assert other.difference == -1 / 12 and other.exceeded is False


def test_without_a_baseline_nothing_is_compared(tmp_path: Path) -> None:
    sets(tmp_path, RIGHT, ONE_WRONG)
    compare_sets(tmp_path, None, ["other"], {"other": 0.0})
    (other,) = read_guardrails(tmp_path)
    assert other.before is None and other.exceeded is None
    assert "->" not in dict(lines([other]))["other"]


def test_sets_of_other_clips_are_not_compared(tmp_path: Path) -> None:
    sets(tmp_path, RIGHT, ONE_WRONG)
    write_scored(tmp_path / "also" / "other" / "baseline", TRUTH[:2], RIGHT[:2])
    with pytest.raises(
        UserError, match="the set other: expected the same num_utterances before and after, found 2 and 3"
    ):
        compared(tmp_path)
    with pytest.raises(UserError, match="expected earlier results of the set other"):
        compare_sets(tmp_path, tmp_path / "nowhere", ["other"], {})


def test_screen_card_and_page_tell_the_same(tmp_path: Path) -> None:
    run = sets(make_scored_run(tmp_path / "run"), RIGHT, ONE_WRONG)
    found = compared(run, other=2.0)
    shown = dict(lines(found))
    assert shown["other"].startswith("WER 0.00 % -> 8.33 % [") and shown["other"].endswith("limit 2: EXCEEDED)")
    assert "0.0 -> 1.0 words a minute" in shown["silence"]
    assert other_set_row(found[0])[:5] == ["other", "", "3", "WER", "0.00"]
    assert "wrote text in 50.00 % of them, 1.0 words a minute" in invention(found[1])
    assert invention(None) == "that was not measured"
    page = report_page([read_run(run)])
    for text in ("Other sets", "evaluation.also_limits: other", "0 before, 1 after, in words a minute"):
        assert text in page


def test_a_page_without_other_sets_says_nothing_of_them(tmp_path: Path) -> None:
    assert "Other sets" not in report_page([read_run(make_scored_run(tmp_path / "run"))])
