"""The ladder's YAML: a ``ladder`` section beside a run's own sections becomes one checked configuration a run.

The sections beside ``ladder`` are the base. Every variant is laid over it as a further file would be, so a variant may
say whatever a recipe's YAML may say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_asr.config.arguments import Arguments, ExperimentArguments
from hf_asr.config.checks import SECTION_NAMES, check_folder_name, check_section, check_tree, fields_of, unknown_key
from hf_asr.config.kinds import found
from hf_asr.config.options import option
from hf_asr.config.parser import (
    ConfigError,
    build,
    merge,
    normalized,
    one_order,
    parse_words,
    read_file,
    read_override,
    resolve,
)
from hf_asr.config.paths import absolute_paths
from hf_asr.config.together import check_together

LADDER = "ladder"
BASE = "base"
RECIPES = ("finetune_seq2seq", "finetune_ctc", "finetune_classifier")
MODES = ("alone", "cumulative", "both")
# The ladder names its runs and seeds them, and none of them is published.
NOT_IN_A_VARIANT = ("experiment", "hub")
SEEDS = fields_of(ExperimentArguments)["seed"].metadata["bounds"]


@dataclass
class LadderArguments:
    """The ladder: which runs there are."""

    recipe: str = option("finetune_seq2seq", "The recipe that every run starts.", choices=RECIPES)
    seeds: list[int] = field(
        default_factory=lambda: [42, 43, 44], metadata={"help": "One run of every row for each of them."}
    )
    mode: str = option(
        "alone",
        "`alone`: the base with each variant by itself; `cumulative`: the base with the first, the first two, the "
        "first three ...; `both`.",
        choices=MODES,
    )
    order: list[str] | None = field(
        default=None,
        metadata={"help": "Variants that are added one after the other, in this order; by default all, as written."},
    )
    variants: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "Name to what is laid over the base: sections of a run's configuration, as in its YAML."},
    )
    untouched: bool = option(True, "Score the untouched model too, once, in the base's first run.")
    keep_weights: bool = option(False, "Keep checkpoints and `best_checkpoint` of runs that are done.")
    accelerate_config: str | None = option(
        None, "File for `accelerate launch --config_file` of every run; by default each run is one process."
    )


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: What the table calls it, such as ``base + bf16``.
        folder: First part of its run folders' names.
        kind: ``base``, ``alone`` or ``cumulative``.
        switches: The variants laid over the base, in this order.
        against: Name of the row it is compared with; empty for the base.
    """

    name: str
    folder: str
    kind: str
    switches: tuple[str, ...]
    against: str


@dataclass(frozen=True)
class Ladder:
    """All runs of a ladder.

    Attributes:
        name: The base's ``experiment.name``.
        folder: ``experiment.output_dir`` / ``experiment.name``: tables, logs and run folders.
        settings: The ladder section.
        rows: The rows, the base first.
        runs: Run folder's name to configuration; rows that say the same share their runs.
    """

    name: str
    folder: Path
    settings: LadderArguments
    rows: list[Row]
    runs: dict[str, Arguments]


def run_name(row: Row, seed: int) -> str:
    """Return the name of a row's run folder for a seed."""
    return f"{row.folder}-seed{seed}"


def parse_ladder(argv: Sequence[str], description: str) -> Ladder:
    """Parse the command line of the ladder.

    Args:
        argv: What stands behind the script's name.
        description: What it does, for --help.

    Raises:
        UserError: An unknown option, or no configuration.
        ConfigError: Anything is wrong with the base, the ladder or any of its variants; all of it is told.
    """
    options = parse_words(argv, description, allow_dry_run=False)
    return load_ladder(options.config, options.overrides)


