"""What is installed: every package, the recipes, the licence, and every library that is imported."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

# Distributions whose import name is another.
IMPORT_NAMES = {"PyYAML": "yaml", "mlflow-skinny": "mlflow"}
# Not imported by us, yet needed: the Trainer's TensorBoard callback, Speech2Text's tokenizer, the examples' pictures,
# and what torch.onnx.export is made of.
NOT_IMPORTED = {"tensorboard", "sentencepiece", "matplotlib", "onnx", "onnxscript"}


@pytest.fixture(scope="module")
def project(project_root: Path) -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((project_root / "pyproject.toml").read_text(encoding="utf-8"))


def import_name(requirement: str) -> str:
    """Return the module that a requirement is imported as."""
    name = re.split(r"[\[<>=!~;\s]", requirement, maxsplit=1)[0]
    return IMPORT_NAMES.get(name, name.replace("-", "_"))


def imported(files: list[Path]) -> set[str]:
    """Return the top-level modules that files import, wherever in them."""
    found: set[str] = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"hf_asr", "recipes"}


def test_every_package_is_listed(project: dict[str, Any], project_root: Path) -> None:
    folders = {path.parent for path in (project_root / "hf_asr").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    names = {".".join(folder.relative_to(project_root).parts) for folder in folders}
    with_yaml = {path.parent for path in (project_root / "recipes").rglob("*.yaml")}
    names |= {".".join(("hf_asr", *folder.relative_to(project_root).parts)) for folder in with_yaml}
    assert set(project["tool"]["setuptools"]["packages"]) == names | {"hf_asr.recipes"}


def test_every_library_that_is_imported_is_declared_and_the_other_way_round(
    project: dict[str, Any], project_root: Path
) -> None:
    declared = {import_name(text) for text in project["project"]["dependencies"]}
    extras = project["project"]["optional-dependencies"]
    optional = {import_name(text) for name in ("demo", "lm", "profile", "export", "trackers") for text in extras[name]}
    used = imported([*(project_root / "hf_asr").rglob("*.py"), *(project_root / "recipes").rglob("*.py")])
    assert used - optional <= declared
    assert declared - NOT_IMPORTED <= used
    assert optional - NOT_IMPORTED <= used


def test_every_library_has_a_lower_bound(project: dict[str, Any]) -> None:
    assert all(">=" in text for text in project["project"]["dependencies"])


def test_torch_and_torchaudio_are_the_pair_that_imports_together(project: dict[str, Any]) -> None:
    assert {"torch>=2.11,<2.15", "torchaudio>=2.11,<2.12"} <= set(project["project"]["dependencies"])


def test_the_licence_is_apache_2_in_full(project: dict[str, Any], project_root: Path) -> None:
    text = (project_root / "LICENSE").read_text(encoding="utf-8")
    assert project["project"]["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("target", ["venv", "demo", "test", "test-processes", "test-slow", "bench", "lint", "types"])
def test_the_makefile_has_the_target_and_makes_the_environment_first(project_root: Path, target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=project_root, capture_output=True, text=True, check=True
    )
    assert "-m venv .venv" in done.stdout
    assert "'.[demo,dev]'" in done.stdout


def test_ci_lints_types_and_tests(project_root: Path) -> None:
    lines = (project_root / ".ci" / "run").read_text().splitlines()
    wanted = ["make venv", "make lint", "make types", "make test", "make test-processes"]
    assert [line for line in lines if line.startswith("make ")] == wanted
    assert os.access(project_root / ".ci" / "run", os.X_OK)


def test_the_installed_package_finds_its_recipes(project_root: Path) -> None:
    assert importlib.metadata.version("hf_asr")
    done = run_outside("-m", "hf_asr", "recipes", "list", cwd=project_root.parent)
    assert "finetune_seq2seq.py" in done


@pytest.fixture(scope="module")
def wheel_target(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed, built from a copy so that nothing is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project_root / name, source)
    for name in ("hf_asr", "recipes"):
        shutil.copytree(project_root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(out), str(source)], check=True)
    [wheel] = out.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(out / "target"), str(wheel)], check=True)
    return out / "target"


def run_outside(*words: str, cwd: Path, path: Path | None = None) -> str:
    """Run Python away from the checkout, with one folder before the installed packages, and return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_wheel_holds_every_recipe_template_and_marker(wheel_target: Path, project_root: Path) -> None:
    shipped = (".py", ".yaml", ".sh", ".md", ".jinja", ".css", ".js", ".typed")
    for name in ("recipes", "hf_asr"):
        wanted = [path for path in (project_root / name).rglob("*") if path.suffix in shipped]
        installed = wheel_target / "hf_asr" / "recipes" if name == "recipes" else wheel_target / name
        for path in wanted:
            there = installed / path.relative_to(project_root / name)
            assert there.read_bytes() == path.read_bytes()


def test_a_recipe_is_copied_out_of_the_wheel(wheel_target: Path, project_root: Path, tmp_path: Path) -> None:
    yaml = next(iter(sorted((project_root / "recipes").rglob("*.yaml"))))
    name = yaml.relative_to(project_root / "recipes").as_posix()
    where = run_outside("-c", "import hf_asr; print(hf_asr.__file__)", cwd=tmp_path, path=wheel_target)
    assert Path(where.strip()).is_relative_to(wheel_target)
    run_outside("-m", "hf_asr", "recipes", "copy", name, cwd=tmp_path, path=wheel_target)
    assert (tmp_path / yaml.name).read_bytes() == yaml.read_bytes()
