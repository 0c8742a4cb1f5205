"""The evaluate.Metric modules: loadable offline by path, and equal to the counts they read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import evaluate
import jiwer
import pytest
import sacrebleu

from hf_asr.config.arguments import METRICS as CONFIG_METRICS
from hf_asr.errors import UserError
from hf_asr.evaluation.counts import ErrorCounts, count_errors
from hf_asr.evaluation.metrics import ABOUT_WORDING, METRICS, compute_metrics
from hf_asr.evaluation.metrics.corpus_bleu import corpus_bleu

REFERENCES = ["the cat sat down", "", "hello", "да нет"]
HYPOTHESES = ["the cat sat", "x", "hallo", "да нет"]
EXPECTED = {
    "wer": jiwer.wer(REFERENCES, HYPOTHESES),
    "cer": jiwer.cer(REFERENCES, HYPOTHESES),
    "mer": jiwer.mer(REFERENCES, HYPOTHESES),
    "wil": jiwer.wil(REFERENCES, HYPOTHESES),
    "ser": 0.75,
    "bleu": sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score,
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
        yield {name: evaluate.load(str(path), cache_dir=folder) for name, path in (METRICS | ABOUT_WORDING).items()}


@pytest.mark.parametrize("name", METRICS)
def test_loads_by_path_offline_and_gives_jiwers_number(name: str, loaded: dict[str, evaluate.Metric]) -> None:
    metric = loaded[name]
    found = metric.compute(predictions=HYPOTHESES, references=REFERENCES)
    assert found[name] == EXPECTED[name]
    assert set(found) == ({"bleu", "bleu_signature"} if name == "bleu" else {name})
    assert set(metric.features) == {"predictions", "references"}
    assert metric.description.strip()
    assert "normalizer" in metric.inputs_description
    assert "title" in metric.citation or name == "ser"


@pytest.mark.parametrize("name", [name for name in METRICS if name != "bleu"])
def test_the_normalizer_is_an_option(name: str, loaded: dict[str, evaluate.Metric]) -> None:
    assert loaded[name].compute(predictions=["a, b"], references=["A B"], normalizer="basic") == {name: 0.0}
    assert loaded[name].compute(predictions=["a, b"], references=["A B"])[name] > 0


@pytest.mark.parametrize(
    ("name", "normalizer", "reference", "hypothesis", "expected"),
    [
        ("case_error_rate", "none", "So it is, Anna.", "so it is Anna", 0.25),
        ("case_error_rate", "basic", "So it is, Anna.", "so it is Anna", None),
        ("punctuation_error_rate", "none", "So it is, Anna.", "so it is Anna", 0.5),
        ("punctuation_error_rate", "basic", "So it is, Anna.", "so it is Anna", None),
        ("number_error_rate", "basic", "at 12, not at 13", "at 20 not at 13", 0.5),
        ("number_error_rate", "basic", "at twelve", "at 12", None),
        ("name_error_rate", "basic", "We met Anna, and Bob", "we met anna and bop", 0.5),
        ("name_error_rate", "basic", "we met nobody", "we met Bob", None),
    ],
)
def test_how_words_are_written(
    name: str,
    normalizer: str,
    reference: str,
    hypothesis: str,
    expected: float | None,
    loaded: dict[str, evaluate.Metric],
) -> None:
    metric = loaded[name]
    found = metric.compute(references=[reference], predictions=[hypothesis], normalizer=normalizer)
    assert found == {name: expected}
    assert metric.description.strip() and "normalizer" in metric.inputs_description


def test_values_equal_the_counts() -> None:
    counts = count_errors(REFERENCES, HYPOTHESES)
    rates = ("wer", "cer", "mer", "wil", "ser")
    values = compute_metrics(rates, counts.reference_normalized, counts.hypothesis_normalized)
    assert values == {name: vars(ErrorCounts)[name](counts) for name in rates}


@pytest.mark.parametrize(
    ("texts", "tokenizer"), [(["one two"], "13a"), (["да, нет"], "13a"), (["我们的 ok"], "char"), (["สวัสดี"], "char")]
)
def test_bleu_is_of_characters_where_words_have_no_spaces(texts: list[str], tokenizer: str) -> None:
    found = corpus_bleu(texts, texts)
    assert f"tok:{tokenizer}|" in found.signature
    assert f"|version:{sacrebleu.__version__}" in found.signature


def test_bleu_of_normalised_texts(loaded: dict[str, evaluate.Metric]) -> None:
    texts = {"predictions": ["The cat sat, on a mat!"], "references": ["the cat sat on a mat"]}
    assert loaded["bleu"].compute(**texts, normalizer="basic")["bleu"] == pytest.approx(100)
    assert loaded["bleu"].compute(**texts)["bleu"] < 50


def test_only_what_is_named_is_computed_and_home_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path / "home")
    assert compute_metrics(["mer"], REFERENCES, HYPOTHESES) == {"mer": EXPECTED["mer"]}
    assert not (tmp_path / "home").exists()


def test_an_unknown_metric_is_told() -> None:
    with pytest.raises(UserError, match=r"out of wer, cer, mer, wil, ser, bleu, found 'rouge'"):
        compute_metrics(["wer", "rouge"], REFERENCES, HYPOTHESES)


def test_the_table_of_metrics_does_not_load_evaluate() -> None:
    code = "import sys, hf_asr.evaluation.metrics; assert not {'evaluate', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", (METRICS | ABOUT_WORDING).values(), ids=METRICS | ABOUT_WORDING)
def test_each_import_stands_on_its_own_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "import evaluate" in lines
    assert not any(line.startswith(("from evaluate", "import ")) and "," in line for line in lines)
