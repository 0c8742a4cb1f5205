"""doctor asked for a validation split that a run with training.eval_strategy=no does not read."""

from __future__ import annotations

from pathlib import Path

from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.cli.preflight import check_run
from hf_asr.config.parser import load_arguments


def test_it_looks_at_what_the_run_reads(tmp_path: Path) -> None:
    manifest = make_tiny_corpus(tmp_path / "corpus", validation=0)
    yaml = tiny_yaml(tmp_path, make_tiny_whisper(tmp_path / "model"), manifest, eval_strategy="no")
    checks = {check.name: check for check in check_run(load_arguments([yaml]))}
    assert "data" not in checks and "validation" not in checks
    assert checks["train"].ok and checks["test"].ok
