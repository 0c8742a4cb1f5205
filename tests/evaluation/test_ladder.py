"""The ladder's comparison and its table."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from hf_asr.errors import UserError
from hf_asr.evaluation.ladder import RunScores, compare, rate_of, read_scores, units_of
from hf_asr.evaluation.ladder_table import RowResult, as_csv, as_json, build_table, markdown, screen
from hf_asr.evaluation.report import write_results
from hf_asr.utterance import Drops, Hypothesis

CLIPS, WORDS = 60, 10


def scores(rate: float, *, seed: int = 0, speakers: int = 0, metric: str = "wer", clips: int = CLIPS) -> RunScores:
    """Return scores of random errors around a rate; every seed draws other ones."""
    generator = np.random.default_rng(seed)
    errors = generator.binomial(WORDS, rate, clips).astype(np.float64)
    names = tuple(f"s{index % speakers}" for index in range(clips)) if speakers else ("",) * clips
    ids = tuple(f"c{index}" for index in range(clips))
    return RunScores(metric, ids, ids, names, errors, np.full(clips, float(WORDS)))


def row(name: str, rate: float, *, against: str = "base", seeds: tuple[int, ...] = (1, 2, 3)) -> RowResult:
    """Return a row whose runs have random errors around a rate."""
    figures = {
        "train_seconds": 10.0,
        "steps": 5,
        "steps_in_all": 5,
        "clips_per_second": 4.0,
        "peak_rss_bytes": 2**30,
        "peak_gpu_bytes": None,
        "joules": None,
        "joules_from": None,
    }
    return RowResult(
        name,
        "alone" if against else "base",
        against,
        {seed: scores(rate, seed=seed) for seed in seeds},
        {seed: dict(figures) for seed in seeds},
    )


@pytest.mark.parametrize(
    ("metric", "after", "expected"),
    [
        ("wer", 0.1, "better"),
        ("wer", 0.8, "worse"),
        ("wer", 0.4, "tie"),
        ("accuracy", 0.8, "better"),
        ("accuracy", 0.1, "worse"),
        ("rmse", 0.1, "better"),
    ],
)
def test_verdicts(metric: str, after: float, expected: str) -> None:
    before = {seed: scores(0.4, seed=seed, metric=metric) for seed in (1, 2, 3)}
    changed = {seed: scores(after, seed=seed + 10, metric=metric) for seed in (1, 2, 3)}
    assert compare("base", before, changed, comparisons=1).verdict == expected


def test_more_comparisons_make_wider_intervals() -> None:
    before = {seed: scores(0.4, seed=seed) for seed in (1, 2, 3)}
    after = {seed: scores(0.3, seed=seed + 10) for seed in (1, 2, 3)}
    alone, many = (compare("base", before, after, comparisons=number).difference for number in (1, 8))
    assert alone is not None and many is not None
    assert alone.value == many.value
    assert many.high - many.low > alone.high - alone.low
    assert many.level == pytest.approx(1 - 0.05 / 8)


def test_pairs_are_made_of_equal_seeds() -> None:
    """The second row is the first plus 2 errors a clip, seed by seed: nothing about that is uncertain."""
    before = {seed: scores(0.2 * seed, seed=seed) for seed in (1, 2, 3)}
    after = {
        seed: RunScores("wer", one.ids, one.references, one.speakers, one.numerators + 2, one.denominators)
        for seed, one in before.items()
    }
    found = compare("base", before, dict(reversed(after.items())), comparisons=3).difference
    assert found is not None
    assert found.value == pytest.approx(0.2) and found.high - found.low < 1e-9


def test_other_clips_are_not_compared() -> None:
    found = compare("base", {1: scores(0.2)}, {1: scores(0.2, clips=CLIPS - 1)}, comparisons=1)
    assert found.difference is None and "not comparable" in found.verdict


def test_rows_without_a_common_seed_are_not_compared() -> None:
    found = compare("base", {1: scores(0.2)}, {2: scores(0.2)}, comparisons=1)
    assert found.difference is None and "no seed" in found.verdict


@pytest.mark.parametrize(("speakers", "by"), [(0, "utterance"), (5, "utterance"), (6, "speaker")])
def test_speakers_are_drawn_where_there_are_enough(speakers: int, by: str) -> None:
    assert units_of(scores(0.2, speakers=speakers))[1] == by


def test_the_rate_is_the_mean_over_the_seeds() -> None:
    runs = [scores(0.2, seed=seed) for seed in (1, 2, 3)]
    found = rate_of(runs)
    assert found.value == pytest.approx(np.mean([run.value for run in runs]))
    assert found.low < found.value < found.high


def test_scores_are_read_from_a_results_folder(tmp_path: Path) -> None:
    rows: dict[str, Any] = {"id": ["a", "b"], "text": ["one two", "three"], "duration": [1.0, 1.0]}
    write_results(
        tmp_path,
        rows=rows | {"speaker": ["s", "t"]},
        hypotheses=[Hypothesis("a", "one too"), Hypothesis("b", "three four")],
        skipped=Drops(),
        conditions={},
        wall_seconds=1.0,
    )
    words, characters = read_scores(tmp_path), read_scores(tmp_path, "cer")
    assert (words.metric, words.value, words.speakers) == ("wer", 2 / 3, ("s", "t"))
    assert characters.value == json.loads((tmp_path / "test_results.json").read_text())["cer"]


@pytest.mark.parametrize(
    ("results", "hypotheses", "expected"),
    [({"accuracy": 0.5}, ["1", "5"], 0.5), ({"rmse": 1.5}, ["2", "2"], 1.0)],
)
def test_scores_of_classes_and_numbers(
    tmp_path: Path, results: dict[str, float], hypotheses: list[str], expected: float
) -> None:
    (tmp_path / "test_results.json").write_text(json.dumps(results))
    table = "".join(f"{name},{name},{found},\n" for name, found in zip("12", hypotheses, strict=True))
    (tmp_path / "test_predictions.csv").write_text("id,reference,hypothesis,speaker\n" + table)
    assert read_scores(tmp_path).value == pytest.approx(expected if "accuracy" in results else np.sqrt(0.5))


def test_results_without_a_metric_of_ours(tmp_path: Path) -> None:
    (tmp_path / "test_results.json").write_text("{}")
    with pytest.raises(UserError, match="expected one of wer"):
        read_scores(tmp_path)


@pytest.fixture
def failed() -> RowResult:
    """A row whose runs failed with one message, and one that was not run."""
    return RowResult("wrong", "alone", "base", failures={1: "no such group", 2: "no such group"}, missing=[3])


def test_the_table_says_everything_in_words(failed: RowResult) -> None:
    table = build_table("steps", [row("base", 0.4, against=""), row("good", 0.1), failed], "basic")
    console = Console(width=160, file=io.StringIO(), force_terminal=False)
    console.print(screen(table))
    assert isinstance(console.file, io.StringIO)
    for text in (markdown(table), console.file.getvalue()):
        assert "good" in text and "better" in text and "points" in text
        assert "seeds 1, 2 failed: no such group; not run yet: 3" in text
        assert "97.50 % (Bonferroni)" in text.replace("\n", " ") and "normalizer basic" in text
        assert "joules" not in text and "GPU memory" not in text
        assert "1,024 MiB" in text and "10.0 s" in text


def test_a_column_appears_where_something_was_counted() -> None:
    base = row("base", 0.4, against="")
    base.resources[1]["joules"] = 512.0
    assert "| joules |" in markdown(build_table("steps", [base], "basic"))


def test_one_seed_is_said_to_be_one() -> None:
    table = build_table("steps", [row("base", 0.4, against="", seeds=(1,)), row("good", 0.1, seeds=(1,))], "basic")
    assert "With one seed nothing is known of another training" in markdown(table)


def test_an_interrupted_run_says_so() -> None:
    base = row("base", 0.4, against="")
    base.resources[2]["steps"] = 3
    assert "interrupted once, its time is that of the last part: 2" in markdown(build_table("steps", [base], "basic"))


def test_the_csv_has_a_line_a_run(failed: RowResult) -> None:
    table = build_table("steps", [row("base", 0.4, against=""), failed], "basic")
    lines = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert [(line["row"], line["seed"]) for line in lines] == [(n, s) for n in ("base", "wrong") for s in "123"]
    assert float(lines[0]["value"]) == scores(0.4, seed=1).value and lines[3]["failure"] == "no such group"


def test_the_json_holds_fractions_and_what_was_compared(failed: RowResult) -> None:
    table = build_table("steps", [row("base", 0.4, against=""), row("good", 0.1), failed], "basic")
    tree = json.loads(as_json(table))
    base, good, wrong = tree["rows"]
    assert base["wer"]["value"] == pytest.approx(0.4, abs=0.05) and base["comparison"] is None
    assert good["comparison"]["verdict"] == "better" and good["comparison"]["difference"]["value"] < 0
    assert wrong["wer"] is None and wrong["failures"] == {"1": "no such group", "2": "no such group"}


def test_a_table_without_any_finished_run(failed: RowResult) -> None:
    assert "no such group" in markdown(build_table("steps", [failed.__class__("base", "base"), failed], "basic"))
