"""From YAML files and ``key=value`` to :class:`~hf_asr.config.arguments.Arguments`, and back to a YAML.

Files are merged from left to right, then the overrides. All that is wrong is told at once. Neither torch nor
transformers is imported: a mistake is told before 5 s have gone into imports.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hf_asr.config.also import check_also, check_long_form
from hf_asr.config.arguments import SECTIONS, Arguments, TrainingKeys
from hf_asr.config.checks import check_tree, fields_of
from hf_asr.config.kinds import tidy
from hf_asr.config.names import TRAINING, WORDS_FOR_BOOLEANS
from hf_asr.config.paths import absolute_paths
from hf_asr.config.together import EITHER_OR, check_together, value_at
from hf_asr.errors import UserError
from hf_asr.files import write_whole

OVERRIDE = re.compile(r"[A-Za-z_][\w.]*=", re.ASCII)


class ConfigError(UserError):
    """All that is wrong with a configuration.

    Attributes:
        problems: One sentence for each problem.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        heading = f"the configuration has {len(self.problems)} problems:"
        lines = [f"  {number}. {problem}" for number, problem in enumerate(self.problems, 1)]
        super().__init__(self.problems[0] if len(self.problems) == 1 else "\n".join([heading, *lines]))


def load_arguments(config_files: Sequence[str | Path], overrides: Sequence[str] = ()) -> Arguments:
    """Read a configuration.

    Args:
        config_files: YAML files; a later one wins.
        overrides: ``section.key=value``, the value read as YAML; they win over all files.

    Returns:
        The checked configuration, local paths made absolute.

    Raises:
        ConfigError: Anything is wrong; all of it is told.
    """
    trees, problems = read_all(config_files, overrides)
    complete = len(trees) == len(config_files) + len(overrides)
    merged: dict[str, Any] = {}
    for tree in trees:
        merged = merge(without_the_other(merged, tree), tree)
    resolved, unresolved = resolve(merged)
    problems += unresolved
    if not problems:
        problems += [*check_tree(resolved), *check_also(resolved), *check_long_form(resolved)]
    if complete:  # what an unreadable file would have given is not missing
        problems += check_together(resolved)
    if problems:
        raise ConfigError(problems)
    return absolute_paths(one_order(build(resolved)))


def one_order(arguments: Arguments) -> Arguments:
    """Make ``training.train_sampling_strategy: sequential`` hold for streams too, whose order is the buffer's."""
    if arguments.training.get("train_sampling_strategy") == "sequential":
        arguments.data.shuffle_buffer = 1
    return arguments


