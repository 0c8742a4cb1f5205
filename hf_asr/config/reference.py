"""docs/configuration.md, made from the dataclasses: ``python -m hf_asr.config.reference docs/configuration.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

from hf_asr.config.arguments import CORPUS_KEYS, SECTIONS, SourceKeys, TrainingKeys
from hf_asr.config.augmentations import TRANSFORMS
from hf_asr.config.checks import fields_of
from hf_asr.config.kinds import expected
from hf_asr.config.names import (
    GENERATION,
    GENERATION_BOUNDS,
    SCHEDULERS,
    TRAINING,
    TRAINING_BOUNDS,
    TRAINING_CHOICES,
)
from hf_asr.config.options import Bounds
from hf_asr.config.owners import GENERATION_OWNERS, TRAINING_OWNERS, TRAINING_REMOVED

INTRODUCTION = """# Configuration

<!-- Made by `python -m hf_asr.config.reference docs/configuration.md`; a test holds it to the dataclasses. -->

A configuration is one or more YAML files, merged from left to right, then `section.key=value`:

```
accelerate launch recipes/finetune_seq2seq.py --config base.yaml mine.yaml training.learning_rate=1e-5 [--dry-run]
```

- **Merging.** Mappings are merged key by key; anything else, a list too, replaces what was there. A
  `training.scheduler` with a `name` replaces the earlier one whole. `null` takes a key's earlier value back, so that
  its default holds.
- **Mistakes.** Unknown keys, wrong types and values out of range are told all at once, each with its file and, for a
  name, the nearest right one.
- **`section.key=value`.** The value is YAML: `data.limit.train=100`, `freeze.groups=[encoder]`,
  `'data.splits.held_out={test: 0.1, by: speaker}'`. A list is given whole. Empty means null.
- **Quotes.** YAML reads an unquoted `no`, `off`, `yes` or `on` as a truth value and `007` or `1e5` as a number; quote
  what is meant as text. On a command line the shell takes one pair of quotes away: `data.language='"no"'`. For
  `training.eval_strategy`, `save_strategy` and `logging_strategy`, an unquoted `no` is the word. `1e-5` is a number.
- **`${...}`.** `${experiment.name}` is another key's value, `${oc.env:CLIPS}` an environment variable; `\\${` is no
  reference but text. `???` marks a value that a later file or `key=value` must give.
- **Paths** are relative to the working directory. The run folder's `config.yaml` stores them absolute, holds every key,
  and can be given to `--config` again.
- **One owner per setting.** Some names of transformers have an owner elsewhere here (tables below); using them is an
  error that says where to go.
"""

SPLITS = """### data.splits

`train`, `validation` and `test` are each one of

| form | example |
| --- | --- |
| a TSV of the release (common_voice) | `validation: dev` |
| a subset (gigaspeech) | `train: S` |
| a split of the data set (hub), a folder (audiofolder) | `test: test` |
| a value of the column that `columns.split` names | `train: train` |
| a file | `test: lists/test.csv` |
| a list of those, read one after the other | `train: [train, other]` |
| a mapping of keys of this section: another corpus | `test: {corpus: manifest, path: calls.csv}` |

A split that is not given has the corpus's usual name (`train`, `dev` or `validation`, `test`; `DEV` and `TEST` for
gigaspeech), unless `held_out` carves it from train:

```yaml
data:
  splits:
    train: train
    held_out: {validation: 0.05, test: 0, by: speaker}   # these are its defaults; by: id deals out single clips
```

Shares are of the speakers (or clips), chosen by a hash of the id, so the same ones in every run; `held_out` carves only
what `splits` does not give. In place of a share it takes a list of speakers, quoted: `test: ["03", "08"]`.
"""

SOURCES = """### data.sources

A list of corpora to mix for training, in place of `corpus` and `path`:

```yaml
data:
  sources:
    - {corpus: common_voice, path: cv-corpus-22.0-2025-06-20/ru, weight: 2}
    - {corpus: manifest, path: calls.csv, columns: {text: transcript}, weight: 1}
```

