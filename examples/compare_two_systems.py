"""Are two systems really different? Word error rates with intervals, and the paired difference on the same sentences.

python examples/compare_two_systems.py
"""

from __future__ import annotations

from hf_asr.evaluation.counts import count_errors
from hf_asr.evaluation.intervals import bootstrap_interval, paired_difference_interval

REFERENCES = ["the cat sat on the mat", "it rained all day", "she sells sea shells", "no one knows why"] * 25
BEFORE = ["the cat sad on a mat", "it rained all day", "she sell sea shell", "no one nose why"] * 25
AFTER = ["the cat sat on the mat", "it rained all day", "she sells sea shell", "no one nose why"] * 25


def main() -> None:
    """Score both, then compare them clip by clip."""
    counts = {name: count_errors(REFERENCES, texts) for name, texts in (("before", BEFORE), ("after", AFTER))}
    for name, counted in counts.items():
        low, high = bootstrap_interval(counted)
        print(f"{name}: WER {counted.wer():.3f}, 95 % interval {low:.3f} to {high:.3f}, {counted.normalizer}")
    paired = paired_difference_interval(counts["before"], counts["after"])
    verdict = "significant" if paired.significant else "may be chance"
    interval = f"[{paired.low:+.3f}, {paired.high:+.3f}]"
    print(f"difference {paired.difference:+.3f} {interval}, p = {paired.p_value:.3g}: {verdict}")


if __name__ == "__main__":
    main()
