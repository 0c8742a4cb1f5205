"""The shape of the package, read from its source: order of imports, doors, sizes, and nothing of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hf_asr"
# A module may import what stands left of it, and its own part.
ORDER = [
    "errors",
    "files",
    "utterance",
    "text",
    "config",
    "data",
    "features",
    "models",
    "inference",
    "evaluation",
    "profiling",
    "training",
    "export",
    "hub",
    "cli",
    "recipes",
]
# Library to the only modules that may import it.
DOORS = {
    "torchaudio": ["data/audio.py", "data/augment.py", "inference/alignment.py"],
    "soundfile": ["data/audio.py"],
    "jiwer": ["evaluation/counts.py", "evaluation/metrics/*.py"],
    "evaluate": ["evaluation/counts.py", "evaluation/metrics/*.py"],
    "sacrebleu": ["evaluation/counts.py", "evaluation/metrics/*.py"],
    "peft": ["training/adapters.py"],
    "bitsandbytes": ["training/adapters.py"],
}
# Part to what it never imports, wherever in the file.
NEVER = {
    "errors": ["torch", "transformers", "datasets", "numpy"],
    "utterance": ["torch", "transformers", "datasets", "numpy"],
    "config": ["torch", "transformers", "datasets", "numpy"],
    "data": ["transformers"],
    "evaluation/metrics": ["torch", "transformers"],
    "evaluation/counts.py": ["torch", "transformers", "evaluate"],
    "evaluation/intervals.py": ["torch", "transformers"],
    "evaluation/report.py": ["torch", "transformers"],
    "evaluation/page.py": ["torch", "transformers"],
    "evaluation/page_charts.py": ["torch", "transformers"],
    "evaluation/page_scale.py": ["torch", "transformers"],
}
READERS = [
    "common_voice",
    "gigaspeech",
    "manifest",
    "audiofolder",
    "hub_dataset",
    "synthetic",
    "webdataset",
    "shards",
    "corpora",
    "streaming",
]
LONGEST_FILE = 400
HEAVY = ["torch", "transformers", "datasets", "numpy", "evaluate", "pandas", "accelerate", "peft"]
# Tests of privacy and of Windows need such paths as examples.
PATHS_OF_A_MACHINE = re.compile(r"(?<![\w.])/(work|root|mnt)/\w")
HOMES = re.compile(r"(?<![\w.])/(home|Users)/\w|[A-Z]:\\+Users")
TEXT_SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".cfg", ".txt", ".jinja", ".json", ""}


def sources() -> list[Path]:
    return [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "recipes").rglob("*.py"))]


def name_of(path: Path) -> str:
    """Return a module's place below the package; recipes are shipped as hf_asr.recipes."""
    return str(path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT).as_posix())


def part_of(path: Path) -> str:
    """Return the part a file belongs to; ``python -m hf_asr`` is the command line."""
    name = name_of(path).split("/")[0].removesuffix(".py")
    return {"__main__": "cli"}.get(name, name)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path, *, top_level: bool = False) -> Iterator[tuple[str, str, int]]:
    """Yield (module, name taken from it or "", line) of every import; of those that run on import when asked."""
    tree = tree_of(path)
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}, line {node.lineno}: a relative import"
            yield from ((node.module or "", alias.name, node.lineno) for alias in node.names)


