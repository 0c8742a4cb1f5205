"""``hf-asr evaluate --long-form``: whole recordings, decoded and scored as such."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from hf_asr.cli.loading import make_folder, on_this_device
from hf_asr.config.arguments import Arguments
from hf_asr.data.recordings import Recording, check_long, recordings_of
from hf_asr.errors import UserError
from hf_asr.utterance import Drops, Utterance

if TYPE_CHECKING:
    import torch

    from hf_asr.inference.formats import Segment
    from hf_asr.inference.long_form import Decoder, Written

SEGMENTS = "test_segments.jsonl"


def run_long_form(arguments: Arguments, options: argparse.Namespace) -> int:
    """Decode recordings, score them, write test_results.json and test_segments.jsonl, print; return 0.

    Raises:
        UserError: There is nothing long, or the model cannot be decoded so.
    """
    recordings, drops = read_recordings(arguments, options.split)
    check_long(recordings, "--long-form")
    make_folder(options.output_dir)
    state = on_this_device(arguments)
    results = score_recordings(arguments, recordings, drops, options, state.device)
    if state.is_main_process:
        print(*lines(results, options), sep="\n")
    return 0


def read_recordings(arguments: Arguments, split: str) -> tuple[list[Recording], Drops]:
    """Read a split's rows, none left out for its length, and join them to recordings; ``data.limit`` counts these.

    Raises:
        UserError: The split is carved from train clip by clip, so that recordings are not whole.
    """
    from hf_asr.data.corpora import build_splits
    from hf_asr.data.held_out import held_out_of

    held_out = held_out_of(arguments.data.splits)
    if held_out.share(split) > 0 or (split == "train" and held_out.divides):
        raise UserError(
            f"data.splits.held_out: expected a {split} split with whole recordings, found one that is carved from "
            f"train by {held_out.by}. Name the recordings of {split} in data.splits.{split}."
        )
    data = replace(arguments.data, min_seconds=0.0, max_seconds=float("inf"), limit={}, streaming=False)
    found = build_splits(data, seed=arguments.experiment.seed, names=(split,))[split]
    rows = (Utterance.from_row(row) for row in found.rows)
    recordings = recordings_of(rows, found.drops, data.language)
    return recordings[: arguments.data.limit.get(split)], found.drops


def score_recordings(
    arguments: Arguments,
    recordings: Sequence[Recording],
    drops: Drops,
    options: argparse.Namespace,
    device: torch.device,
) -> dict[str, Any]:
    """Decode and score recordings; return what test_results.json holds, on every process."""
    from hf_asr.inference.generate import on_main, resolve_conditions
    from hf_asr.inference.long_form import make_decoder, write_down
    from hf_asr.models import get_family

    family = get_family(arguments.model)
    processor = family.load_processor(arguments, None)
    model: Any = family.load_model(arguments, processor)
    model.to(device)
    conditions = resolve_conditions(family, arguments, device, model.dtype)
    decoder = make_decoder(family, model, processor, arguments, conditions)
    family.check_decoding(model, decoder.options)
    written = write_down(decoder, model, recordings, conditions.dtype)
    if not written.segments:
        raise UserError(
            "--long-form: expected recordings that can be decoded, found none: " + "; ".join(drops.lines(3))
        )
    drops.merge(written.drops)
    about = {**conditions.as_dict(), "generation": dict(decoder.options)}
    return on_main(write_scores, arguments, recordings, written, decoder, drops, about, options)


def write_scores(
    arguments: Arguments,
    recordings: Sequence[Recording],
    written: Written,
    decoder: Decoder,
    drops: Drops,
    conditions: Mapping[str, Any],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Score on the main process and write the files."""
    from hf_asr.evaluation.report import replace_file, write_results
    from hf_asr.inference.cutting import join
    from hf_asr.utterance import Hypothesis

    language, evaluation = arguments.data.language, arguments.evaluation
    rows: dict[str, Sequence[Any]] = {
        "id": [item.id for item in recordings],
        "text": [item.text for item in recordings],
        "duration": [item.duration for item in recordings],
        "speaker": [item.speaker for item in recordings],
    }
    texts = {id: join(parts, language or "") for id, parts in written.segments.items()}
    replace_file(options.output_dir / SEGMENTS, "".join(segment_lines(written.segments)))
    return write_results(
        options.output_dir,
        rows=rows,
        hypotheses=[Hypothesis(id, text) for id, text in texts.items()],
        skipped=drops,
        conditions=conditions,
        wall_seconds=written.wall_seconds,
        normalizer=evaluation.normalizer,
        metrics=evaluation.metrics,
        split=options.split,
        seed=arguments.experiment.seed,
        save_predictions=options.save_predictions,
        about={"model": arguments.model.name_or_path, "long_form": facts(arguments, recordings, written, decoder)},
    )


