"""List the recipes that come with the package, or copy one to change it."""

from __future__ import annotations

import argparse
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from hf_asr.errors import UserError

EXAMPLE = "hf-asr recipes copy whisper/common_voice_ru my_run.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|copy")
    actions.add_parser("list", help="name every recipe with the first line of its header")
    copy = actions.add_parser("copy", help="copy one recipe")
    copy.add_argument("name", metavar="NAME", help="a name that `list` shows")
    copy.add_argument("dest", nargs="?", type=Path, default=Path(), metavar="DEST", help="file or folder (here)")


def run(options: argparse.Namespace) -> int:
    """List or copy; return the exit code."""
    recipes = find_recipes()
    if options.action == "list":
        width = max(len(name) for name in recipes)
        for name, recipe in recipes.items():
            print(f"{name:<{width}}  {headline(recipe)}")
        return 0
    print(copy_recipe(recipes, options.name, options.dest))
    return 0


def find_recipes() -> dict[str, Traversable]:
    """Return name to file of every script, YAML and page in the package's recipes, wherever it is installed."""
    try:
        files = dict(walk(resources.files("hf_asr.recipes"), ""))
    except ModuleNotFoundError as error:
        raise UserError(
            "expected hf_asr to be installed, found only its source. Run `make venv`, or `pip install -e .` there."
        ) from error
    return {name: files[name] for name in sorted(files)}


def walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    """Return (name, file) of a folder's recipes, the folders below it included."""
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith((".yaml", ".py", ".sh", ".md")) and not entry.name.startswith("_"):
            found.append((prefix + entry.name, entry))
    return found


def headline(recipe: Traversable) -> str:
    """Return the first line that says something: of a YAML's header, a script's docstring, or a page's heading."""
    for line in recipe.read_text(encoding="utf-8").splitlines():
        text = line.strip("#\"' ")
        if text and not line.startswith("#!"):
            return text
    return ""


def copy_recipe(recipes: dict[str, Traversable], name: str, dest: Path) -> Path:
    """Copy one recipe to a file or into a folder, and return where it went.

    Args:
        recipes: What :func:`find_recipes` returned.
        name: A recipe's name, with or without its suffix and folder as long as one recipe alone fits.
        dest: File to write, or a folder that is there.

    Raises:
        UserError: No such recipe, several that fit, or a file that is there already.
    """
    fitting = [full for full in recipes if name in (full, full.rsplit(".", 1)[0], Path(full).name, Path(full).stem)]
    exact = [full for full in fitting if name in (full, full.rsplit(".", 1)[0])]
    if len(exact or fitting) != 1:
        found = f"{len(fitting)} that fit" if fitting else "none"
        raise UserError(f"expected the name of one recipe, found {found} for {name!r}. There are: {', '.join(recipes)}")
    chosen = (exact or fitting)[0]
    target = dest / Path(chosen).name if dest.is_dir() else dest
    if target.exists():
        raise UserError(f"expected a new file, found {target} there already. Give another DEST.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(recipes[chosen].read_bytes())
    except OSError as error:
        raise UserError(
            f"expected a place that can be written, found {target}: {error.strerror}. Give another DEST."
        ) from error
    return target