def load_ladder(config_files: Sequence[str | Path], overrides: Sequence[str] = ()) -> Ladder:
    """Read a base with its ladder section, and make every run's configuration.

    Args:
        config_files: YAML files; a later one wins.
        overrides: ``section.key=value``; ``ladder.variants.NAME=null`` takes a variant away.

    Raises:
        ConfigError: Anything is wrong; all of it is told.
    """
    base: dict[str, Any] = {}
    section: dict[str, Any] = {}
    problems: list[str] = []
    for tree, wrong in read_parts(config_files, overrides):
        problems += wrong
        given = tree.pop(LADDER, None) or {}
        section = merge(section, given if isinstance(given, dict) else {}, LADDER)
        base = merge(base, tree)
    if problems:
        raise ConfigError(problems)
    settings = LadderArguments(**{key: value for key, value in section.items() if value is not None})
    settings.variants = {name: normalized(value) for name, value in settings.variants.items() if value is not None}
    problems = [*check_ladder(settings)]
    rows = [] if problems else plan_rows(settings)
    problems += check_rows(rows)
    runs, wrong = plan_runs(base, settings, rows)
    if problems + wrong:
        raise ConfigError(problems + wrong)
    one = next(iter(runs.values()))
    folder = Path(one.experiment.output_dir).parent
    return Ladder(folder.name, folder, settings, rows, runs)


