"""Is the WER the same when less of Whisper's window is computed, or clips are packed? Two gates.

Gate a rules what an unadapted model is given. Every setting of a thinned window stands beside the full one on the same
clips: NLL per label token, teacher-forced, and WER, with 95 % bootstrap intervals over speakers, and beside the floor,
the full window with the audio 20 ms later. A setting is chosen on one half of the speakers (of those that pass the one
with the fewest positions) and confirmed on the other. What is measured is kept in the output folder, clip by clip: a
run that was stopped, or that asks for more settings, goes on from there.

    python benchmarks/gates.py a --output gates [--strides 5,10,20] [--runs 1,10] [--keeps 0.5] [--limit 60]
    python benchmarks/gates.py a --output gates --config my.yaml [key=value ...]

Gate b rules training. Finished runs of a variant against finished runs of the full window, paired by seed on the same
test clips, decoded by the stock 30-second model; errors of all seeds are pooled and speakers drawn.

    python benchmarks/gates.py b --full runs/full-1 runs/full-2 --other thinned=runs/thin-1,runs/thin-2

Beside either gate's WER stands what is left of the difference where a clip is at most all wrong: one loop of a hundred
words may be all there is. It decides nothing.

Exit 0 passed, 1 not passed, 2 the user asked for something impossible.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_asr.errors import UserError
from hf_asr.evaluation.counts import count_errors
from hf_asr.evaluation.ladder import RunScores, difference_of, read_scores
from hf_asr.evaluation.report import read_results
from hf_asr.evaluation.spread import drawn_sums
from hf_asr.files import write_whole

# Upper 95 % bounds that a gate allows: NLL per label token, and WER as a fraction.
MOST_NLL, MOST_WER = 0.02, 0.01
# Fewer clips or seeds say too little.
ENOUGH_CLIPS, ENOUGH_SEEDS = 500, 3
SAMPLES = 2000
LIMITED = "a clip at most all wrong"
HEADER = f"{'condition':<11}{'part':<12}{'half':<9}{'setting':<19}{'clips':>6}{'spk':>5}{'states':>8}"
HEADER_B = f"{'variant':<20}{'seeds':>6}{'clips':>7}{'spk':>5}{'WER full':>10}   {'pooled, points':<26}"
HEADER_B += f"{LIMITED:<26}{'with the spread of seeds':<26}passes"

Records = Mapping[str, Mapping[str, Any]]


def interval(numerators: np.ndarray, denominators: np.ndarray, speakers: Sequence[str]) -> dict[str, float]:
    """Return a ratio of sums with its 95 % percentile interval, whole speakers drawn.

    Args:
        numerators: Of each clip, (N,): differences between two settings.
        denominators: Of each clip, (N,): tokens or words.
        speakers: Of each clip.
    """
    _, unit = np.unique(np.asarray(speakers), return_inverse=True)
    columns = np.stack([np.bincount(unit, column) for column in (numerators, denominators)], axis=1)
    sums = drawn_sums(columns, SAMPLES)
    rates = sums[:, 0] / np.maximum(sums[:, 1], 1e-9)
    low, high = np.quantile(rates, [0.025, 0.975])
    return {"difference": float(numerators.sum() / denominators.sum()), "low": float(low), "high": float(high)}


def compared(clips: Sequence[Any], full: Records, other: Records, normalizer: str) -> dict[str, Any] | None:
    """Compare a setting with the full window on some clips; None where fewer than two can be used."""
    used = [clip for clip in clips if not {"error"} & (full[clip.id].keys() | other[clip.id].keys())]
    if len(used) < 2:
        return None
    pairs = [(full[clip.id], other[clip.id]) for clip in used]
    speakers, references = [clip.speaker for clip in used], [clip.text for clip in used]
    errors, words = [], np.ones(1)
    for side in (0, 1):
        counts = count_errors(references, [str(pair[side]["hypothesis"]) for pair in pairs], normalizer=normalizer)
        errors.append(counts.words.errors.astype(np.float64))
        words = counts.words.reference_length.astype(np.float64)
    nll = np.array([after["nll"] - before["nll"] for before, after in pairs])
    without_loops = capped(errors[1], words) - capped(errors[0], words)
    tokens = np.array([before["tokens"] for before, _ in pairs], dtype=np.float64)
    return {
        "clips": len(used),
        "speakers": len(set(speakers)),
        "states": float(np.mean([after["positions"] for _, after in pairs])),
        "nll_full": float(sum(before["nll"] for before, _ in pairs) / tokens.sum()),
        "wer_full": float(errors[0].sum() / words.sum()),
        "nll": interval(nll, tokens, speakers),
        "wer": interval(errors[1] - errors[0], words, speakers),
        "wer_without_loops": interval(without_loops, words, speakers),
        "same_text": float(np.mean([before["hypothesis"] == after["hypothesis"] for before, after in pairs])),
    }


def passes(row: Mapping[str, Any]) -> bool:
    """Tell whether both upper bounds are within what gate a allows."""
    return bool(row["nll"]["high"] <= MOST_NLL and row["wer"]["high"] <= MOST_WER)


def verdict_a(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Choose a setting on one half of the speakers and see whether it passes on the other.

    A setting passes a half when it does so in every condition's part ``all``; of those the one with the fewest states
    is chosen.
    """
    whole = [row for row in rows if row["part"] == "all"]
    passing = {
        half: {
            name: all(row["passes"] for row in whole if (row["half"], row["setting"]) == (half, name))
            for name in {str(row["setting"]) for row in whole}
        }
        for half in ("choose", "confirm")
    }
    states = {str(row["setting"]): float(row["states"]) for row in whole if row["half"] == "both"}
    able = [name for name, passed in passing["choose"].items() if passed and name.startswith("thinned")]
    chosen = min(able, key=lambda name: states[name]) if able else None
    clips = min((row["clips"] for row in whole if row["half"] == "both"), default=0)
    return {
        "chosen": chosen,
        "confirmed": chosen is not None and passing["confirm"][chosen],
        "floor_passes": {half: passed.get("floor", False) for half, passed in passing.items()},
        "enough_clips": clips >= ENOUGH_CLIPS,
        "bounds": {"nll": MOST_NLL, "wer": MOST_WER},
    }


