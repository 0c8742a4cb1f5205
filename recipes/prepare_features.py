"""Fill the feature caches of a configuration, and train nothing: for a machine with many cores and no GPU.

accelerate launch recipes/prepare_features.py --config recipes/whisper/common_voice_ru.yaml [more.yaml] [key=value ...]

On several machines that share features.cache_dir each writes a part, and the last to finish joins them: start the same
line with --shard 1/8 ... --shard 8/8, or with a launcher, whose processes take a part each.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hf_asr.cli.outcome import run_recipe
from hf_asr.config.arguments import Arguments
from hf_asr.config.parser import parse_recipe
from hf_asr.errors import UserError


def main(argv: Sequence[str]) -> None:
    """Read top to bottom: configuration, processor, data, caches."""
    arguments, options = parse_recipe(argv, __doc__ or "", allow_dry_run=False, allow_shard=True)

    check_cached(arguments)

    # Heavy libraries come after the configuration was found right.
    from hf_asr.cli.summary import all_drops
    from hf_asr.data.corpora import build_splits
    from hf_asr.features.parts import Shard, write_parts
    from hf_asr.features.prepare import prepare_splits
    from hf_asr.models import get_family
    from hf_asr.training.arguments import needed_splits
    from hf_asr.training.run import begin_logging

    begin_logging()
    shard = Shard.parse(options.shard) if options.shard else Shard.of_launcher()
    family = get_family(arguments.model)
    splits = build_splits(arguments.data, seed=arguments.experiment.seed, names=needed_splits(arguments))
    processor = family.load_processor(arguments, splits["train"].rows)
    model_config = family.load_config(arguments, processor)
    encoder = family.make_encoder(processor, model_config, arguments)

    # ---- A part: whoever writes the last one goes on ----
    if shard.of > 1:
        missing = {name: numbers for name, numbers in write_parts(splits, encoder, arguments, shard).items() if numbers}
        for name, numbers in missing.items():
            print(f"{name}: part {shard.number} of {shard.of} is done; missing: {', '.join(map(str, numbers))}")
        if missing:
            return

    # ---- The whole ----
    prepared = prepare_splits(splits, encoder, arguments)
    for name, split in prepared.items():
        size = (
            "a stream, which has no cache" if split.table is None else f"{len(split.table):,} clips in {split.folder}"
        )
        print(f"{name}: {size}; left out: {all_drops(splits[name], split).counts() or 'nothing'}")
    if arguments.features.bank != "off":
        print(
            f"features.bank={arguments.features.bank}: no bank is built here, since its states are of the machine that "
            f"trains (device, arithmetic): {family.recipe} builds it from these caches before its first epoch"
        )


def check_cached(arguments: Arguments) -> None:
    """See that there is a cache to fill.

    Raises:
        UserError: features.cache is off.
    """
    if not arguments.features.cache:
        raise UserError(
            "features.cache: expected true, since this recipe fills the caches, found false. Set features.cache=true."
        )


if __name__ == "__main__":
    sys.exit(run_recipe(main))
