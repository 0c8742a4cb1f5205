"""The evaluate.Metric modules: loadable offline by path, and equal to the counts they read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import evaluate
import jiwer
import pytest

from hf_asr.config.arguments import METRICS as CONFIG_METRICS
from hf_asr.errors import UserError
from hf_asr.evaluation.counts import count_errors
from hf_asr.evaluation.metrics import METRICS, compute_metrics

REFERENCES = ["the cat sat down", "", "hello", "да нет"]
HYPOTHESES = ["the cat sat", "x", "hallo", "да нет"]
EXPECTED = {
    "wer": jiwer.wer(REFERENCES, HYPOTHESES),
    "cer": jiwer.cer(REFERENCES, HYPOTHESES),
    "mer": jiwer.mer(REFERENCES, HYPOTHESES),
    "wil": jiwer.wil(REFERENCES, HYPOTHESES),
}


def test_the_table_covers_every_metric_the_configuration_knows() -> None:
    assert set(METRICS) == set(EXPECTED) == set(CONFIG_METRICS)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, evaluate.Metric]]:
    """Every metric as a user loads it, the copies that ``evaluate`` makes kept out of HOME."""
    folder = str(tmp_path_factory.mktemp("evaluate"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluate.config.HF_MODULES_CACHE", folder)
        # Whoever called evaluate.load before in this process has bound the package to another folder.
        for name in [name for name in sys.modules if name.partition(".")[0] == "evaluate_modules"]:
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(folder)
        yield {name: evaluate.load(str(path), cache_dir=folder) for name, path in METRICS.items()}


@pytest.mark.parametrize("name", METRICS)
def test_loads_by_path_offline_and_gives_jiwers_number(name: str, loaded: dict[str, evaluate.Metric]) -> None:
    metric = loaded[name]
    assert metric.compute(predictions=HYPOTHESES, references=REFERENCES) == {name: EXPECTED[name]}
    assert set(metric.features) == {"predictions", "references"}
    assert metric.description.strip()
    assert "normalizer" in metric.inputs_description
    assert "title" in metric.citation


@pytest.mark.parametrize("name", METRICS)
def test_the_normalizer_is_an_option(name: str, loaded: dict[str, evaluate.Metric]) -> None:
    assert loaded[name].compute(predictions=["a, b"], references=["A B"], normalizer="basic") == {name: 0.0}
    assert loaded[name].compute(predictions=["a, b"], references=["A B"])[name] > 0


def test_values_equal_the_counts() -> None:
    counts = count_errors(REFERENCES, HYPOTHESES)
    values = compute_metrics(METRICS, counts.reference_normalized, counts.hypothesis_normalized)
    assert values == {"wer": counts.wer(), "cer": counts.cer(), "mer": counts.mer(), "wil": counts.wil()}


def test_only_what_is_named_is_computed_and_home_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path / "home")
    assert compute_metrics(["mer"], REFERENCES, HYPOTHESES) == {"mer": EXPECTED["mer"]}
    assert not (tmp_path / "home").exists()


def test_an_unknown_metric_is_told() -> None:
    with pytest.raises(UserError, match=r"out of wer, cer, mer, wil, found 'bleu'"):
        compute_metrics(["wer", "bleu"], REFERENCES, HYPOTHESES)


def test_the_table_of_metrics_does_not_load_evaluate() -> None:
    code = "import sys, hf_asr.evaluation.metrics; assert not {'evaluate', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", METRICS.values(), ids=METRICS)
def test_each_import_stands_on_its_own_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "import evaluate" in lines
    assert not any(line.startswith(("from evaluate", "import ")) and "," in line for line in lines)