def parts_imported(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (part of ours, line) for each import of ours."""
    for module, name, line in imports_of(path):
        if module.split(".")[0] == "recipes":
            yield "recipes", line
        elif module == "hf_asr":
            yield name, line
        elif module.startswith("hf_asr."):
            yield module.split(".")[1], line


def modules_imported(path: Path) -> Iterator[Path]:
    """Yield the files of ours that importing a file loads, packages left out."""
    for module, name, _ in imports_of(path, top_level=True):
        for dotted in (module, f"{module}.{name}"):
            file = ROOT.joinpath(*dotted.split(".")).with_suffix(".py")
            if dotted.startswith("hf_asr.") and file.is_file():
                yield file


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports_go_left(path: Path):
    part = part_of(path)
    if part == "__init__":
        assert list(imports_of(path)) == [], "hf_asr/__init__.py imports nothing"
        return
    assert part in ORDER, f"{part} has no place in the order"
    wrong = [f"line {line}: {other}" for other, line in parts_imported(path) if ORDER.index(other) > ORDER.index(part)]
    assert wrong == []


def test_no_two_modules_import_each_other():
    graph = {path: set(modules_imported(path)) for path in sources()}
    while leaves := [path for path, needed in graph.items() if not needed & graph.keys()]:
        for leaf in leaves:
            del graph[leaf]
    assert [name_of(path) for path in graph] == []


@pytest.mark.parametrize("library", DOORS)
def test_doors(library: str):
    users = [path for path in sources() if library in {module.split(".")[0] for module, _, _ in imports_of(path)}]
    assert [path for path in users if not any(fnmatch(name_of(path), door) for door in DOORS[library])] == []


@pytest.mark.parametrize("place", NEVER)
def test_never_imported(place: str):
    files = [path for path in sources() if (name_of(path) + "/").startswith((place + "/", place + ".py/"))]
    assert files, f"{place} is gone"
    wrong = [
        f"{name_of(path)}, line {line}: {module}"
        for path in files
        for module, _, line in imports_of(path)
        if module.split(".")[0] in NEVER[place]
    ]
    assert wrong == []


def test_evaluate_is_imported_whole():
    """Its module loader picks the first Metric class among a file's names, an imported one included."""
    modules = [(name_of(path), *found) for path in sources() for found in imports_of(path)]
    assert [(file, name, line) for file, module, name, line in modules if module == "evaluate" and name] == []


def test_training_never_opens_a_corpus():
    """It may name the type of a split that it is handed."""
    wrong = [
        f"{name_of(path)}, line {line}: {module}"
        for path in sources()
        for module, name, line in imports_of(path)
        if part_of(path) == "training" and module in [f"hf_asr.data.{reader}" for reader in READERS] and name != "Split"
    ]
    assert wrong == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_file_is_too_long(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_function_stands_inside_a_function(path: Path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nested = [
        f"line {inner.lineno}: {inner.name} in {outer.name}"
        for outer in ast.walk(tree_of(path))
        if isinstance(outer, kinds)
        for inner in ast.walk(outer)
        if isinstance(inner, (*kinds, ast.ClassDef)) and inner is not outer
    ]
    assert nested == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_guards_and_no_bare_except(path: Path):
    tree = tree_of(path)
    guards = [
        f"line {node.lineno}: {node.func.id}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr")
    ]
    broad = [
        f"line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
    ]
    assert guards + broad == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_public_names_have_docstrings(path: Path):
    """What begins with an underscore, and methods of such a class, may do without; so may an empty ``__init__.py``."""
    tree = tree_of(path)
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    top = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    inner = [node for holder in top if isinstance(holder, ast.ClassDef) for node in holder.body]
    public = [*top, *(node for node in inner if isinstance(node, kinds) and not node.name.startswith("_"))]
    missing = [f"line {node.lineno}: {node.name}" for node in public if not ast.get_docstring(node)]
    assert missing == []
    assert ast.get_docstring(tree) or not tree.body


RECIPES = [f"recipes.{path.stem}" for path in sorted((ROOT / "recipes").glob("*.py")) if path.stem != "__init__"]


@pytest.mark.parametrize(
    "module", ["hf_asr", "hf_asr.errors", "hf_asr.utterance", "hf_asr.config.parser", "hf_asr.cli", *RECIPES]
)
def test_light_imports(module: str):
    assert heavy_modules_of([module]) == []


def test_verbs_import_heavy_libraries_inside():
    from hf_asr.cli import VERBS, module_of

    assert heavy_modules_of([f"hf_asr.cli.{module_of(verb)}" for verb in VERBS]) == []


def heavy_modules_of(modules: list[str]) -> list[str]:
    code = f"import importlib, sys\n[importlib.import_module(name) for name in {modules}]\n"
    code += f"print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def project_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_path_of_a_machine():
    wrong = [
        f"{path.relative_to(ROOT)}, line {number}: {line.strip()[:100]}"
        for path in project_files()
        if path.suffix in TEXT_SUFFIXES and path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if PATHS_OF_A_MACHINE.search(line) or (HOMES.search(line) and "tests" not in path.parts)
    ]
    assert wrong == []
