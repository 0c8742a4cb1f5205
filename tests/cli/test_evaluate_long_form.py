"""hf-asr evaluate --long-form and --sweep: what is written, and what is refused."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.scripted_whisper import make_scripted_whisper, make_talker
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_families import TINY

from hf_asr.cli import main
from hf_asr.data.audio import SAMPLE_RATE, encode

# Each window of 4 s says "hi" in its first second; two equal timestamps end a segment, the next window begins there.
SCRIPT = ("<|0.00|>", " hi", "<|1.00|>", "<|1.00|>")
SECONDS = 31


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scripted_whisper(tmp_path_factory.mktemp("speaker"), SCRIPT)


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    """A recording of 31 s with a word a second, each a row with its times; its last row says another word."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(SECONDS * SAMPLE_RATE)
    (tmp_path / "talk.wav").write_bytes(encode(noise.astype(np.float32), SAMPLE_RATE, "wav"))
    rows = [["path", "start", "end", "text", "split"]]
    said = ["hi"] * (SECONDS - 1) + ["bye"]
    rows += [["talk.wav", second, second + 0.9, text, "test"] for second, text in enumerate(said)]
    with (tmp_path / "parts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    yaml = tiny_yaml(tmp_path, tmp_path / "nothing", tmp_path / "parts.csv")
    sections = json.loads(yaml.read_text())
    sections["data"]["columns"] |= {"start": "start", "end": "end"}
    del sections["evaluation"]["generation"]
    yaml.write_text(json.dumps(sections))
    return yaml


def evaluated(output: Path, model: Path, yaml: Path, *words: str) -> dict[str, Any]:
    command = ["evaluate", "--model", str(model), "--config", str(yaml), "--output-dir", str(output), *words]
    assert main(command) == 0
    results: dict[str, Any] = json.loads((output / "test_results.json").read_text())
    return results


def test_sequential_scores_the_joined_text_and_the_times(
    speaker: Path, yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--long-form", "sequential", "--save-predictions")
    found = evaluated(tmp_path / "out", speaker, yaml, *words)
    # 31 times "hi" against 30 and a "bye": one substitution, whatever the segments are.
    assert (found["num_utterances"], found["num_words"], found["substitutions"], found["insertions"]) == (1, 31, 1, 0)
    known = found["long_form"]
    assert (known["method"], known["num_recordings"], known["longest_seconds"]) == ("sequential", 1, 31.0)
    assert known["uncovered_seconds"] == pytest.approx(3.1)
    ends = known["timestamps"]["end"]
    assert (ends["num_known"], ends["num_compared"]) == (31, 30)
    assert ends["median"] == pytest.approx(0.1) and ends["share_within"]["0.2"] == 1.0
    assert known["timestamps"]["start"]["median"] == pytest.approx(0.0)
    assert "30 of 31 segment ends compared: median +0.10 s" in capsys.readouterr().out
    (line,) = (tmp_path / "out" / "test_segments.jsonl").read_text().splitlines()
    assert len(json.loads(line)["segments"]) == 31


def test_chunked_decodes_windows_and_compares_no_times(speaker: Path, yaml: Path, tmp_path: Path) -> None:
    found = evaluated(tmp_path / "out", speaker, yaml, "--long-form", "chunked")
    assert found["long_form"]["timestamps"] is None and "without" in found["long_form"]["no_timestamps"]
    (line,) = (tmp_path / "out" / "test_segments.jsonl").read_text().splitlines()
    windows = json.loads(line)["segments"]
    # Windows of at most 4 s, cut in their second half, one behind the other; "hi" in each.
    assert 8 <= len(windows) <= 16 and all("hi" in window["text"] for window in windows)
    assert (windows[0]["start"], windows[-1]["end"]) == (0.0, SECONDS)
    assert all(one["end"] == other["start"] for one, other in itertools.pairwise(windows))


def test_prompts_and_earlier_text_are_told_and_not_scored(speaker: Path, yaml: Path, tmp_path: Path) -> None:
    words = ("--long-form", "sequential", "--prompt", "Anna", "--condition-on-previous-text", "data.limit.test=1")
    # The temperatures beside it are the method's own.
    words = (*words, "evaluation.generation.logprob_threshold=-1.0", "evaluation.generation.no_speech_threshold=0.6")
    found = evaluated(tmp_path / "out", speaker, yaml, *words, "--save-predictions")
    known = found["long_form"]
    assert (known["prompt"], known["condition_on_previous_text"]) == ("Anna", True)
    assert found["generation"]["prompt_condition_type"] == "all-segments"
    with (tmp_path / "out" / "test_predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert "Anna" not in row["hypothesis"]


def test_a_ctc_model_decodes_windows_and_has_times_for_each_word(yaml: Path, tmp_path: Path) -> None:
    model = Path(TINY["ctc"](tmp_path).model.name_or_path)
    found = evaluated(tmp_path / "out", model, yaml, "--long-form", "chunked")
    assert found["long_form"]["no_timestamps"] == "" and found["long_form"]["timestamps"]["end"]["num_known"] == 31


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "Anna"], "evaluation.prompt: expected evaluation.long_form"),
        (["--long-form", "chunked", "--condition-on-previous-text"], "expected evaluation.long_form: sequential"),
        (["--long-form", "chunked", "--sweep", "num_beams=1,2"], "--sweep: expected clips, found --long-form"),
        (["--long-form", "chunked", "data.splits={held_out: {test: 0.5}}"], "found one that is carved from train"),
    ],
)
def test_what_does_not_go_together(
    words: list[str], message: str, speaker: Path, yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--model", str(speaker), "--config", str(yaml), "--output-dir", str(tmp_path / "out")]
    assert main([*command, *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_models_that_cannot_are_told_apart(yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["--config", str(yaml), "--output-dir", str(tmp_path / "out"), "--long-form", "sequential"]
    for family in ("ctc", "moonshine"):
        (tmp_path / family).mkdir()
        model = TINY[family](tmp_path / family).model.name_or_path
        assert main(["evaluate", "--model", model, *shared]) == 2
        assert f"expected chunked for a {family} model" in capsys.readouterr().err


def test_short_recordings_are_refused(
    speaker: Path, yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = make_tiny_corpus(tmp_path / "short", train=1, validation=1, test=2)
    words = [
        "--long-form",
        "chunked",
        f"data.path={corpus}",
        "data.columns.start=null",
        "data.columns.end=null",
        "--output-dir",
        str(tmp_path / "out"),
    ]
    assert main(["evaluate", "--model", str(speaker), "--config", str(yaml), *words]) == 2
    assert "--long-form: expected recordings longer than 30 s, found 2" in capsys.readouterr().err


def test_a_sweep_is_written_and_goes_on_where_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, corpus = make_talker(tmp_path / "model"), make_tiny_corpus(tmp_path / "corpus", train=1)
    yaml, output = tiny_yaml(tmp_path, tmp_path / "nothing", corpus), tmp_path / "out"
    command = ["evaluate", "--model", str(model), "--config", str(yaml), "--output-dir", str(output)]
    assert main([*command, "--sweep", "num_beams=1"]) == 0
    capsys.readouterr()
    assert main([*command, "--sweep", "num_beams=1,2"]) == 0
    shown = capsys.readouterr()
    assert "1 of 2: num_beams=1: kept" in shown.err and "2 of 2: num_beams=2\n" in shown.err
    assert shown.out.startswith("| num_beams | WER %") and "Best on validation (4 clips" in shown.out
    found = json.loads((output / "sweep.json").read_text())
    assert [row["settings"] for row in found["rows"]] == [{"num_beams": 1}, {"num_beams": 2}]
    assert found["split"] == "validation" and (output / "sweep.md").is_file()
    for row in found["rows"]:
        scored = json.loads((output / row["folder"] / "test_results.json").read_text())
        assert (scored["split"], scored["generation"]["num_beams"]) == ("validation", row["settings"]["num_beams"])
        assert scored["wer"] == row["wer"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sweep", "num_beams=1,2", "--split", "test"], "expected the validation split, found --split test"),
        (["--sweep", "num_beems=1,2"], "num_beems: unknown key. The nearest right name is 'num_beams'"),
        (["--sweep", "num_beams=0"], "num_beams: expected a whole number (at least 1), found the number 0"),
        (["--sweep", "model.window=full"], "expected a name of GenerationConfig"),
    ],
)
def test_sweeps_that_are_refused(
    words: list[str], message: str, yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["--config", str(yaml), "--output-dir", str(tmp_path / "out")]
    assert main(["evaluate", "--model", "nothing", *shared, *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
