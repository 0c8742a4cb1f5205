"""Fine-tune a sequence-to-sequence speech model such as Whisper, and prove what it gained.

accelerate launch recipes/finetune_seq2seq.py --config recipes/whisper/common_voice_ru.yaml [more.yaml] [key=value ...]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from hf_asr.cli.outcome import run_recipe
from hf_asr.config.parser import parse_recipe


def main(argv: Sequence[str]) -> None:
    """Read top to bottom: configuration, model, data, baseline, training, result, card."""
    arguments, options = parse_recipe(argv, __doc__ or "")

    # Heavy libraries come after the configuration was found right.
    from hf_asr.cli.summary import summarize_run
    from hf_asr.data.corpora import build_splits, check_streams
    from hf_asr.evaluation.also import check_limits, score_after, score_before
    from hf_asr.evaluation.suspicious import drop_suspicious
    from hf_asr.features.augmented import check_augmentation
    from hf_asr.features.bank_room import check_fits
    from hf_asr.hub.publishing import publish_run, publish_while_training
    from hf_asr.hub.push import check_push
    from hf_asr.inference.generate import resolve_conditions
    from hf_asr.models import get_family, load_best
    from hf_asr.training.adapters import check_names, make_trainable
    from hf_asr.training.arguments import needed_splits, training_arguments
    from hf_asr.training.bank import check_bank, forecast_bank, prepare_with_bank
    from hf_asr.training.batches import check_batches
    from hf_asr.training.forecast import dry_run
    from hf_asr.training.run import begin_process, begin_run, check_run_folder, save_best
    from hf_asr.training.trainer import build_trainer

    begin_process()
    training = training_arguments(arguments)
    check_push(arguments.hub)
    resume_from = None if options.dry_run else check_run_folder(arguments, training)
    seed = arguments.experiment.seed

    # ---- Model ----
    family = get_family(arguments.model, recipe="finetune_seq2seq")
    processor = family.load_processor(arguments, None)
    model: Any = family.load_model(arguments, processor)
    check_names(model, family, arguments.freeze, arguments.peft)
    check_bank(model, family, arguments)

    # ---- Data ----
    splits = build_splits(arguments.data, seed=seed, names=needed_splits(arguments))
    check_streams(splits, training.max_steps, training.world_size, training.dataloader_num_workers)
    encoder = family.make_encoder(processor, model.config, arguments)
    check_augmentation(arguments, encoder)
    family.check_decoding(model, family.decoding_options(arguments))
    check_batches(splits, encoder, arguments, family, processor, model)
    bank = forecast_bank(splits, encoder, arguments, family, model, processor, training)
    if options.dry_run:
        model, _ = make_trainable(model, family, arguments.freeze, arguments.peft, seed)
        dry_run(model, family, processor, splits["train"], encoder, training, arguments, bank)
        return
    check_fits(bank, arguments.features.bank)
    run_dir = begin_run(arguments, training)
    prepared = prepare_with_bank(splits, encoder, arguments, family, model, processor, training)

    # ---- Baseline: the untouched model ----
    conditions = resolve_conditions(family, arguments, training.device, model.dtype)
    test, left_out = prepared["test"], splits["test"].drops
    baseline = score_before(model, family, processor, prepared, conditions, arguments, run_dir, left_out=left_out)
    prepared = drop_suspicious(model, family, processor, prepared, conditions, arguments, run_dir)

    # ---- Training ----
    model, trainable = make_trainable(model, family, arguments.freeze, arguments.peft, seed)
    trainer = build_trainer(arguments, training, family, model, processor, prepared, conditions)
    publish_while_training(trainer, arguments)
    trainer.train(resume_from)
    best = save_best(trainer, processor, run_dir, merge=arguments.peft.merge)

    # ---- Result: the best checkpoint as it lies on the disk, on the same clips under the same conditions ----
    model = load_best(family, arguments, best, processor).to(training.device)
    results = score_after(model, family, processor, test, conditions, arguments, run_dir, left_out=left_out)

    # ---- Card, summary, Hub ----
    if training.should_save:
        notes = family.notes(arguments, processor)
        summarize_run(arguments, splits, prepared, trainer, trainable, baseline, results, notes)
        check_limits(run_dir)
        publish_run(arguments, prepared)


if __name__ == "__main__":
    sys.exit(run_recipe(main))