def read_parts(
    config_files: Sequence[str | Path], overrides: Sequence[str]
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield what each file and override says, and what is wrong with it."""
    sources: list[tuple[str, Callable[[str], dict[str, Any]], str]] = []
    sources += [(str(file), read_file, str(file)) for file in config_files]
    sources += [("command line", read_override, text) for text in overrides]
    for place, read, text in sources:
        try:
            tree = read(text)
        except ConfigError as error:
            yield {}, [f"{place}: {problem}" for problem in error.problems]
            continue
        rest = {name: values for name, values in tree.items() if name != LADDER}
        wrong = [*check_tree(rest), *check_ladder_section(tree.get(LADDER))]
        yield dict(tree), [f"{place}: {problem}" for problem in wrong]


def check_ladder_section(values: Any) -> Iterator[str]:
    """Check what one file says below ``ladder``."""
    if values is None:
        return
    if not isinstance(values, dict):
        yield f"{LADDER}: expected a mapping of keys, found {found(values)}. Write its keys indented below it."
        return
    yield from check_section(values, fields_of(LadderArguments), LADDER)
    variants = values.get("variants")
    for name, variant in (variants if isinstance(variants, dict) else {}).items():
        yield from check_variant(name, variant)


def check_variant(name: Any, variant: Any) -> Iterator[str]:
    """Check one variant: a name that can stand in a folder's, and sections of a run."""
    path = f"{LADDER}.variants.{name}"
    if not isinstance(name, str):
        yield unknown_key(f"{LADDER}.variants", name, ())
        return
    yield from check_folder_name(path, name)
    if name == BASE:
        yield f"{path}: expected another name: {BASE} is the configuration without any variant. Rename it."
    if variant is None:
        return
    if not isinstance(variant, dict) or not variant:
        known = ", ".join(section for section in SECTION_NAMES if section not in NOT_IN_A_VARIANT)
        yield f"{path}: expected sections of a run ({known}), found {found(variant)}. Nest section and key below it."
        return
    for section in NOT_IN_A_VARIANT:
        if section in variant:
            yield f"{path}.{section}: expected it in the base alone, found it in a variant. Take it out."
    rest = {section: values for section, values in variant.items() if section not in NOT_IN_A_VARIANT}
    yield from (f"{path}: {problem}" for problem in check_tree(normalized(rest)))


def check_ladder(settings: LadderArguments) -> Iterator[str]:
    """Check what only the merged ladder can tell."""
    names = list(settings.variants)
    if not names:
        yield "ladder.variants: expected at least one variant to compare with the base, found none. Add one."
    seeds = settings.seeds
    if not seeds or len(set(seeds)) < len(seeds) or not all(seed in SEEDS for seed in seeds):
        yield f"ladder.seeds: expected different whole numbers ({SEEDS}), found {found(seeds)}."
    launcher = settings.accelerate_config
    if launcher is not None and not Path(launcher).is_file():
        yield f"ladder.accelerate_config: expected a file of accelerate's, found nothing at {launcher}. Check the path."
    if settings.order == []:
        yield "ladder.order: expected at least one variant, found an empty list. Remove the key to take all."
    for name in settings.order or []:
        if name not in names:
            yield f"ladder.order: expected names among {', '.join(names) or 'the variants'}, found '{name}'."
    if settings.order is not None and len(set(settings.order)) < len(settings.order):
        yield f"ladder.order: expected each name once, found {found(settings.order)}."


def plan_rows(settings: LadderArguments) -> list[Row]:
    """Return the rows of the table: the base, each variant alone, then the variants added up."""
    rows = [Row(BASE, BASE, "base", (), "")]
    if settings.mode in ("alone", "both"):
        rows += [Row(name, name, "alone", (name,), BASE) for name in settings.variants]
    if settings.mode in ("cumulative", "both"):
        added = cumulative_rows(settings.order or list(settings.variants))
        rows += added[1:] if settings.mode == "both" else added
    return rows


def cumulative_rows(order: Sequence[str]) -> list[Row]:
    """Return base + A, base + A + B ..., each compared with the row before it.

    The first is the variant alone, under the same name and with the same runs.
    """
    rows = [Row(order[0], order[0], "cumulative", (order[0],), BASE)]
    for number, last in enumerate(order[1:], 2):
        switches = tuple(order[:number])
        rows.append(Row(" + ".join((BASE, *switches)), f"up-to-{last}", "cumulative", switches, rows[-1].name))
    return rows


def check_rows(rows: Sequence[Row]) -> Iterator[str]:
    """Check that no two rows would share their run folders."""
    folders = [row.folder for row in rows]
    for row in rows:
        if folders.count(row.folder) > 1 and row.kind == "alone":
            yield (
                f"ladder.variants.{row.folder}: expected another name, since the variants up to {row.folder[6:]} added "
                "up are called so. Rename it."
            )


def plan_runs(
    base: Mapping[str, Any], settings: LadderArguments, rows: Sequence[Row]
) -> tuple[dict[str, Arguments], list[str]]:
    """Make the configuration of every run.

    Returns:
        Run name to configuration, in the order in which they are run: all rows of the first seed, then of the next;
        and what is wrong with any of them, told once a row.
    """
    resolved, wrong = resolve(dict(base))
    wrong += check_together(resolved)
    trees: dict[str, dict[str, Any]] = {}
    for row in rows if not wrong else []:
        trees[row.folder], problems = laid_over(base, [settings.variants[name] for name in row.switches])
        wrong += [f"{row.name}: {problem}" for problem in problems]
    if wrong:
        return {}, wrong
    runs = {
        run_name(row, seed): run_arguments(trees[row.folder], run_name(row, seed), seed)
        for seed in settings.seeds
        for row in rows
    }
    if settings.untouched and runs:
        runs[run_name(rows[0], settings.seeds[0])].evaluation.baseline = True
    return runs, []


def laid_over(base: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Return the base with variants laid over it, and what is wrong with that."""
    tree = dict(base)
    for variant in variants:
        tree = merge(tree, variant)
    resolved, wrong = resolve(tree)
    return resolved, [*wrong, *check_tree(resolved), *check_together(resolved)]


def run_arguments(tree: Mapping[str, Any], name: str, seed: int) -> Arguments:
    """Return one run's configuration: its folder below the ladder's, its seed, and nothing pushed."""
    experiment = tree["experiment"]
    arguments = build(tree)
    arguments.experiment.output_dir = str(Path(arguments.experiment.output_dir) / experiment["name"] / "runs")
    arguments.experiment.name = name
    arguments.experiment.seed = seed
    arguments.evaluation.baseline = False
    arguments.hub.push = False
    arguments.training.pop("resume_from_checkpoint", None)
    return absolute_paths(one_order(arguments))
