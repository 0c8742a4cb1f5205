"""freeze.last_n_encoder_layers beside a frozen encoder was read by nothing."""

from __future__ import annotations

import pytest
from helpers.tiny_training import build_model

from hf_asr.config.arguments import FreezeArguments
from hf_asr.errors import UserError
from hf_asr.models.whisper import FAMILY
from hf_asr.training.freezing import apply_freezing


def test_it_is_refused() -> None:
    with pytest.raises(UserError, match="last_n_encoder_layers: expected layers left to train"):
        apply_freezing(build_model(), FAMILY, FreezeArguments(groups=["encoder"], last_n_encoder_layers=1))
