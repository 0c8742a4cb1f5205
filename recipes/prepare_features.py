"""Fill the feature caches of a configuration, and train nothing: for a machine with many cores and no GPU.

accelerate launch recipes/prepare_features.py --config recipes/whisper/common_voice_ru.yaml [more.yaml] [key=value ...]
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
    arguments, _ = parse_recipe(argv, __doc__ or "", allow_dry_run=False)

    check_cached(arguments)

    # Heavy libraries come after the configuration was found right.
    from hf_asr.cli.summary import all_drops
    from hf_asr.data.corpora import build_splits
    from hf_asr.features.prepare import prepare_splits
    from hf_asr.models import get_family
    from hf_asr.training.arguments import needed_splits
    from hf_asr.training.run import begin_logging

    begin_logging()
    family = get_family(arguments.model)
    splits = build_splits(arguments.data, seed=arguments.experiment.seed, names=needed_splits(arguments))
    processor = family.load_processor(arguments, splits["train"].rows)
    model_config = family.load_config(arguments, processor)
    prepared = prepare_splits(splits, family.make_encoder(processor, model_config, arguments), arguments)
    for name, split in prepared.items():
        size = (
            "a stream, which has no cache" if split.table is None else f"{len(split.table):,} clips in {split.folder}"
        )
        print(f"{name}: {size}; left out: {all_drops(splits[name], split).counts() or 'nothing'}")


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
