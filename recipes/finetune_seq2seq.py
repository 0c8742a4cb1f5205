"""Fine-tune a sequence-to-sequence speech model (Whisper), and prove what it gained.

accelerate launch recipes/finetune_seq2seq.py --config recipes/whisper/common_voice_ru.yaml [more.yaml] [key=value ...]
                                              [--dry-run]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hf_asr.cli import run_recipe
from hf_asr.config.parser import parse_recipe


def main(argv: Sequence[str]) -> None:
    """Read top to bottom: configuration, model, data, baseline, training, result, card, push."""
    arguments, options = parse_recipe(argv, __doc__ or "")

    # Heavy libraries load after the configuration was found right.
    from hf_asr.cli.screen import show_end_of_run
    from hf_asr.data.corpora import build_splits
    from hf_asr.evaluation.run import baseline_of, score_split
    from hf_asr.features.cache import prepare_splits
    from hf_asr.hub.model_card import write_model_card
    from hf_asr.hub.push import push_when_asked
    from hf_asr.inference.generate import resolve_conditions
    from hf_asr.models import get_family
    from hf_asr.training.adapters import make_trainable, merged
    from hf_asr.training.arguments import training_arguments
    from hf_asr.training.checkpoints import checkpoint_to_resume
    from hf_asr.training.forecast import dry_run
    from hf_asr.training.run import begin_run, save_best, set_threads
    from hf_asr.training.trainer import build_trainer

    training = training_arguments(arguments)
    set_threads(training.world_size)

    # ---- Model ----
    family = get_family(arguments.model, recipe="finetune_seq2seq")
    processor = family.load_processor(arguments.model, arguments.data)
    model = family.load_model(arguments.model, arguments.data, processor, arguments.experiment.seed)

    # ---- Data ----
    splits = build_splits(arguments.data, seed=arguments.experiment.seed)
    encoder = family.make_encoder(processor, model.config, arguments)
    if options.dry_run:
        trained, _ = make_trainable(model, family, arguments.freeze, arguments.peft, arguments.experiment.seed)
        dry_run(trained, processor, family.make_collator(processor, model), splits["train"], encoder, training)
        return
    run_dir = begin_run(arguments, training)
    prepared = prepare_splits(splits, encoder, family, arguments)

    # ---- Baseline: the untouched model ----
    conditions = resolve_conditions(arguments.evaluation, training.device)
    model.to(training.device)
    baseline = baseline_of(model, family, processor, prepared, conditions, arguments, run_dir / "baseline")

    # ---- Training ----
    checkpoint = checkpoint_to_resume(arguments.training.get("resume_from_checkpoint"), run_dir / "checkpoints")
    model, trainable = make_trainable(model, family, arguments.freeze, arguments.peft, arguments.experiment.seed)
    trainer = build_trainer(
        arguments, training, family, model, processor, prepared["train"], prepared.get("validation"), conditions
    )
    trainer.train(checkpoint)
    best = save_best(trainer, merged, processor, run_dir)

    # ---- Result: the best checkpoint, read back from disk ----
    model = family.load_model(arguments.model.at(best), arguments.data, processor, arguments.experiment.seed)