def table_a(
    clips: Sequence[Any], condition: str, runs: Mapping[str, Records], normalizer: str
) -> Iterator[dict[str, Any]]:
    """Yield a row for each part, half and setting of a condition."""
    from gate_clips import halves, strata

    half_of = halves(clip.speaker for clip in clips)
    for part, ids in strata(clips, condition).items():
        for half in ("choose", "confirm", "both"):
            chosen = [clip for clip in clips if clip.id in ids and half in (half_of[clip.speaker], "both")]
            for name in [name for name in runs if name != "full"]:
                row = compared(chosen, runs["full"], runs[name], normalizer) if chosen else None
                if row is not None:
                    yield {
                        "condition": condition,
                        "part": part,
                        "half": half,
                        "setting": name,
                        **row,
                        "passes": passes(row),
                    }


def gate_a(options: argparse.Namespace) -> int:
    """Measure what is not measured yet, compare, choose and confirm."""
    import gate_clips
    import gate_runs

    arguments = gate_clips.configuration(options.config, options.overrides)
    generation = {"no_repeat_ngram_size": options.no_repeat_ngram_size, "max_new_tokens": options.max_new_tokens}
    made_with = {"model": arguments.model.name_or_path, "data": arguments.data.path or arguments.data.sources}
    split = options.split or ("test" if options.config else "train")
    made_with |= {"split": split, "limit": options.limit, "noise_db": options.noise_db, "generation": generation}
    gate_runs.check_same_run(options.output, made_with)
    clips = gate_clips.read_clips(arguments, split, options.limit)
    rig = gate_runs.Rig.of(arguments, generation, options.batch_size, options.device)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, dict[str, str]] = {}
    for condition in options.conditions:
        folder = options.output / condition
        folder.mkdir(exist_ok=True)
        own = gate_clips.of_condition(clips, condition, options.noise_db)
        wanted = gate_runs.settings(options.keeps, options.strides, options.runs)
        runs = {setting.name: gate_runs.measured(folder, rig, own, setting) for setting in wanted}
        left_out[condition] = {
            id: got["error"] for got_of in runs.values() for id, got in got_of.items() if "error" in got
        }
        rows += table_a(own, condition, runs, arguments.evaluation.normalizer)
    verdict = verdict_a(rows) | {"left_out": left_out}
    write_whole(options.output / "gate_a.json", json.dumps({**made_with, **verdict, "rows": rows}, indent=1) + "\n")
    print_a(rows, verdict)
    return 0 if verdict["confirmed"] else 1


