"""The last screen of a run: it fits, it says what is significant, and its advice follows from the numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from hf_asr.evaluation.intervals import PairedDifference
from hf_asr.evaluation.screen import SplitSize, advice, end_of_run_screen, main_rate

RESULTS: dict[str, Any] = {
    "wer": 0.1,
    "cer": 0.03,
    "wer_interval": [0.09, 0.11],
    "cer_interval": [0.028, 0.032],
    "wer_interval_by": "speaker",
    "normalizer": "basic",
    "insertions": 10,
    "deletions": 20,
    "num_words": 1000,
    "num_utterances": 120,
    "rtfx": 12.34,
}
BASELINE = RESULTS | {"wer": 0.4, "cer": 0.2, "wer_interval": [0.38, 0.42], "cer_interval": [0.19, 0.21]}
BETTER = PairedDifference(-0.3, -0.33, -0.27, 0.001, "speaker")
SPLITS = {
    "train": SplitSize(9900, 36_000.0, {"too_long": 60, "broken_audio": 40}),
    "test": SplitSize(120, 360.0),
}


def screen(**changes: Any) -> str:
    """Print the screen as a terminal without colours shows it."""
    given: dict[str, Any] = {
        "name": "whisper_ru",
        "run_dir": "runs/whisper_ru",
        "splits": SPLITS,
        "trainable_parameters": 1_000_000,
        "total_parameters": 4_000_000,
        "results": RESULTS,
        "baseline": BASELINE,
        "difference": BETTER,
        "language": "ru",
    }
    console = Console(width=100, height=40, color_system=None)
    with console.capture() as captured:
        console.print(end_of_run_screen(**(given | changes)))
    return captured.get()


def test_everything_is_told() -> None:
    shown = screen()
    for text in (
        "whisper_ru",
        "9,900 clips, 10.00 h; left out: broken audio 40, too long 60",
        "120 clips, 0.10 h; nothing left out",
        "1,000,000 of 4,000,000 parameters (25.00 %)",
        "40.00 % [38.00, 42.00] -> 10.00 % [9.00, 11.00] (95 % by speaker, normalizer basic)",
        "-30.00 [-33.00, -27.00] points of WER, -75.0 % relative",
        "paired by speaker, p = 0.001: significant",
        "RTFx 12.3",
        "runs/whisper_ru: best_checkpoint/",
        "hf-asr push runs/whisper_ru",
    ):
        assert text in " ".join(shown.replace("│", " ").split()), text


@pytest.mark.parametrize(
    "results", [RESULTS, RESULTS | {"insertions": 500, "deletions": 400, "wer_interval": [0.01, 0.5]}]
)
def test_it_is_one_screen(results: dict[str, Any]) -> None:
    splits = {name: SplitSize(50, 1.0, {"too_long": 50, "too_short": 9}) for name in ("train", "validation", "test")}
    assert len(screen(results=results, splits=splits).splitlines()) <= 24


@pytest.mark.parametrize(("language", "first", "second"), [("ru", "WER", "CER"), ("zh-CN", "CER", "WER")])
def test_the_rate_that_says_more_comes_first(language: str, first: str, second: str) -> None:
    lines = [line.strip("│ ") for line in screen(language=language).splitlines()]
    places = [next(i for i, line in enumerate(lines) if line.startswith(rate)) for rate in (first, second)]
    assert places == sorted(places)
    assert main_rate(language) == first.lower()


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"baseline": None, "difference": None}, "->"),
        ({"baseline": None, "difference": None}, "baseline/"),
        ({"difference": None}, "significant"),
        ({"results": RESULTS | {"rtfx": None}}, "RTFx"),
    ],
)
def test_what_is_not_known_is_not_shown(changes: dict[str, Any], absent: str) -> None:
    assert absent in screen()
    assert absent not in screen(**changes)


def test_a_stream_has_no_length() -> None:
    assert "a stream; left out: too long 3" in screen(splits={"train": SplitSize(None, None, {"too_long": 3})})


def test_a_perfect_baseline_has_no_relative_change() -> None:
    assert "relative" not in screen(baseline=BASELINE | {"wer": 0.0})


WORSE = PairedDifference(0.05, 0.02, 0.08, 0.002, "utterance")
CHANCE = PairedDifference(-0.01, -0.03, 0.01, 0.4, "utterance")


@pytest.mark.parametrize(
    ("results", "splits", "baseline", "difference", "expected"),
    [
        (RESULTS, SPLITS, BASELINE, BETTER, ["hear it", "publish it"]),
        (RESULTS, SPLITS, None, None, ["evaluation.baseline=true"]),
        (RESULTS, SPLITS, BASELINE, WORSE, ["worse by 5.00 points"]),
        (RESULTS, SPLITS, BASELINE, CHANCE, ["may be chance (p = 0.4)"]),
        (RESULTS | {"wer_interval": [0.05, 0.15]}, SPLITS, BASELINE, BETTER, ["10.00 points wide"]),
        (RESULTS | {"insertions": 60}, SPLITS, BASELINE, BETTER, ["insertions are 6.00 %"]),
        (RESULTS | {"deletions": 150}, SPLITS, BASELINE, BETTER, ["deletions are 15.00 %"]),
        (RESULTS, {"train": SplitSize(80, 1.0, {"a": 5, "too_long": 15})}, BASELINE, BETTER, ["mostly as too long"]),
        (
            RESULTS | {"insertions": 60, "deletions": 150},
            {"train": SplitSize(1, 1.0, {"a": 1}), "test": SplitSize(1, 1.0, {"a": 1})},
            BASELINE,
            CHANCE,
            ["may be chance", "insertions", "deletions"],
        ),
    ],
)
def test_advice_follows_from_the_numbers(
    results: dict[str, Any],
    splits: dict[str, SplitSize],
    baseline: dict[str, Any] | None,
    difference: PairedDifference | None,
    expected: list[str],
) -> None:
    tips = advice(results, splits, baseline=baseline, difference=difference, run_dir="runs/x", language="ru")
    assert len(tips) == len(expected)
    for tip, words in zip(tips, expected, strict=True):
        assert words in tip


def test_advice_looks_at_cer_where_it_comes_first() -> None:
    wide = RESULTS | {"cer_interval": [0.01, 0.09]}
    given: dict[str, Any] = {"baseline": BASELINE, "difference": BETTER, "run_dir": "runs/x"}
    assert "8.00 points wide" in advice(wide, SPLITS, language="ja", **given)[0]
    assert "hear it" in advice(wide, SPLITS, language="ru", **given)[0]


def test_significance_is_the_tests_not_only_the_intervals() -> None:
    assert "not significant" in screen(difference=replace(BETTER, p_value=0.2))


def test_what_breaks_loops_is_not_advised_where_it_is_set() -> None:
    given: dict[str, Any] = {"baseline": BASELINE, "difference": BETTER, "run_dir": "runs/x", "language": "ru"}
    for size, told in ((0, True), (3, False)):
        results = RESULTS | {"insertions": 60, "generation": {"no_repeat_ngram_size": size}}
        (tip,) = advice(results, SPLITS, **given)
        assert ("no_repeat_ngram_size=3 breaks them" in tip) == told and "test/test_predictions.csv" in tip