Each source, and each split that is a mapping, may have these keys: KEYS. The section's other keys hold for all clips.
A source may also have:
"""


# What hf_asr.training.arguments sets where a configuration does not; a test compares the two.
TRAINING_DEFAULTS: dict[str, str] = {
    "learning_rate": "1e-05 for full fine-tuning, 5e-05 with a frozen encoder, 0.001 for LoRA and AdaLoRA, 0.0005 for "
    "DoRA, 0.0002 on a quantised base; logged",
    "num_train_epochs": "3",
    "per_device_train_batch_size": "8",
    "warmup_steps": "0.1, a share of all steps",
    "logging_steps": "25",
    "logging_first_step": "true",
    "logging_nan_inf_filter": "false, so that a loss of nan is logged as nan",
    "eval_strategy": "epoch",
    "save_strategy": "as `eval_strategy`, with its steps; epoch where that is no",
    "save_total_limit": "2",
    "load_best_model_at_end": "true, by `metric_for_best_model`: wer; false where `eval_strategy` is no",
    "activation_checkpointing_kwargs": "{use_reentrant: false}",
    "ddp_timeout": "7200",
    "report_to": "none: TensorBoard files are always written",
}


def render() -> str:
    """Return docs/configuration.md."""
    return "\n".join(parts()).rstrip() + "\n"


def parts() -> Iterator[str]:
    """Yield the page, part by part."""
    yield INTRODUCTION
    for name, section in SECTIONS.items():
        if name == "evaluation":
            yield from training_parts()
        yield f"## {name}\n\n{section.__doc__}\n"
        yield fields_table(name, fields_of(section))
        if name == "data":
            keys = ", ".join(f"`{key}`" for key in CORPUS_KEYS)
            yield SPLITS
            yield SOURCES.replace("KEYS", keys)
            yield fields_table("data.sources[]", fields_of(SourceKeys))
        if name == "augment":
            yield from transform_parts()
        if name == "evaluation":
            yield from generation_parts()


def training_parts() -> Iterator[str]:
    """Yield the training section."""
    yield "## training\n\nNames of transformers' `Seq2SeqTrainingArguments`, with its meanings, beside our own:\n"
    yield fields_table("training", fields_of(TrainingKeys))
    yield "### training.scheduler\n"
    yield "A name, or as in `{name: polynomial, power: 2}`; the length of the warm-up is `warmup_steps`.\n"
    yield table(("name", "also takes"), ((f"`{name}`", code(keys)) for name, keys in SCHEDULERS.items()))
    yield "### Names of Seq2SeqTrainingArguments\n"
    yield "Their defaults are transformers', with these exceptions:\n"
    yield table(("name", "default here"), ((f"`{name}`", text) for name, text in TRAINING_DEFAULTS.items()))
    yield names_table(TRAINING, TRAINING_CHOICES, TRAINING_BOUNDS)
    yield "### Names of it that have another owner\n"
    yield table(("name", "instead"), ((f"`{name}`", text) for name, text in TRAINING_OWNERS.items()))
    yield "### Names that transformers no longer has\n"
    yield table(("name", "today"), ((f"`{name}`", text) for name, text in TRAINING_REMOVED.items()))


def transform_parts() -> Iterator[str]:
    """Yield the keys of every transform."""
    yield "Hear and see them: docs/augmentation.md. A range is `[low, high]`: a number is drawn evenly from it.\n"
    for name, transform in TRANSFORMS.items():
        yield f"### augment.{name}\n\n{transform.__doc__}\n"
        yield fields_table(f"augment.{name}", fields_of(transform))


def generation_parts() -> Iterator[str]:
    """Yield the names of evaluation.generation."""
    yield "### evaluation.generation\n"
    yield "Names of transformers' `GenerationConfig`, with its meanings; what is not given is the checkpoint's own.\n"
    yield names_table(GENERATION, {}, GENERATION_BOUNDS)
    yield "Names that have another owner:\n"
    yield table(("name", "instead"), ((f"`{name}`", text) for name, text in GENERATION_OWNERS.items()))


def fields_table(path: str, fields: Mapping[str, Field[Any]]) -> str:
    """Return a table of a dataclass's keys."""
    rows = (
        (
            f"`{path}.{name}`",
            value_of(field),
            default_of(field),
            field.metadata["help"],
        )
        for name, field in fields.items()
    )
    return table(("key", "value", "default", "what it is"), rows)


def value_of(field: Field[Any]) -> str:
    """Say what a key may hold."""
    rules = field.metadata
    if "pair" in rules:
        return f"a range{f' ({bounds})' if (bounds := rules['bounds']) else ''}"
    if "members" in rules:
        return f"a list of names among {', '.join(rules['members'])}"
    if "transform" in rules:
        return "a mapping, see below"
    return expected(str(field.type), rules.get("choices", ()), rules.get("bounds"))


def names_table(kinds: Mapping[str, str], choices: Mapping[str, tuple[str, ...]], bounds: Mapping[str, Bounds]) -> str:
    """Return a table of another library's names."""
    rows = ((f"`{name}`", expected(kind, choices.get(name, ()), bounds.get(name))) for name, kind in kinds.items())
    return table(("name", "value"), rows)


def default_of(field: Field[Any]) -> str:
    """Write a default as in a YAML; empty when there is none."""
    if field.default is MISSING and field.default_factory is MISSING:
        return "required"
    value = field.default if field.default_factory is MISSING else field.default_factory()
    match value:
        case None | "":
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case list():
            return f"`[{', '.join(map(str, value))}]`"
        case _:
            return f"`{value}`"


def code(words: Iterable[str]) -> str:
    """Write words as code, commas between them."""
    return ", ".join(f"`{word}`" for word in words)


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