def print_a(rows: Sequence[Mapping[str, Any]], verdict: Mapping[str, Any]) -> None:
    """Print the table of gate a and what follows from it; WER in points."""
    print(HEADER + f"   {'NLL difference':<28}{'WER difference, points':<26}{LIMITED:<26}{'same':>5}  passes")
    for row in rows:
        names = f"{row['condition']:<11}{row['part']:<12}{row['half']:<9}{row['setting']:<19}"
        numbers = f"{row['clips']:>6}{row['speakers']:>5}{row['states']:>8.0f}"
        wer = "".join(f"{_shown(row[kind], 100, 1):<26}" for kind in ("wer", "wer_without_loops"))
        nll = _shown(row["nll"], 1, 3)
        print(f"{names}{numbers}   {nll:<28}{wer}{row['same_text']:>5.0%}  {'yes' if row['passes'] else 'no'}")
    if verdict["chosen"] is None:
        print("no setting passes on the half that chooses: keep the full window")
    else:
        print(
            f"chosen: {verdict['chosen']}; on the other half it {'passes' if verdict['confirmed'] else 'DOES NOT PASS'}"
        )
    for condition, errors in verdict["left_out"].items():
        if errors:
            print(f"{condition}: {len(errors)} clips left out, such as {next(iter(errors.items()))}")
    for half, passed in verdict["floor_passes"].items():
        if not passed:
            print(f"the floor itself fails a bound on the half {half}: take more speakers")
    if not verdict["enough_clips"]:
        print(f"fewer than {ENOUGH_CLIPS} clips in a condition: this says too little")


def _shown(found: Mapping[str, float], factor: float, digits: int) -> str:
    value, low, high = (factor * found[name] for name in ("difference", "low", "high"))
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def read_runs(folders: Sequence[str], scored: str) -> dict[int, RunScores]:
    """Return seed to scores of finished runs, from the folder ``scored`` in each.

    Raises:
        UserError: One is not finished, was not decoded by the full window, or two have one seed.
    """
    from hf_asr.config.parser import load_arguments

    scores: dict[int, RunScores] = {}
    for folder in folders:
        test = Path(folder) / scored
        window = read_results(test).get("window")
        if window != "full":
            raise UserError(f"{folder}: expected a test decoded by the full window, found {window}. Evaluate it so.")
        seed = load_arguments([Path(folder) / "config.yaml"]).experiment.seed
        if seed in scores:
            raise UserError(f"{folder}: expected another seed than the other runs', found {seed} again.")
        scores[seed] = read_scores(test, "wer")
    return scores


def compare_runs(name: str, full: Mapping[int, RunScores], other: Mapping[int, RunScores]) -> dict[str, Any]:
    """Compare a variant with the full window, seed by seed.

    Raises:
        UserError: They have other seeds, clips or references, or clips have no speaker.
    """
    if full.keys() != other.keys():
        raise UserError(f"--other {name}: expected runs of the seeds {sorted(full)}, found {sorted(other)}.")
    seeds = sorted(full)
    before, after = [full[seed] for seed in seeds], [other[seed] for seed in seeds]
    if not all(run.same_clips(before[0]) for run in [*before, *after]):
        raise UserError(f"--other {name}: expected the same test clips and references in all runs, found others.")
    if not all(before[0].speakers):
        raise UserError("--full: expected speakers in test_predictions.csv, since speakers are drawn, found none.")
    change = np.sum([two.numerators - one.numerators for one, two in zip(before, after, strict=True)], axis=0)
    pooled = interval(change, len(seeds) * before[0].denominators, before[0].speakers)
    limited = [[capped(run.numerators, run.denominators) for run in side] for side in (before, after)]
    without_loops = np.sum(limited[1], axis=0) - np.sum(limited[0], axis=0)
    seeds_too = difference_of(before, after)
    clips = len(before[0].ids)
    return {
        "variant": name,
        "seeds": seeds,
        "clips": clips,
        "speakers": len(set(before[0].speakers)),
        "wer_full": float(np.mean([run.value for run in before])),
        "wer": pooled,
        "wer_without_loops": interval(without_loops, len(seeds) * before[0].denominators, before[0].speakers),
        "with_spread_of_seeds": {"difference": seeds_too.value, "low": seeds_too.low, "high": seeds_too.high},
        "enough": clips >= ENOUGH_CLIPS and len(seeds) >= ENOUGH_SEEDS,
        "passes": bool(pooled["high"] <= MOST_WER),
    }


