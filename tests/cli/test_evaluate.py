"""hf-asr evaluate: the trainer's validation and the run's test again, to the last digit; and what is refused."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.scripted_whisper import make_talker
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.cli import main

SAME = ("wer", "cer", "mer", "wil", "substitutions", "deletions", "insertions", "hits", "num_utterances", "num_words")
SAME += ("wer_interval", "seconds_of_audio", "normalizer", "skipped", "window", "dtype", "batch_size", "generation")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint whose texts differ from clip to clip, and a corpus of tones."""
    folder = tmp_path_factory.mktemp("parts")
    return make_talker(folder / "model"), make_tiny_corpus(folder / "corpus", validation=6, test=7)


@pytest.fixture(scope="module")
def run(parts: tuple[Path, Path], project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained in bf16, which decoding must not notice."""
    spec = importlib.util.spec_from_file_location("recipe", project_root / "recipes" / "finetune_seq2seq.py")
    assert spec
    assert spec.loader
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    folder = tmp_path_factory.mktemp("run")
    recipe.main(["--config", str(tiny_yaml(folder, *parts, bf16=True, learning_rate=1e-4))])
    return folder / "runs" / "tiny"


def evaluated(output: Path, *words: str) -> dict[str, Any]:
    """Run the verb and return what it wrote."""
    assert main(["evaluate", *words, "--output-dir", str(output)]) == 0
    results: dict[str, Any] = json.loads((output / "test_results.json").read_text())
    return results


def test_it_repeats_the_runs_test_to_the_last_digit(run: Path, tmp_path: Path) -> None:
    words = ["--model", str(run / "best_checkpoint"), "--config", str(run / "config.yaml"), "--save-predictions"]
    again = evaluated(tmp_path, *words)
    first = json.loads((run / "test" / "test_results.json").read_text())
    assert {name: again[name] for name in SAME} == {name: first[name] for name in SAME}
    predictions = [(folder / "test_predictions.csv").read_text() for folder in (tmp_path, run / "test")]
    assert predictions[0] == predictions[1]
    assert len({row["hypothesis"] for row in csv.DictReader(predictions[0].splitlines())}) > 3
    assert again["model"] == str(run / "best_checkpoint")


def test_it_repeats_the_runs_analysis(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(run / "best_checkpoint"), "--config", str(run / "config.yaml"), "--detailed-analysis"]
    evaluated(tmp_path, *words, "evaluation.slices=[speaker, {duration: [1, 2]}]")
    again, first = (
        json.loads((folder / "test_detailed_analysis.json").read_text()) for folder in (tmp_path, run / "test")
    )
    assert [part["name"] for part in again["slices"]] == ["speaker", "duration"]
    assert {name: again[name] for name in ("overall", "confusions", "findings")} | {"overall": 0} == {
        name: first[name] for name in ("overall", "confusions", "findings")
    } | {"overall": 0}
    assert again["overall"]["wer"] == first["overall"]["wer"]
    assert str(tmp_path / "test_detailed_analysis.json") in capsys.readouterr().out
    assert not (tmp_path / "test_predictions.csv").exists()


def test_it_repeats_the_runs_baseline(run: Path, parts: tuple[Path, Path], tmp_path: Path) -> None:
    again = evaluated(tmp_path, "--model", str(parts[0]), "--config", str(run / "config.yaml"))
    first = json.loads((run / "baseline" / "test_results.json").read_text())
    assert {name: again[name] for name in SAME} == {name: first[name] for name in SAME}
    assert not (tmp_path / "test_predictions.csv").exists()


def test_it_repeats_the_trainers_validation(run: Path, tmp_path: Path) -> None:
    words = ["--model", str(run / "best_checkpoint"), "--config", str(run / "config.yaml"), "--split", "validation"]
    again = evaluated(tmp_path, *words)
    epochs = json.loads((run / "metrics_on_all_epochs.json").read_text())
    best = min(epochs, key=lambda epoch: epoch["eval_wer"])
    for name in ("wer", "cer", "mer", "wil", "substitutions", "deletions", "insertions", "hits"):
        assert again[name] == best[f"eval_{name}"]
    assert again["num_utterances"] == 6


def test_features_on_the_fly_give_the_same(run: Path, tmp_path: Path) -> None:
    words = ["--model", str(run / "best_checkpoint"), "--config", str(run / "config.yaml")]
    live = evaluated(tmp_path, *words, "features.cache=false")
    first = json.loads((run / "test" / "test_results.json").read_text())
    assert {name: live[name] for name in SAME} == {name: first[name] for name in SAME}


def test_overrides_stand_anywhere_and_broken_clips_are_told(
    parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = shutil.copytree(parts[1].parent, tmp_path / "corpus")
    (corpus / "clip20.wav").write_text("no audio")
    yaml = tiny_yaml(tmp_path, tmp_path / "nothing", corpus / "manifest.csv")
    words = ["evaluation.batch_size=2", "--model", str(parts[0]), "--config", str(yaml), "data.limit.test=5"]
    results = evaluated(tmp_path / "out", *words, "--save-predictions", "evaluation.normalizer=none")
    assert (results["batch_size"], results["normalizer"]) == (2, "none")
    assert results["skipped"] == {"broken_audio": 1}
    with (tmp_path / "out" / "test_predictions.csv").open(newline="") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    assert "clip20.wav" not in ids
    assert len(ids) == 5
    shown = capsys.readouterr().out
    assert f"WER {100 * results['wer']:.2f} %" in shown
    assert "normalizer none" in shown
    assert "left out: broken_audio 1" in shown
    assert str(tmp_path / "out" / "test_results.json") in shown


def test_the_configs_tokenizer_belongs_to_its_own_model(parts: tuple[Path, Path], tmp_path: Path) -> None:
    yaml = tiny_yaml(tmp_path, tmp_path / "base", parts[1])
    sections = json.loads(yaml.read_text())
    other = {"tokenizer_name_or_path": "/nowhere/tokenizer", "revision": "main", "family": None}
    yaml.write_text(json.dumps(sections | {"model": sections["model"] | other}))
    words = ["--model", str(parts[0]), "--config", str(yaml), "data.limit.test=2"]
    assert evaluated(tmp_path / "out", *words)["num_utterances"] == 2
    given = f"model.tokenizer_name_or_path={make_tiny_whisper(tmp_path / 'other')}"
    assert evaluated(tmp_path / "again", *words, given)["num_utterances"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "{model}", "--config", "{yaml}.missing"], "found nothing there"),
        (["--model", "{tmp}/nothing", "--config", "{yaml}"], "nothing there"),
        (["--model", "{model}", "--config", "{yaml}", "evaluation.batch_sise=2"], "batch_size"),
        (["--model", "{model}", "--config", "{yaml}", "model.name_or_path=x"], "--model alone"),
        (["--model", "{model}", "--config", "evaluation.batch_size=2"], "expected a YAML file"),
        (["--model", "{model}", "--config", "{yaml}", "evaluation.generation.num_beamz=2"], "num_beams"),
        (["--model", "{model}", "--config", "{yaml}", "data.path={tmp}/no.csv"], "no.csv"),
    ],
)
def test_what_cannot_be_done_is_one_message(
    parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    yaml = tiny_yaml(tmp_path, parts[0], parts[1])
    filled = [word.format(model=parts[0], yaml=yaml, tmp=tmp_path) for word in words]
    assert main(["evaluate", *filled, "--output-dir", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "out" / "test_results.json").exists()


def test_a_file_in_the_place_of_the_output_folder(
    parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("x")
    words = ["--model", str(parts[0]), "--config", str(tiny_yaml(tmp_path, *parts))]
    assert main(["evaluate", *words, "--output-dir", str(tmp_path / "out")]) == 2
    assert "--output-dir: expected a folder" in capsys.readouterr().err


def test_unknown_splits_and_later_flags_are_refused(tmp_path: Path) -> None:
    for words in (["--split", "dev"], ["--sweeps", "num_beams=1,5"]):
        with pytest.raises(SystemExit) as stop:
            main(["evaluate", "--model", "m", "--config", "c", "--output-dir", str(tmp_path), *words])
        assert stop.value.code == 2
