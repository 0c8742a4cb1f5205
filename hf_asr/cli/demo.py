"""Train, test and transcribe with a small model: the main job end to end, offline, on a CPU, in a few minutes.

espeak-ng speaks a corpus in two languages. A small Whisper learns it from clean voices; then it is fine-tuned on other
voices, paces and noise, is scored before and after on voices that neither training heard, and writes one clip down.
The folder it leaves is a run folder like any other; the base model's own run is the folder `base` in it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_asr.errors import UserError

if TYPE_CHECKING:
    from hf_asr.config.arguments import Arguments

EXAMPLE = "hf-asr demo --output-dir runs/demo"

# What the demo promises: worse than that, something is wrong with this machine's installation.
MOST_WER = 0.08
MOST_OF_BASELINE = 1 / 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument(
        "--output-dir", type=Path, default=Path("runs/demo"), metavar="DIR", help="the run folder (%(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the demo; return 0, or 1 when the result is worse than it must be."""
    started = time.perf_counter()
    folder: Path = options.output_dir.absolute()
    check_new(folder)
    base, tuned = configurations(folder)
    # Threads that wait for each other by spinning need a core each. Beside other programs a training step of this size
    # took 1.0 s on 2 cores, and 0.14 s with threads that sleep. Read once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from transformers.utils.logging import disable_progress_bar

    from hf_asr.cli.demo_model import write_small_whisper
    from hf_asr.data.synthetic import LANGUAGES, sentences

    disable_progress_bar()  # of files that are written in milliseconds

    say("1 of 3: a small Whisper with random weights learns to write down clean voices")
    texts = [text for language in LANGUAGES for text in sentences(language, "train")]
    write_small_whisper(Path(base.model.name_or_path), texts, base.experiment.seed)
    on_clean = train(base)
    say(f"its word error rate on clean voices it never heard: {on_clean['wer']:.1%}")

    say("2 of 3: it is fine-tuned on other voices, paces and noise, and scored before and after")
    results = train(tuned)

    say("3 of 3: it writes down one of the test clips")
    transcribe_one(tuned)
    say(f"done after {time.perf_counter() - started:.0f} s; everything is in {folder}")
    return verdict(folder, results)


def train(arguments: Arguments) -> dict[str, Any]:
    """Do what recipes/finetune_seq2seq.py does, call for call; return the test's results."""
    from hf_asr.cli.summary import summarize_run
    from hf_asr.data.corpora import build_splits
    from hf_asr.evaluation.also import score_after, score_before
    from hf_asr.inference.generate import resolve_conditions
    from hf_asr.models import get_family, load_best
    from hf_asr.training.adapters import make_trainable
    from hf_asr.training.arguments import training_arguments
    from hf_asr.training.bank import prepare_with_bank
    from hf_asr.training.run import begin_process, begin_run, save_best
    from hf_asr.training.trainer import build_trainer

    begin_process()
    training = training_arguments(arguments)
    seed = arguments.experiment.seed

    # ---- Model ----
    family = get_family(arguments.model, recipe="finetune_seq2seq")
    processor = family.load_processor(arguments, None)
    model: Any = family.load_model(arguments, processor)

    # ---- Data ----
    splits = build_splits(arguments.data, seed=seed)
    encoder = family.make_encoder(processor, model.config, arguments)
    run_dir = begin_run(arguments, training)
    prepared = prepare_with_bank(splits, encoder, arguments, family, model, processor, training)

    # ---- Baseline: the untouched model ----
    conditions = resolve_conditions(family, arguments, training.device, model.dtype)
    baseline = score_before(model, family, processor, prepared, conditions, arguments, run_dir)

    # ---- Training ----
    model, trainable = make_trainable(model, family, arguments.freeze, arguments.peft, seed)
    trainer = build_trainer(arguments, training, family, model, processor, prepared, conditions)
    trainer.train()
    best = save_best(trainer, processor, run_dir, merge=arguments.peft.merge)

    # ---- Result: the best checkpoint as it lies on the disk, on the same clips under the same conditions ----
    model = load_best(family, arguments, best, processor).to(training.device)
    results = score_after(model, family, processor, prepared["test"], conditions, arguments, run_dir)

    # ---- Card and summary; a base model has nothing to be compared with ----
    if baseline is not None:
        notes = family.notes(arguments, processor)
        summarize_run(arguments, splits, prepared, trainer, trainable, baseline, results, notes)
    return results


def check_new(folder: Path) -> None:
    """See that no earlier run would be overwritten.

    Raises:
        UserError: There is one, finished or not.
    """
    for config in (folder / "config.yaml", folder / "base" / "config.yaml"):
        if config.exists():
            raise UserError(
                f"--output-dir: expected a new folder, found a run in {config.parent}; delete {folder}, or give another"
            )


def configurations(folder: Path) -> tuple[Arguments, Arguments]:
    """Return the configurations of the two trainings: the package's own YAMLs, with this folder in them."""
    from hf_asr.cli.recipes import find_recipes
    from hf_asr.config.parser import load_arguments

    recipes = find_recipes()
    places = {
        "base": (folder, "base", folder / "base" / "untrained"),
        "finetune": (folder.parent, folder.name, folder / "base" / "best_checkpoint"),
    }
    made = []
    for recipe, (output_dir, name, model) in places.items():
        given = {"experiment.output_dir": output_dir, "experiment.name": name, "model.name_or_path": model}
        # A word in JSON's quotes is the same word in YAML's, whatever is in it.
        overrides = [f"{key}={json.dumps(str(value), ensure_ascii=False)}" for key, value in given.items()]
        made.append(load_arguments([str(recipes[f"demo/{recipe}.yaml"])], overrides))
    return made[0], made[1]


def transcribe_one(arguments: Arguments) -> None:
    """Write down the first test clip, as `hf-asr transcribe` does, beside what was said."""
    from hf_asr.data.synthetic import read
    from hf_asr.inference.transcribe import load_transcriber
    from hf_asr.utterance import Drops

    utterance = next(read(arguments.data, "test", Drops()))
    model = arguments.run_dir / "best_checkpoint"
    path = Path(utterance.audio.path)
    transcripts, _ = load_transcriber(str(model)).transcribe([(path, path.name)], progress=False)
    print(f"$ hf-asr transcribe --model {model} --input {path}")
    print(f"{transcripts[0].text}\n(said was: {utterance.text})")


def verdict(folder: Path, results: Mapping[str, Any]) -> int:
    """Compare the result with what the demo promises; return the exit code."""
    from hf_asr.evaluation.report import read_results

    before, after = read_results(folder / "baseline")["wer"], results["wer"]
    if after <= MOST_WER and after <= before * MOST_OF_BASELINE:
        return 0
    say(
        f"expected a word error rate of at most {MOST_WER:.0%} and a third of the baseline's {before:.1%}, found "
        f"{after:.1%}; look for warnings in {folder}/training.log, and try `hf-asr doctor`"
    )
    return 1


def say(line: str) -> None:
    """Tell how far it is, on stderr."""
    print(line, file=sys.stderr, flush=True)
