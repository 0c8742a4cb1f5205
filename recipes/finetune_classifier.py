"""Train a classifier or a regressor on a speech encoder, frozen unless told otherwise: emotion, language, keyword, age.

accelerate launch recipes/finetune_classifier.py --config recipes/classifier/emotion.yaml [more.yaml] [key=value ...]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from hf_asr.cli.outcome import run_recipe
from hf_asr.config.parser import parse_recipe


def main(argv: Sequence[str]) -> None:
    """Read top to bottom: configuration, data, model, states, training, result, card."""
    arguments, options = parse_recipe(argv, __doc__ or "")

    # Heavy libraries come after the configuration was found right.
    from hf_asr.cli.classifier_summary import summarize_classifier
    from hf_asr.data.corpora import build_splits, check_streams
    from hf_asr.evaluation.run import score_guess, score_split
    from hf_asr.features.augmented import check_augmentation
    from hf_asr.features.bank_room import check_fits
    from hf_asr.features.prepare import prepare_splits
    from hf_asr.hub.publishing import publish_run, publish_while_training
    from hf_asr.hub.push import check_push
    from hf_asr.inference.generate import resolve_conditions
    from hf_asr.models import get_family, load_best
    from hf_asr.models.classifier import check_classes, classifier_arguments
    from hf_asr.models.classifier_bank import bank_splits, forecast_bank, uses_bank
    from hf_asr.training.adapters import check_names, make_trainable
    from hf_asr.training.arguments import needed_splits, training_arguments
    from hf_asr.training.batches import check_batches
    from hf_asr.training.forecast import dry_run
    from hf_asr.training.run import begin_process, begin_run, check_run_folder, save_best
    from hf_asr.training.trainer import build_trainer

    begin_process()
    arguments = classifier_arguments(arguments)
    uses_bank(arguments)
    training = training_arguments(arguments)
    check_push(arguments.hub)
    resume_from = None if options.dry_run else check_run_folder(arguments, training)
    seed = arguments.experiment.seed

    # ---- Data: the labels of train are the classes ----
    family = get_family(arguments.model, recipe="finetune_classifier")
    splits = build_splits(arguments.data, seed=seed, names=needed_splits(arguments))
    check_streams(splits, training.max_steps, training.world_size, training.dataloader_num_workers)
    processor = family.load_processor(arguments, splits["train"].rows)
    check_classes(splits, processor.classes)

    # ---- Model ----
    model: Any = family.load_model(arguments, processor)
    check_names(model, family, arguments.freeze, arguments.peft)
    encoder = family.make_encoder(processor, model.config, arguments)
    check_augmentation(arguments, encoder)
    family.check_decoding(model, family.decoding_options(arguments))
    check_batches(splits, encoder, arguments, family, processor, model)
    model, trainable = make_trainable(model, family, arguments.freeze, arguments.peft, seed)
    bank = forecast_bank(splits, model, arguments)
    if options.dry_run:
        dry_run(model, family, processor, splits["train"], encoder, training, arguments, bank)
        return
    check_fits(bank, arguments.features.bank)
    run_dir = begin_run(arguments, training)

    # ---- Features, and the frozen encoder's states where features.bank says so ----
    prepared = prepare_splits(splits, encoder, arguments)
    prepared = bank_splits(prepared, model, family, processor, arguments, training)

    # ---- Baseline: what one would say without listening ----
    conditions = resolve_conditions(family, arguments, training.device, model.dtype)
    test, left_out = prepared["test"], splits["test"].drops
    baseline = score_guess(family, processor, test, conditions, arguments, run_dir / "baseline", left_out=left_out)

    # ---- Training ----
    trainer = build_trainer(arguments, training, family, model, processor, prepared, conditions)
    publish_while_training(trainer, arguments)
    trainer.train(resume_from)
    best = save_best(trainer, processor, run_dir, merge=arguments.peft.merge)

    # ---- Result: the best checkpoint as it lies on the disk ----
    model = load_best(family, arguments, best, processor).to(training.device)
    results = score_split(model, family, processor, test, conditions, arguments, run_dir / "test", left_out=left_out)

    # ---- Card, summary, Hub ----
    if training.should_save:
        notes = family.notes(arguments, processor)
        summarize_classifier(arguments, splits, prepared, trainer, trainable, baseline, results, notes)
        publish_run(arguments, prepared)


if __name__ == "__main__":
    sys.exit(run_recipe(main))
