"""How long it takes to score, slice, analyse and bootstrap 100,000 utterances.

The texts are random words of a fixed vocabulary with 10 % errors by about 2,000 speakers; nothing is decoded. What
`hf-asr evaluate` writes after decoding is written: test_results.json with intervals, test_predictions.csv and
test_detailed_analysis.json, all with 1,000 bootstrap samples.

    python benchmarks/scoring_speed.py --utterances 100000
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_asr.evaluation.analysis import ANALYSIS, About
from hf_asr.evaluation.counts import count_errors
from hf_asr.evaluation.intervals import SAMPLES
from hf_asr.evaluation.metrics.corpus_bleu import corpus_bleu
from hf_asr.evaluation.report import PREDICTIONS, write_results
from hf_asr.utterance import Drops, Hypothesis

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = 20_000
CLIPS_A_SPEAKER = 50


def texts(number: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return references of 3 to 17 words with capitals and full stops, and hypotheses with about 10 % errors."""
    chosen = random.Random(seed)
    words = ["".join(chosen.choices(LETTERS, k=chosen.randint(2, 9))) for _ in range(VOCABULARY)]
    references, hypotheses = [], []
    for _ in range(number):
        said = chosen.choices(words, k=chosen.randint(3, 17))
        references.append(" ".join(said).capitalize() + ".")
        hypotheses.append(" ".join(_heard(said, words, chosen)))
    return references, hypotheses


def _heard(said: list[str], words: list[str], chosen: random.Random) -> Iterator[str]:
    for word in said:
        drawn = chosen.random()
        if drawn < 0.06:
            yield chosen.choice(words)
        elif drawn > 0.08:
            yield word
        if drawn > 0.98:
            yield chosen.choice(words)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long something took, and the processor time of this process and its children."""
    started, busy = time.perf_counter(), sum(os.times()[:4])
    yield
    wall, busy = time.perf_counter() - started, sum(os.times()[:4]) - busy
    print(f"{what:<44} {wall:7.1f} s {busy:7.1f} s of processors", flush=True)


def rows_of(references: list[str]) -> dict[str, list[Any]]:
    """Return the columns of a corpus with speakers, durations, gender and SNR."""
    number, chosen = len(references), random.Random(1)
    return {
        "id": [f"clip{place}" for place in range(number)],
        "text": references,
        "duration": [chosen.uniform(1, 20) for _ in range(number)],
        "speaker": [f"speaker{chosen.randrange(number // CLIPS_A_SPEAKER + 1)}" for _ in range(number)],
        "gender": [chosen.choice(("female", "male", "")) for _ in range(number)],
        "snr": [chosen.gauss(15, 6) for _ in range(number)],
    }


def score(references: list[str], hypotheses: list[str], rows: dict[str, list[Any]]) -> dict[str, int]:
    """Score as ``hf-asr evaluate`` does behind its decoding; return the sizes of what is written."""
    with timed("normalise, align words and characters"):
        count_errors(references, hypotheses, ids=rows["id"])
    with timed("align the raw texts"):
        count_errors(references, hypotheses, normalizer="none", ids=rows["id"])
    # Both alignments are kept from above.
    written = [Hypothesis(id, text) for id, text in zip(rows["id"], hypotheses, strict=True)]
    shared = {"skipped": Drops(), "conditions": {}, "wall_seconds": None, "metrics": [], "analysis": About()}
    with tempfile.TemporaryDirectory() as folder, timed(f"intervals of {SAMPLES:,} samples, slices, analysis"):
        write_results(folder, rows=rows, hypotheses=written, **shared)  # type: ignore[arg-type]
        return {name: (Path(folder) / name).stat().st_size for name in (PREDICTIONS, ANALYSIS)}


def main() -> None:
    """Score, and print each part's time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("--bleu", action="store_true", help="BLEU as well")
    options = parser.parse_args()
    references, hypotheses = texts(options.utterances)
    print(f"{options.utterances:,} utterances, {sum(text.count(' ') + 1 for text in references):,} words")
    rows = rows_of(references)
    with timed("together"):
        sizes = score(references, hypotheses, rows)
    if options.bleu:
        with timed("BLEU"):
            corpus_bleu(references, hypotheses)
    print(", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()))


if __name__ == "__main__":
    main()
