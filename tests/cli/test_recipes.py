"""hf-asr recipes: what comes with the package is listed and copied, and nothing is overwritten."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from hf_asr.cli import recipes
from hf_asr.errors import UserError


def parse(*words: str) -> argparse.Namespace:
    """Parse the words as the verb does."""
    parser = argparse.ArgumentParser()
    recipes.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of recipes with two of one name, as whisper/ and accelerate/ may have."""
    for name, text in {
        "__init__.py": '"""Not a recipe."""\n',
        "train.py": '#!/usr/bin/env python\n"""Train it."""\n',
        "whisper/debug.yaml": "# Minutes on a laptop.\nmodel: {}\n",
        "whisper/cpu.yaml": "\n#\n# A run on a CPU.\n",
        "accelerate/cpu.yaml": "# One process.\n",
        "whisper/notes.txt": "no recipe",
        "launch/job.sh": "#!/bin/bash\n# Many machines.\n",
    }.items():
        (tmp_path / "recipes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "recipes" / name).write_text(text)
    return tmp_path / "recipes"


def test_the_packages_own_recipes_are_found(project_root: Path) -> None:
    found, folder = recipes.find_recipes(), project_root / "recipes"
    there = {path.relative_to(folder).as_posix() for end in ("yaml", "sh", "md") for path in folder.rglob(f"*.{end}")}
    assert there <= set(found)
    assert "finetune_seq2seq.py" in found
    assert not any(name.startswith("_") for name in found)
    assert all(recipes.headline(recipe) for recipe in found.values())


def test_list_names_every_recipe_with_its_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes.run(parse("list")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipes.find_recipes())


def test_walk_finds_what_can_be_copied_only(folder: Path) -> None:
    found = dict(recipes.walk(folder, ""))
    assert set(found) == {"train.py", "whisper/debug.yaml", "whisper/cpu.yaml", "accelerate/cpu.yaml", "launch/job.sh"}
    assert recipes.headline(found["train.py"]) == "Train it."
    assert recipes.headline(found["whisper/cpu.yaml"]) == "A run on a CPU."
    assert recipes.headline(found["launch/job.sh"]) == "Many machines."


@pytest.mark.parametrize(
    ("name", "copied"),
    [
        ("whisper/debug", "whisper/debug.yaml"),
        ("whisper/debug.yaml", "whisper/debug.yaml"),
        ("debug", "whisper/debug.yaml"),
        ("debug.yaml", "whisper/debug.yaml"),
        ("accelerate/cpu", "accelerate/cpu.yaml"),
        ("train", "train.py"),
    ],
)
def test_a_recipe_is_copied_byte_for_byte(folder: Path, tmp_path: Path, name: str, copied: str) -> None:
    target = recipes.copy_recipe(dict(recipes.walk(folder, "")), name, tmp_path)
    assert target == tmp_path / Path(copied).name
    assert target.read_bytes() == (folder / copied).read_bytes()


def test_a_file_to_write_may_be_named_and_its_folder_is_made(folder: Path, tmp_path: Path) -> None:
    target = recipes.copy_recipe(dict(recipes.walk(folder, "")), "debug", tmp_path / "new" / "mine.yaml")
    assert target.read_bytes() == (folder / "whisper/debug.yaml").read_bytes()


def test_an_existing_file_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "debug.yaml"
    mine.write_text("mine")
    for dest in (tmp_path, mine):
        with pytest.raises(UserError, match=r"new file.*debug\.yaml there already"):
            recipes.copy_recipe(dict(recipes.walk(folder, "")), "debug", dest)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(("name", "found"), [("debgu", "none for 'debgu'"), ("cpu", "2 that fit for 'cpu'")])
def test_a_name_that_does_not_tell_one_recipe_lists_them(folder: Path, tmp_path: Path, name: str, found: str) -> None:
    with pytest.raises(UserError, match=f"{found}.*whisper/debug.yaml"):
        recipes.copy_recipe(dict(recipes.walk(folder, "")), name, tmp_path)


def test_a_place_that_cannot_be_written_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a place that can be written"):
        recipes.copy_recipe(dict(recipes.walk(folder, "")), "debug", tmp_path / "file" / "below.yaml")
