"""evaluation.also through the recipe and hf-asr evaluate: files, languages, limits and their exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.outcomes import Attack, recipe_main
from helpers.scripted_whisper import make_talker
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml

from hf_asr.cli import main
from hf_asr.cli.outcome import run_recipe


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A YAML with its parts, and the overrides that ask for two other sets."""
    folder = tmp_path_factory.mktemp("other")
    model, corpus = make_talker(folder / "model"), make_tiny_corpus(folder / "corpus")
    other = make_tiny_corpus(folder / "german", train=0, validation=0, test=3)
    sets = {
        "german": {"corpus": "manifest", "path": str(other), "language": "de", "normalizer": "none", "limit": 2},
        "silence": "builtin",
    }
    limits = {"german": 0.0, "silence": 100}
    words = [f"evaluation.also={json.dumps(sets)}", f"evaluation.also_limits={json.dumps(limits)}"]
    return tiny_yaml(folder, model, corpus, num_train_epochs=1, report_to="none"), words


@pytest.fixture(scope="module")
def run(made: tuple[Path, list[str]]) -> Path:
    """The folder of a run that kept to its limits."""
    yaml, words = made
    assert run_recipe(recipe_main("finetune_seq2seq"), ["--config", str(yaml), *words]) == 0
    return yaml.parent / "runs" / "tiny"


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "test_results.json").read_text())
    return found


def test_every_set_is_scored_before_and_after_in_its_own_language(run: Path) -> None:
    for part in ("baseline", "test"):
        german, silence = (results(run / "also" / name / part) for name in ("german", "silence"))
        assert (german["language"], german["normalizer"], german["num_utterances"]) == ("de", "none", 2)
        assert (silence["language"], silence["kind"], silence["normalizer"]) == ("en", "non_speech", "basic")
        # The window is 4 s: longer clips are left out and named.
        assert silence["num_utterances"] + silence["skipped"]["too_long"] == 24
    found = json.loads((run / "also" / "guardrails.json").read_text())
    assert [item["name"] for item in found] == ["german", "silence"]
    assert all(item["exceeded"] is False for item in found)
    assert "### Other sets" in (run / "README.md").read_text()
    assert "Other sets" in (run / "test" / "report.html").read_text()
    # The set's language was set for the set alone.
    saved = json.loads((run / "best_checkpoint" / "generation_config.json").read_text())
    assert saved["language"] == "en"


def test_evaluate_repeats_the_sets_and_compares(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(run / "best_checkpoint"), "--config", str(run / "config.yaml")]
    earlier = tmp_path / "earlier"
    for name in ("german", "silence"):
        shutil.copytree(run / "also" / name, earlier / "also" / name)
    predictions = earlier / "also" / "german" / "baseline" / "test_results.json"
    better = json.loads(predictions.read_text()) | {"wer": 0.0}
    predictions.write_text(json.dumps(better))
    output = tmp_path / "out"
    code = main(["evaluate", *words, "--output-dir", str(output), "--baseline", str(earlier)])
    shown = capsys.readouterr()
    assert code == 1 and "evaluation.also_limits: german" in shown.err and "EXCEEDED" in shown.out
    assert results(output / "also" / "german" / "test")["wer"] == results(run / "also" / "german" / "test")["wer"]


def test_a_resumed_run_keeps_the_baselines_it_has_and_fails_past_a_limit(
    run: Path, made: tuple[Path, list[str]]
) -> None:
    baseline = run / "also" / "german" / "baseline" / "test_results.json"
    baseline.write_text(json.dumps(json.loads(baseline.read_text()) | {"wer": 0.0}))
    yaml, words = made
    outcome = Attack().recipe(
        "finetune_seq2seq", yaml, *words, "training.resume_from_checkpoint=true"
    )  # fmt: skip
    assert outcome.code == 1
    assert "evaluation.also_limits: german +" in outcome.last and "The run is whole" in outcome.last
    assert results(baseline.parent)["wer"] == 0.0
    assert (run / "README.md").is_file()


def test_a_set_that_cannot_be_read_is_told_before_training(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("path,text\n")
    yaml, _ = made
    for path, found in (("nowhere.csv", "nowhere.csv"), ("empty.csv", "has a header and no rows")):
        sets = {"other": {"corpus": "manifest", "path": str(tmp_path / path)}}
        outcome = Attack().recipe(
            "finetune_seq2seq", yaml, f"evaluation.also={json.dumps(sets)}", f"experiment.name=x{path}"
        )
        outcome.assert_refused("evaluation.also.other: ", found)
        assert not (yaml.parent / "runs" / f"x{path}" / "checkpoints").exists()
