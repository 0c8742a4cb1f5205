"""Every example runs as it stands and says what it promises."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

PROMISES = {
    "compare_two_systems.py": ("before: WER 0.278", "after: WER 0.111", "significant"),
    "hear_augmentations.py": ("ms for 5 s of audio", "codec", "12 WAV files and augmentations.png are in aug"),
}
SPOKEN = ("hear_augmentations.py",)
ARGUMENTS = {"hear_augmentations.py": ["--repeats", "1"]}


def test_every_example_is_run(project_root: Path) -> None:
    assert {path.name for path in (project_root / "examples").glob("*.py")} == set(PROMISES)


@pytest.mark.parametrize("name", PROMISES)
def test_it_runs(
    name: str,
    project_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name in SPOKEN:
        pytest.importorskip("espeakng_loader", reason="the extra `demo` is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [name, *ARGUMENTS.get(name, [])])
    runpy.run_path(str(project_root / "examples" / name), run_name="__main__")
    shown = capsys.readouterr().out
    assert [words for words in PROMISES[name] if words not in shown] == []
