"""How sure a WER is: bootstrap intervals by utterance or by speaker, and paired comparisons of two systems.

A rate of a set is a ratio of sums, (errors of all clips) / (reference words of all clips). So whole clips are drawn
with replacement, or whole speakers, since clips of one speaker share voice and microphone and are no independent
evidence; each draw's rate is again the ratio of its sums.

The interval is the expanded percentile interval: with n units the plain one is too narrow by about sqrt((n - 1) / n)
and takes no account of how badly so few show their own spread, so its quantiles are moved outwards as Student's are.
Speakers who read more count for more, so n is Kish's effective number, (sum of lengths)^2 / (sum of squared lengths).
How often it holds the truth is in docs/evidence.md.

Sources: percentile interval: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; expanded:
Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015), section 3.3; effective
number: Kish, Survey Sampling (1965). For speech: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR
performance evaluation", ICASSP 2004. By speaker: Liu and Peng, "Statistical testing on ASR performance via blockwise
bootstrap", arXiv:1912.09508. Paired randomisation test: Noreen, Computer-Intensive Methods for Testing Hypotheses
(1989).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hf_asr.errors import UserError
from hf_asr.evaluation.counts import ErrorCounts
from hf_asr.evaluation.student import student_quantile

Floats = NDArray[np.float64]
Rate = Literal["wer", "cer"]

SAMPLES = 1000
LEVEL = 0.95
METHOD = "expanded percentile"
# Fewer speakers cannot show a difference at 5 %: the smallest two-sided p of five is 2 / 2**5 = 0.0625.
MIN_SPEAKERS_FOR_TEST = 6
# Draws of one block; 4 million numbers are 32 MB.
_BLOCK = 4_000_000
# With one unit beside which the others hardly count Student's quantile is beyond everything that was drawn anyway.
_FEWEST = 1.5


@dataclass(frozen=True, slots=True)
class Units:
    """What is drawn with replacement: clips, or speakers with the sums of their clips.

    Attributes:
        errors: Errors of each unit, shape (units,).
        lengths: Reference tokens of each unit, shape (units,).
    """

    errors: Floats
    lengths: Floats

    def rate(self) -> float:
        """Return the rate of the set."""
        return float(self.errors.sum() / self.lengths.sum())

    def effective(self) -> float:
        """Return how many units of equal length would tell as much."""
        return float(self.lengths.sum() ** 2 / np.square(self.lengths).sum())


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """What changed from one system to another on the same clips.

    Attributes:
        difference: Rate of the second minus rate of the first: negative where errors became fewer.
        low: Lower end of the interval of the difference.
        high: Upper end.
        p_value: Two-sided, of the paired randomisation test: how often a difference this large comes from chance.
        by: What was drawn, ``utterance`` or ``speaker``.
        level: Level of the interval.
    """

    difference: float
    low: float
    high: float
    p_value: float
    by: str
    level: float = LEVEL

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero and the test rejects chance, both at the same level."""
        return (self.low > 0 or self.high < 0) and self.p_value <= 1 - self.level


def speakers_for_test(speakers: Sequence[str] | None) -> Sequence[str] | None:
    """Return the speakers where they are known and enough for a test to reach 5 %, else None: draw clips."""
    return speakers if known_speakers(speakers) >= MIN_SPEAKERS_FOR_TEST else None


def known_speakers(speakers: Sequence[str] | None) -> int:
    """Return how many different speakers there are; 0 when a clip's speaker is unknown."""
    return len(set(speakers)) if speakers and all(speakers) else 0


def sampling_units(counts: ErrorCounts, speakers: Sequence[str] | None = None, rate: Rate = "wer") -> Units:
    """Return the units of a set: its clips, or its speakers where ``speakers`` is given.

    Raises:
        UserError: There is not one speaker for each clip, or not a single reference word, so that no rate exists.
    """
    columns = {"wer": counts.words, "cer": counts.characters}[rate]
    errors, lengths = columns.errors.astype(np.float64), columns.reference_length.astype(np.float64)
    if not lengths.any():
        raise UserError(f"an interval expects references with words, found {len(counts)} empty ones; add others")
    if speakers is None:
        return Units(errors, lengths)
    if len(speakers) != len(counts):
        raise UserError(f"expected a speaker for each of {len(counts)} clips, found {len(speakers)}")
    _, group = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    return Units(*(np.bincount(group, column).astype(np.float64) for column in (errors, lengths)))


def resampled_rates(units: Units, samples: int = SAMPLES, seed: int = 42) -> Floats:
    """Return the rate of each bootstrap sample, shape (samples,); nan for a sample without a reference token.

    Units of equal errors and length cannot be told apart in a sum. So not each unit is drawn, but how many of each
    sort: 100,000 utterances are some hundred sorts, and the samples have the same distribution.
    """
    sorts, sizes = np.unique(units.errors + 1j * units.lengths, return_counts=True)
    generator, sums = np.random.default_rng(seed), []
    for rows in _blocks(samples, len(sorts)):
        drawn = generator.multinomial(len(units.errors), sizes / sizes.sum(), size=rows)
        sums.append((drawn @ sorts.real, drawn @ sorts.imag))
    errors, lengths = (np.concatenate(column) for column in zip(*sums, strict=True))
    return _ratios(errors, lengths)