def capped(errors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return the errors of each clip, at most its words, (N,): a loop of a hundred words is one clip that is wrong."""
    return np.minimum(errors, words)


def gate_b(options: argparse.Namespace) -> int:
    """Compare finished runs."""
    full = read_runs(options.full, options.test)
    rows = []
    for given in options.other:
        name, found, folders = given.partition("=")
        if not found:
            raise UserError(f"--other: expected NAME=RUN,RUN ..., found {given}.")
        rows.append(compare_runs(name, full, read_runs(folders.split(","), options.test)))
    print(HEADER_B)
    for row in rows:
        counts = f"{len(row['seeds']):>6}{row['clips']:>7}{row['speakers']:>5}{row['wer_full']:>10.4f}"
        kinds = ("wer", "wer_without_loops", "with_spread_of_seeds")
        shown = "".join(f"{_shown(row[kind], 100, 2):<26}" for kind in kinds)
        few = "" if row["enough"] else f" (fewer than {ENOUGH_SEEDS} seeds or {ENOUGH_CLIPS} clips: says too little)"
        print(f"{row['variant']:<20}{counts}   {shown}{'yes' if row['passes'] else 'no'}{few}")
    if options.output:
        write_whole(options.output, json.dumps({"bound": MOST_WER, "rows": rows}, indent=1) + "\n")
    return 0 if all(row["passes"] for row in rows) else 1


def numbers(kind: type) -> Any:
    """Return a reader of numbers between commas."""
    return lambda text: [kind(part) for part in text.split(",")]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    from gate_clips import CONDITIONS

    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gates = top.add_subparsers(dest="gate", required=True)
    a = gates.add_parser("a", help="an unadapted model under thinned windows")
    a.add_argument("--output", type=Path, required=True, help="folder of what is measured")
    a.add_argument("--config", nargs="+", default=[], help="YAMLs of a model and a corpus; by default the shared ones")
    a.add_argument("overrides", nargs="*", metavar="key=value", help="over the YAMLs")
    a.add_argument("--split", choices=("train", "validation", "test"), help="by default test, train without --config")
    a.add_argument("--strides", type=numbers(int), default=[5, 10, 20])
    a.add_argument("--runs", type=numbers(int), default=[10], help="neighbours kept together")
    a.add_argument("--keeps", type=numbers(float), default=[0.5], help="seconds of silence kept whole")
    a.add_argument("--conditions", type=lambda text: text.split(","), default=list(CONDITIONS))
    a.add_argument("--noise-db", type=float, default=10.0, help="level of noisy clips above their noise")
    a.add_argument("--no-repeat-ngram-size", type=int, default=3, help="so that loops don't drown the WER")
    a.add_argument("--max-new-tokens", type=int, default=100)
    a.add_argument("--limit", type=int, help="only so many clips, speakers in turn")
    a.add_argument("--batch-size", type=int, default=8)
    a.add_argument("--device", default="cpu")
    a.set_defaults(run=gate_a)
    b = gates.add_parser("b", help="finished runs against finished runs of the full window")
    b.add_argument("--full", nargs="+", required=True, metavar="RUN", help="run folders, one a seed")
    b.add_argument("--other", action="append", required=True, metavar="NAME=RUN,RUN", help="a variant's run folders")
    b.add_argument("--test", default="test", metavar="NAME", help="folder of a run that has the scores (default: test)")
    b.add_argument("--output", type=Path, help="write the rows as JSON")
    b.set_defaults(run=gate_b)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a gate; return the exit code."""
    options = parser().parse_args(argv)
    try:
        return int(options.run(options))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