def facts(arguments: Arguments, recordings: Sequence[Recording], written: Written, decoder: Decoder) -> dict[str, Any]:
    """Return what stands under ``long_form`` in test_results.json."""
    from hf_asr.evaluation.long_form import timestamp_errors

    why = decoder.no_times
    if not why and not any(item.stretches for item in recordings):
        why = "the corpus does not tell where its segments begin and end"
    evaluation = arguments.evaluation
    times = None if why else timestamp_errors(
        recordings, written.segments, normalizer=evaluation.normalizer, language=arguments.data.language
    )  # fmt: skip
    return {
        "method": decoder.method,
        "num_recordings": len(written.segments),
        "longest_seconds": max(item.duration for item in recordings),
        "uncovered_seconds": sum(item.uncovered() for item in recordings),
        "prompt": evaluation.prompt,
        "condition_on_previous_text": evaluation.condition_on_previous_text,
        "timestamps": times,
        "no_timestamps": why,
    }


def segment_lines(segments: Mapping[str, Sequence[Segment]]) -> Iterator[str]:
    """Yield a line of JSON for each recording: its id and what was written, with times."""
    for id, parts in segments.items():
        yield json.dumps({"id": id, "segments": [asdict(part) for part in parts]}, ensure_ascii=False) + "\n"


def lines(results: Mapping[str, Any], options: argparse.Namespace) -> Iterator[str]:
    """Yield what the screen shows."""
    known = results["long_form"]
    low, high = (100 * end for end in results["wer_interval"])
    yield (
        f"WER {100 * results['wer']:.2f} % (95 % interval by {results['wer_interval_by']} {low:.2f} to {high:.2f} %), "
        f"CER {100 * results['cer']:.2f} %, normalizer {results['normalizer']}"
    )
    yield (
        f"{known['num_recordings']:,} recordings of {options.split}, the longest of {known['longest_seconds']:.1f} s, "
        f"{known['method']}; {results['num_words']:,} words: {results['substitutions']:,} substitutions, "
        f"{results['deletions']:,} deletions, {results['insertions']:,} insertions"
    )
    if known["uncovered_seconds"] and results["seconds_of_audio"]:
        share = 100 * known["uncovered_seconds"] / results["seconds_of_audio"]
        yield f"{known['uncovered_seconds']:,.1f} s ({share:.1f} %) have no text: words written there are insertions"
    yield from _times(known)
    if results["rtfx"]:
        yield f"RTFx {results['rtfx']:.1f}"
    yield str(options.output_dir / "test_results.json")


def _times(known: Mapping[str, Any]) -> Iterator[str]:
    if known["timestamps"] is None:
        yield f"timestamps: not compared: {known['no_timestamps']}"
        return
    for side, found in known["timestamps"].items():
        compared = f"{found['num_compared']:,} of {found['num_known']:,} segment {side}s compared"
        if not found["num_compared"]:
            yield f"timestamps: {compared}"
            continue
        within = ", ".join(f"{100 * share:.1f} % within {limit} s" for limit, share in found["share_within"].items())
        yield (
            f"timestamps: {compared}: median {found['median']:+.2f} s, absolute {found['median_absolute']:.2f} s, "
            f"90 % below {found['p90_absolute']:.2f} s; {within}"
        )