def percentile_interval(rates: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Return the central ``level`` of bootstrap rates; samples without a reference token are left out."""
    defined = rates[~np.isnan(rates)]
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def expanded_level(effective: float, level: float = LEVEL) -> float:
    """Return the level whose percentile interval is taken for ``level`` with so many units."""
    units = max(effective, _FEWEST)
    reach = math.sqrt(units / (units - 1)) * student_quantile((1 + level) / 2, units - 1)
    return 2 * NormalDist().cdf(reach) - 1


def interval_of(
    units: Units, samples: int = SAMPLES, seed: int = 42, level: float = LEVEL, effective: float | None = None
) -> tuple[float, float]:
    """Return the expanded percentile interval of the units' rate.

    Args:
        units: What is drawn.
        samples: Bootstrap samples.
        seed: Equal seeds give equal intervals.
        level: Share of repetitions that it should hold the truth in.
        effective: Number of units where it is not their own effective number.
    """
    expanded = expanded_level(units.effective() if effective is None else effective, level)
    return percentile_interval(resampled_rates(units, samples, seed), expanded)


def bootstrap_interval(
    counts: ErrorCounts,
    *,
    speakers: Sequence[str] | None = None,
    samples: int = SAMPLES,
    seed: int = 42,
    level: float = LEVEL,
    rate: Rate = "wer",
) -> tuple[float, float]:
    """Return the bootstrap interval of a rate, an expanded percentile interval.

    A single clip, or a single speaker, shows no spread: the interval is then that point itself and says nothing. With
    fewer than about ten speakers it is too narrow still (two speakers give three different samples).

    Args:
        counts: Error counts of the set.
        speakers: Speaker of each clip, to draw speakers; None draws clips.
        samples: Bootstrap samples.
        seed: Equal seeds give equal intervals.
        level: Share of the samples inside.
        rate: ``wer`` or ``cer``.

    Raises:
        UserError: There is not one speaker for each clip.
    """
    return interval_of(sampling_units(counts, speakers, rate), samples, seed, level)


def paired_difference_interval(
    before: ErrorCounts,
    after: ErrorCounts,
    *,
    speakers: Sequence[str] | None = None,
    samples: int = SAMPLES,
    seed: int = 42,
    level: float = LEVEL,
    rate: Rate = "wer",
) -> PairedDifference:
    """Compare two systems on the same clips, drawing the same clips (or speakers) for both.

    Args:
        before: Counts of the first system.
        after: Counts of the second, on the same clips in the same order.
        speakers: Speaker of each clip, to draw speakers; None draws clips.
        samples: Bootstrap samples, and random sign patterns of the test.
        seed: Equal seeds give equal numbers.
        level: Level of the interval.
        rate: ``wer`` or ``cer``.

    Raises:
        UserError: The clips, or their normalised references, are not the same ones.
    """
    if before.ids != after.ids or before.reference_normalized != after.reference_normalized:
        raise UserError(
            "a paired comparison expects the same clips with the same references in the same order, found others "
            f"({len(before)} and {len(after)} clips); score both systems on one split with one normalizer"
        )
    first, second = sampling_units(before, speakers, rate), sampling_units(after, speakers, rate)
    change = Units(second.errors - first.errors, first.lengths)
    low, high = interval_of(change, samples, seed, level)
    by = "utterance" if speakers is None else "speaker"
    return PairedDifference(change.rate(), low, high, randomization_test(change.errors, samples, seed), by, level)


def randomization_test(differences: Floats, samples: int = SAMPLES, seed: int = 42) -> float:
    """Return the two-sided p-value of paired differences: were the two systems' results exchanged at random?

    All 2**n exchanges are gone through where they are no more than ``samples``, otherwise ``samples`` random ones, the
    observed one counted among them. The references are the same on both sides, so summed errors decide.
    """
    observed = abs(differences.sum())
    moving = differences[differences != 0]
    if 2 ** min(len(moving), 60) <= samples:
        patterns = (np.arange(2 ** len(moving))[:, None] >> np.arange(len(moving))) & 1
        return float(np.mean(np.abs((1 - 2 * patterns) @ moving) >= observed))
    generator = np.random.default_rng(seed)
    extreme = 1
    for rows in _blocks(samples, len(moving)):
        signs = np.where(generator.random((rows, len(moving))) < 0.5, -1.0, 1.0)
        extreme += int((np.abs(signs @ moving) >= observed).sum())
    return extreme / (samples + 1)


def summarize(counts: ErrorCounts, speakers: Sequence[str] | None = None, seed: int = 42) -> dict[str, Any]:
    """Return the rates, counts and intervals of a set, under the names that test_results.json and ``--json`` use.

    ``wer_interval`` is drawn by speaker where every clip's speaker is known and there are at least two, else by
    utterance; ``wer_interval_by`` says which. Both stand under their own names where both exist.
    """
    rates = {"wer": counts.wer(), "cer": counts.cer(), "mer": counts.mer(), "wil": counts.wil(), "ser": counts.ser()}
    named = {"normalizer": counts.normalizer}
    drawn = {"interval_method": METHOD, "interval_level": LEVEL, "interval_samples": SAMPLES}
    by_speaker = speakers if known_speakers(speakers) >= 2 else None
    intervals: dict[str, Any] = {
        "wer_interval": list(bootstrap_interval(counts, speakers=by_speaker, seed=seed)),
        "wer_interval_by": "utterance" if by_speaker is None else "speaker",
        "cer_interval": list(bootstrap_interval(counts, speakers=by_speaker, seed=seed, rate="cer")),
    }
    if by_speaker is not None:
        intervals["wer_interval_by_speaker"] = intervals["wer_interval"]
        intervals["wer_interval_by_utterance"] = list(bootstrap_interval(counts, seed=seed))
    return rates | counts.totals() | named | intervals | drawn


def _blocks(samples: int, units: int) -> Iterator[int]:
    """Yield how many samples fit into each block."""
    rows = max(1, _BLOCK // max(1, units))
    for start in range(0, samples, rows):
        yield min(rows, samples - start)


def _ratios(errors: Floats, lengths: Floats) -> Floats:
    return np.divide(errors, lengths, out=np.full_like(errors, np.nan), where=lengths > 0)
