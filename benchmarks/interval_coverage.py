"""How often a 95 % interval holds the truth, and how many utterances a gain needs to be seen: both by simulation.

Speakers differ (a normal effect on the logit of a word's error, standard deviation 0.6), so do their utterances (0.5),
and speakers read unequally many (gamma with shape 1.5). Utterances have 1 + Poisson(9) words; at the middle 15 % are
wrong, and one word in a hundred is put in. The truth is the rate of infinitely many speakers.

    python benchmarks/interval_coverage.py > coverage.md
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hf_asr.evaluation.intervals import Units, expanded_level, percentile_interval, resampled_rates

Floats = NDArray[np.float64]

MIDDLE, BY_SPEAKER, BY_UTTERANCE, INSERTED = 0.15, 0.6, 0.5, 0.01
# Utterances and speakers of the sets whose intervals are looked at.
SETS = [(50, 10), (100, 20), (200, 40), (500, 100), (1000, 200), (2000, 400)]
SETS += [(50, 5), (100, 5), (200, 10), (500, 25), (1000, 50), (2000, 100), (2000, 20)]
SAMPLES = 500
WITHIN = 1.5
# Of the first system's errors this share is made by the second too; what it gains varies by speaker as much as it is.
KEPT = 0.7
CLIPS_A_SPEAKER = 10
GAINS = (0.005, 0.01, 0.02)
POWER = 0.8


@dataclass(frozen=True)
class Drawn:
    """A simulated test set.

    Attributes:
        speakers: Number of each utterance's speaker.
        errors: Its errors.
        words: Its reference words.
        chances: How likely each of its words was to be wrong.
    """

    speakers: NDArray[np.int64]
    errors: Floats
    words: Floats
    chances: Floats

    def units(self, by_speaker: bool, errors: Floats | None = None) -> Units:
        """Return what is drawn with replacement."""
        columns = (self.errors if errors is None else errors, self.words)
        return Units(*(np.bincount(self.speakers, column) for column in columns)) if by_speaker else Units(*columns)


def draw(generator: np.random.Generator, utterances: int, speakers: int) -> Drawn:
    """Draw a test set in which each speaker reads at least one utterance."""
    share = generator.gamma(1.5, 1, speakers)
    more = generator.choice(speakers, utterances - speakers, p=share / share.sum())
    who = np.concatenate([np.arange(speakers), more])
    effect = generator.normal(0, BY_SPEAKER, speakers)[who] + generator.normal(0, BY_UTTERANCE, utterances)
    chances = 1 / (1 + np.exp(-(math.log(MIDDLE / (1 - MIDDLE)) + effect)))
    words = 1 + generator.poisson(9, utterances)
    errors = generator.binomial(words, chances) + generator.poisson(INSERTED * words)
    return Drawn(who, errors.astype(np.float64), words.astype(np.float64), chances)


@cache
def truth() -> float:
    """Return the rate of infinitely many speakers, whose utterances are as long whatever they are like."""
    effect = np.random.default_rng(0).normal(0, math.hypot(BY_SPEAKER, BY_UTTERANCE), 4_000_000)
    return float((1 / (1 + np.exp(-(math.log(MIDDLE / (1 - MIDDLE)) + effect)))).mean()) + INSERTED


def coverage(utterances: int, speakers: int, repetitions: int) -> tuple[float, float, float, float]:
    """Return how often intervals hold the truth: by speaker, by speaker with plain percentiles, by utterance; and
    the first one's mean width.
    """
    generator, held, width = np.random.default_rng(utterances + speakers), np.zeros(3), 0.0
    for repetition in range(repetitions):
        found = draw(generator, utterances, speakers)
        own, single = found.units(True), found.units(False)
        rates = resampled_rates(own, SAMPLES, repetition)
        intervals = [
            percentile_interval(rates, expanded_level(own.effective())),
            percentile_interval(rates),
            percentile_interval(resampled_rates(single, SAMPLES, repetition), expanded_level(single.effective())),
        ]
        held += [low <= truth() <= high for low, high in intervals]
        width += intervals[0][1] - intervals[0][0]
    by_speaker, plain, by_utterance = held / repetitions
    return by_speaker, plain, by_utterance, width / repetitions


def second_system(generator: np.random.Generator, found: Drawn, gain: float) -> Floats:
    """Return the errors of a system that is better by ``gain`` on average."""
    speakers = int(found.speakers.max()) + 1
    gains = generator.normal(gain, gain, speakers)[found.speakers]
    kept = generator.binomial(found.errors.astype(int), KEPT)
    # What is not kept, less the gain, comes back at other words.
    fresh = np.clip((1 - KEPT) * truth() - gains, 0, 1)
    return (kept + generator.poisson(fresh * found.words)).astype(np.float64)


def power(utterances: int, gain: float, repetitions: int) -> float:
    """Return how often the paired interval by speaker leaves out zero on the right side."""
    generator, seen = np.random.default_rng(utterances), 0
    for repetition in range(repetitions):
        found = draw(generator, utterances, max(2, utterances // CLIPS_A_SPEAKER))
        change = found.units(True, second_system(generator, found, gain) - found.errors)
        rates = resampled_rates(change, SAMPLES, repetition)
        seen += percentile_interval(rates, expanded_level(change.effective()))[1] < 0
    return seen / repetitions


def needed(gain: float) -> int:
    """Return how many utterances show a gain four times out of five, from the spread of a large set."""
    generator = np.random.default_rng(7)
    found = draw(generator, 100_000, 100_000 // CLIPS_A_SPEAKER)
    change = found.units(True, second_system(generator, found, gain) - found.errors)
    variance = float(np.square(change.errors - change.rate() * change.lengths).sum()) / change.lengths.sum() ** 2
    number = ((1.96 + 0.8416) / gain) ** 2 * variance * 100_000
    digits = 10 ** max(1, int(math.log10(number)) - 1)
    return math.ceil(number / digits) * digits


def coverage_lines(sets: Sequence[tuple[int, int]], repetitions: int) -> Iterator[str]:
    """Yield the table of coverage as Markdown."""
    error = 100 * math.sqrt(0.05 * 0.95 / repetitions)
    yield f"{repetitions:,} repetitions a row: one standard error of a coverage of 95 % is {error:.1f} points.\n"
    yield "| utterances | speakers | by speaker | within 1.5 points | plain percentile | by utterance | mean width |"
    yield "|---|---|---|---|---|---|---|"
    for utterances, speakers in sets:
        by_speaker, plain, by_utterance, width = coverage(utterances, speakers, repetitions)
        verdict = "yes" if abs(100 * by_speaker - 95) <= WITHIN else "no"
        shares = [f"{100 * by_speaker:.1f} %", verdict, f"{100 * plain:.1f} %", f"{100 * by_utterance:.1f} %"]
        yield f"| {utterances:,} | {speakers} | {' | '.join(shares)} | {100 * width:.1f} points |"


def power_lines(repetitions: int) -> Iterator[str]:
    """Yield the table of power as Markdown."""
    yield f"\n| gain, of {100 * truth():.1f} % | utterances for {100 * POWER:.0f} % | seen there in |"
    yield "|---|---|---|"
    for gain in GAINS:
        number = needed(gain)
        yield f"| {100 * gain:g} points | {number:,} | {100 * power(number, gain, repetitions):.0f} % |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1500, help="sets a row (default: %(default)s)")
    parser.add_argument("--sets", nargs="*", metavar="UTTERANCESxSPEAKERS", help="sets (default: all of the table)")
    parser.add_argument("--power-repetitions", type=int, default=300, help="the same for power; 0 leaves it out")
    options = parser.parse_args()
    sets = [(int(one), int(two)) for one, _, two in (word.partition("x") for word in options.sets or ())]
    for line in coverage_lines(sets or SETS, options.repetitions):
        print(line, flush=True)
    for line in power_lines(options.power_repetitions) if options.power_repetitions else ():
        print(line, flush=True)


if __name__ == "__main__":
    main()