def read_all(config_files: Sequence[str | Path], overrides: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Read and check every file and override by itself.

    Returns:
        What could be read, and all that is wrong, each with the file's name.
    """
    trees: list[dict[str, Any]] = []
    problems: list[str] = []
    sources: list[tuple[str, Callable[[str], dict[str, Any]], str]] = []
    sources += [(str(file), read_file, str(file)) for file in config_files]
    sources += [("command line", read_override, text) for text in overrides]
    for place, read, text in sources:
        try:
            trees.append(read(text))
            problems += [f"{place}: {problem}" for problem in check_tree(trees[-1])]
        except ConfigError as error:
            problems += [f"{place}: {problem}" for problem in error.problems]
    return trees, problems


def read_file(name: str) -> dict[str, Any]:
    """Read a YAML file into plain values.

    Raises:
        ConfigError: It is missing, unreadable, no YAML, or no mapping.
    """
    path = Path(name)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError([f"expected a YAML file, found nothing there.{similar_files(path)}"]) from error
    except IsADirectoryError as error:
        raise ConfigError(["expected a YAML file, found a directory. Name a file in it."]) from error
    except OSError as error:
        raise ConfigError([f"expected a YAML file that can be read, found: {error.strerror}."]) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"expected UTF-8, found byte {error.start} that is none. Save it as UTF-8."]) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ConfigError([f"line {line}: expected text, found a NUL byte. Save the file as plain UTF-8 text."])
    tree = parse_yaml(text)
    if not isinstance(tree, dict | None):
        raise ConfigError(
            [f"expected sections (experiment:, model:, data:, ...), found {type(tree).__name__}: no mapping."]
        )
    return normalized(tree or {})


def similar_files(path: Path) -> str:
    """Return a hint at a file with nearly that name."""
    if not path.parent.is_dir():
        return f" There is no folder {path.parent} either."
    names = sorted(item.name for item in path.parent.iterdir() if item.suffix in (".yaml", ".yml"))
    near = get_close_matches(path.name, names, n=1)
    return f" Did you mean {path.parent / near[0]}?" if near else " Check the path."


def parse_yaml(text: str) -> Any:
    """Parse YAML with OmegaConf's reader: 1e-5 is a number, a key given twice is an error.

    Raises:
        ConfigError: It is no YAML; with line and column.
    """
    try:
        # The one public road to OmegaConf's reader that also lets scalars and lists through as they are.
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)["value"]  # type: ignore[index,call-overload]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        context = f" ({error.context})" if error.context else ""
        raise ConfigError([f"{place}expected YAML, found a mistake: {error.problem}{context}."]) from error
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:  # ValueError: 5,000 digits, half a surrogate
        first = str(error).strip().splitlines()[0]
        raise ConfigError([f"expected YAML, found a mistake: {first}."]) from error
    except RecursionError as error:
        raise ConfigError(["expected YAML, found brackets nested too deeply."]) from error


def read_override(text: str) -> dict[str, Any]:
    """Read ``section.key=value`` into plain values.

    Raises:
        ConfigError: It is none, or its value is no YAML.
    """
    if not OVERRIDE.match(text):
        hint = " Put YAML files behind --config." if text.endswith((".yaml", ".yml")) else ""
        raise ConfigError([f"expected section.key=value (a list is given whole: key=[a, b]), found '{text}'.{hint}"])
    key, _, value = text.partition("=")
    names = key.split(".")
    if not all(names):
        raise ConfigError([f"expected section.key=value, found '{text}' with an empty name between its dots."])
    try:
        tree = parse_yaml(value)
    except ConfigError as error:
        raise ConfigError(
            [f"{key}: {problem} Quote the value: '{key}=\"...\"'." for problem in error.problems]
        ) from error
    for name in reversed(names):
        tree = {name: tree}
    return normalized(tree)


def normalized(tree: dict[Any, Any]) -> dict[Any, Any]:
    """Take YAML 1.1's false and true back to the words "no", "off", "on" where the words are values."""
    changed = dict(tree)
    for section, keys in WORDS_FOR_BOOLEANS.items():
        values = tree.get(section)
        if isinstance(values, dict):
            words = {
                key: word for key, words in keys.items() for flag, word in words.items() if values.get(key) is flag
            }
            changed[section] = {**values, **words}
    return changed


def merge(earlier: Mapping[Any, Any], later: Mapping[Any, Any], path: str = "") -> dict[Any, Any]:
    """Lay ``later`` over ``earlier``: mappings are merged key by key, everything else is replaced.

    OmegaConf.merge refuses a list over a mapping (data.splits.test), and a scheduler with a name of its own must not
    keep the other one's numbers.
    """
    merged = dict(earlier)
    for key, value in later.items():
        old, place = merged.get(key), f"{path}.{key}" if path else str(key)
        renamed = place == "training.scheduler" and isinstance(value, dict) and "name" in value
        if isinstance(old, dict) and isinstance(value, dict) and not renamed:
            merged[key] = merge(old, value, place)
        elif value is not None or path:  # an empty section says nothing; a key that is null takes its value back
            merged[key] = value
    return merged


def without_the_other(earlier: dict[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Take a value back whose alternative a later source gives, see :data:`EITHER_OR`."""
    for first, second in (*EITHER_OR, *(pair[::-1] for pair in EITHER_OR)):
        if value_at(later, first) is not None and value_at(earlier, second) is not None:
            section, key = second.split(".")
            earlier = {**earlier, section: {name: item for name, item in earlier[section].items() if name != key}}
    return earlier


def resolve(tree: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Fill in ``${...}`` and leave out what is null.

    Returns:
        The configuration, and what could not be filled in.
    """
    try:
        return given(OmegaConf.to_container(OmegaConf.create(tree), resolve=True)), []
    except OmegaConfBaseException as error:
        key = error.full_key
        first = str(error).strip().splitlines()[0]
        return given(tree), [f"{key}: expected ${{section.key}} or ${{oc.env:NAME}} that exists, found: {first}."]


def given(value: Any) -> Any:
    """Leave out null: everywhere it means "not given", so that a later file can take a value back."""
    if isinstance(value, dict):
        return {key: given(item) for key, item in value.items() if item is not None}
    return [given(item) for item in value] if isinstance(value, list) else value


def build(tree: Mapping[str, Any]) -> Arguments:
    """Make the dataclasses from a checked tree."""
    sections = {
        name: section(
            **{key: tidy(value, str(fields_of(section)[key].type)) for key, value in tree.get(name, {}).items()}
        )
        for name, section in SECTIONS.items()
    }
    kinds = TRAINING | {name: str(field.type) for name, field in fields_of(TrainingKeys).items()}
    training = {key: tidy(value, kinds[key]) for key, value in tree.get("training", {}).items()}
    return Arguments(**sections, training=training)


def save_arguments(arguments: Arguments, path: str | Path) -> None:
    """Write a configuration, every key with its value, so that :func:`load_arguments` reads an equal one.

    Args:
        arguments: The configuration; local paths are stored absolute.
        path: The YAML; it is replaced in one step.
    """
    tree = asdict(absolute_paths(arguments))
    tree["data"]["corpus"] = tree["data"]["corpus"] or None
    write_whole(path, OmegaConf.to_yaml(OmegaConf.create(literal(tree))), errors="strict")


def literal(value: Any) -> Any:
    """Escape ``${`` so that reading the text again fills nothing in."""
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literal(item) for item in value]
    # OmegaConf's grammar: a backslash before ${ makes it text, and is itself doubled there.
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


class RecipeParser(argparse.ArgumentParser):
    """An argument parser whose complaints are UserErrors, so that N processes do not all print its usage."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise UserError(f"{message}. Say --help for the usage.")


def parse_recipe(
    argv: Sequence[str], description: str, *, allow_dry_run: bool = True, allow_shard: bool = False
) -> tuple[Arguments, argparse.Namespace]:
    """Parse the command line of a recipe.

    Args:
        argv: What stands behind the script's name; overrides may stand anywhere.
        description: What the recipe does, for --help.
        allow_dry_run: The recipe has --dry-run.
        allow_shard: The recipe has --shard.

    Returns:
        The configuration, and ``config``, ``overrides``, ``dry_run`` and ``shard`` as given.

    Raises:
        UserError: An unknown option, or no configuration.
        ConfigError: Anything is wrong with the configuration.
    """
    options = parse_words(argv, description, allow_dry_run=allow_dry_run, allow_shard=allow_shard)
    return load_arguments(options.config, options.overrides), options


def parse_words(
    argv: Sequence[str], description: str, *, allow_dry_run: bool = True, allow_shard: bool = False
) -> argparse.Namespace:
    """Split the command line of a recipe into ``config``, ``overrides``, ``dry_run`` and ``shard``; no file is read.

    Args:
        argv: As for :func:`parse_recipe`.
        description: What the recipe does, for --help.
        allow_dry_run: The recipe has --dry-run.
        allow_shard: The recipe has --shard.

    Raises:
        UserError: An unknown option, or no configuration.
    """
    flags = ["--dry-run"] * allow_dry_run + ["--shard"] * allow_shard
    own = " [--dry-run]" * allow_dry_run + " [--shard K/N]" * allow_shard
    parser = RecipeParser(
        description=description,
        allow_abbrev=False,
        usage=f"%(prog)s --config FILE [FILE ...] [section.key=value ...]{own}",
        epilog="Files are merged from left to right, then section.key=value, whose value is read as YAML. All keys: "
        "docs/configuration.md.",
    )
    parser.add_argument("--config", nargs="+", action="extend", required=True, metavar="FILE", help="YAML files")
    parser.set_defaults(dry_run=False, shard=None)
    if allow_dry_run:
        parser.add_argument("--dry-run", action="store_true", help="show ten labels and the forecast, then stop")
    if allow_shard:
        parser.add_argument("--shard", metavar="K/N", help="write part K of N; the last to finish joins them")
    options, rest = parser.parse_known_args(list(argv))
    for word in rest:
        if word.startswith("-"):
            near = get_close_matches(word, ["--config", *flags], n=1, cutoff=0.0)
            parser.error(f"expected section.key=value or {near[0]}, found the unknown option {word}")
    options.config = [word for word in options.config if not is_override(word)]
    options.overrides = [word for word in argv if is_override(word) or word in rest]
    if not options.config:
        parser.error("--config: expected a YAML file, found none")
    return options


def is_override(word: str) -> bool:
    """Tell whether a word is meant as an override; one behind --config may also be a file with ``=`` in its name."""
    key, equals, _ = word.partition("=")
    return bool(equals) and not key.startswith("-") and not {"/", "\\"} & set(key) and not os.path.isfile(word)
