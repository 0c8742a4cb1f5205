"""The profile's page in a real browser: on a phone and on paper nothing is cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.browser import chromium, open_page
from helpers.profile_rows import MACHINE, refused, row

from hf_asr.profiling.report import page as report_page

__all__ = ["chromium"]

# A4 less the margins of the style sheet, 14 mm on both sides, in CSS pixels.
PAPER = round((210 - 2 * 14) / 25.4 * 96)
CUT = """[...document.querySelectorAll("main table")]
  .filter(table => table.getBoundingClientRect().right > document.documentElement.clientWidth + 1).length"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of long names, three variants and all figures."""
    words: dict[str, Any] = {"wer": 0.123456, "wer_interval": [0.1, 0.15], "cer": 0.05, "cer_interval": [0.04, 0.06]}
    words |= {"wer_clips": 16, "normalizer": "whisper-multilingual", "wer_interval_by": "utterance", "joules": 123.4}
    words |= {"joules_per_clip": 12.34, "gross_joules": 200.1, "idle_watts": 33.3, "per_token_seconds": 0.0123}
    words |= {"weight_bytes": 2**29, "activation_bytes": 2**28, "kv_cache_bytes": 2**27, "peak_bytes": 2**31}
    rows = [
        row("config:wav2vec2-xls-r-300m", 1.23456, batch, variant=variant, **words)
        for variant in ("sdpa", "fp16_encoder", "static_cache")
        for batch in (1, 16)
    ]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_page([*rows, refused()], [], MACHINE), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1180, 390])
def test_it_fits_its_window_and_is_quiet(chromium: Any, report: Path, width: int, dark: bool) -> None:
    page, seen = open_page(chromium, report, width=width, dark=dark)
    page.wait_for_load_state("networkidle")
    assert (seen.console, seen.requests) == ([], [])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_no_table_is_cut_off_on_paper(chromium: Any, report: Path) -> None:
    page, _ = open_page(chromium, report, width=PAPER)
    page.emulate_media(media="print")
    assert page.evaluate(CUT) == 0
    page.close()
