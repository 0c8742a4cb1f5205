"""The random weights of a new head were a function of the folder that the checkpoint lay in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_families import TINY, Parts
from torch.testing import assert_close

from hf_asr.models import FAMILIES


@pytest.mark.parametrize("name", ["classifier", "regressor", "ctc"])
def test_a_new_head_is_the_same_wherever_the_checkpoint_is(name: str, tmp_path: Path) -> None:
    assert name in TINY
    parts = Parts.of(name, tmp_path)
    parts.arguments.ctc.vocabulary = "train"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(parts.arguments.model.name_or_path, elsewhere)
    found: list[dict[str, torch.Tensor]] = []
    for folder in (parts.arguments.model.name_or_path, str(elsewhere)):
        parts.arguments.model.name_or_path = folder
        found.append(weights_of(FAMILIES[name], parts))
    assert_close(found[0], found[1], rtol=0, atol=0)


def weights_of(family: Any, parts: Parts) -> dict[str, torch.Tensor]:
    """Load the model anew, from the processor on."""
    processor = family.load_processor(parts.arguments, parts.rows.rows)
    model = family.load_model(parts.arguments, processor)
    return {key: value.clone() for key, value in model.state_dict().items()}
