"""Infinite seconds passed the bounds and ended in an OverflowError, some of them after the baseline was decoded."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_asr.config.parser import load_arguments
from hf_asr.errors import UserError


@pytest.mark.parametrize("key", ["model.window_keep_seconds", "data.batch_seconds", "evaluation.batch_seconds"])
def test_a_number_of_seconds_is_finite(tmp_path: Path, key: str) -> None:
    yaml = tmp_path / "run.yaml"
    yaml.write_text('{experiment: {name: x}, model: {name_or_path: m}, data: {corpus: manifest, path: "."}}')
    with pytest.raises(
        UserError, match=rf"{key}: expected a number \(.* and less than infinity\), found the number inf"
    ):
        load_arguments([yaml], [f"{key}=.inf"])
    load_arguments([yaml], [f"{key}=1e9"])
