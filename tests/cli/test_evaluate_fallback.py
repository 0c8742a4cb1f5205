"""Temperature fallback in `hf-asr evaluate`: asked for it is done, seeded by the clips, and a row of a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.scripted_whisper import make_talker
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml

from hf_asr.cli import main

# Every text is longer than a hundredth of its compressed form: all of them are decoded again, sampled.
ALWAYS = "evaluation.generation.compression_ratio_threshold=0.01"
HOTTER = "evaluation.generation.temperature=[0.0, 2.0]"


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """What every call of the verb begins with."""
    model, corpus = make_talker(tmp_path / "model"), make_tiny_corpus(tmp_path / "corpus", validation=4, test=5)
    return ["evaluate", "--model", str(model), "--config", str(tiny_yaml(tmp_path, model, corpus))]


def predicted(words: list[str], folder: Path, *more: str) -> str:
    assert main([*words, "--save-predictions", "--output-dir", str(folder), *more]) == 0
    return (folder / "test_predictions.csv").read_text()


def test_what_looks_like_a_loop_is_sampled_again_alike_each_time(words: list[str], tmp_path: Path) -> None:
    greedy = predicted(words, tmp_path / "greedy")
    assert predicted(words, tmp_path / "never", HOTTER, ALWAYS.replace("0.01", "1000.0")) == greedy
    once, again = (predicted(words, tmp_path / name, HOTTER, ALWAYS) for name in ("once", "again"))
    assert once == again != greedy
    told = json.loads((tmp_path / "once" / "test_results.json").read_text())["generation"]
    assert told["temperature"] == [0.0, 2.0] and told["compression_ratio_threshold"] == 0.01


def test_it_is_a_row_of_a_sweep(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--output-dir", str(tmp_path / "out"), "--sweep", "temperature=0.0,[0.0,2.0]", ALWAYS]) == 0
    found = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [row["settings"] for row in found["rows"]] == [{"temperature": 0.0}, {"temperature": [0.0, 2.0]}]


def test_a_list_without_a_reason_to_fall_back_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--output-dir", str(tmp_path / "out"), HOTTER]) == 2
    assert "expected compression_ratio_threshold or logprob_threshold beside a list" in capsys.readouterr().err
