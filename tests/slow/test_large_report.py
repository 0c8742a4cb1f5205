"""A report of 100,000 utterances stays small, and takes seconds."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path

import pytest

from hf_asr.evaluation.page_report import report_page
from hf_asr.evaluation.page_run import read_run
from hf_asr.evaluation.report import COLUMNS

UTTERANCES = 100_000
MOST_BYTES = 20 * 10**6
WORDS = [f"word{index}" for index in range(5000)]


def write_predictions(folder: Path, share_wrong: float, chance: random.Random) -> None:
    """Write 100,000 predictions of about 12 words, and the results that a page needs."""
    folder.mkdir(parents=True)
    totals = dict.fromkeys(("substitutions", "deletions", "insertions", "hits"), 0)
    with (folder / "test_predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(COLUMNS)
        for row in range(UTTERANCES):
            reference = [WORDS[(row * 7 + place * place) % 5000] for place in range(12)]
            wrong = [place for place in range(12) if chance.random() < share_wrong]
            hypothesis = [
                chance.choice(WORDS) + "x" if place in wrong else word for place, word in enumerate(reference)
            ]
            texts = (" ".join(reference), " ".join(hypothesis))
            counts = (len(wrong), 0, 0, 12 - len(wrong))
            writer.writerow((f"clip{row}", *texts, *texts, 1.0 + row % 20, f"speaker{row % 2000}", *counts))
            for name, count in zip(totals, counts, strict=True):
                totals[name] += count
    wer = totals["substitutions"] / (12 * UTTERANCES)
    rates = {name: wer for name in ("wer", "cer", "mer", "wil")}
    rest = {f"{name}_interval": [wer * 0.9, wer * 1.1] for name in ("wer", "cer")}
    size = {"num_utterances": UTTERANCES, "num_words": 12 * UTTERANCES, "wer_interval_by": "speaker"}
    results = {**rates, **rest, **size, **totals, "normalizer": "basic", "split": "test", "rtfx": 100.0}
    (folder / "test_results.json").write_text(json.dumps({**results, "seconds_of_audio": 1e6}))


@pytest.mark.slow
def test_a_report_of_100_000_utterances_stays_below_20_mb(tmp_path: Path) -> None:
    chance = random.Random(0)
    write_predictions(tmp_path / "baseline", 0.4, chance)
    write_predictions(tmp_path / "test", 0.1, chance)
    page = report_page([read_run(tmp_path)], {"clip0": bytes(6 * 2**20)})
    assert len(page.encode()) < MOST_BYTES
    assert "The 300 of 100,000 utterances" in page
    assert len(re.findall('<li class="item"', page)) == 300
