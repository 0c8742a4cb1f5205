from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import field, make_dataclass
from pathlib import Path

import pytest

from hf_asr.config.arguments import SECTIONS, SourceKeys, TrainingKeys
from hf_asr.config.checks import fields_of
from hf_asr.config.names import GENERATION, TRAINING
from hf_asr.config.owners import GENERATION_OWNERS, TRAINING_OWNERS, TRAINING_REMOVED
from hf_asr.config.reference import TRAINING_DEFAULTS, default_of, fields_table, render
from hf_asr.training.arguments import DEFAULTS, LEARNING_RATES


def test_the_page_is_current(project_root: Path) -> None:
    page = (project_root / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == render(), "run: python -m hf_asr.config.reference docs/configuration.md"


def test_every_key_is_on_the_page() -> None:
    page = render()
    keys = [f"{name}.{key}" for name, section in SECTIONS.items() for key in fields_of(section)]
    keys += [f"training.{key}" for key in fields_of(TrainingKeys)]
    keys += [f"data.sources[].{key}" for key in fields_of(SourceKeys)]
    keys += [*TRAINING, *GENERATION, *TRAINING_OWNERS, *TRAINING_REMOVED, *GENERATION_OWNERS]
    assert [key for key in keys if f"| `{key}` |" not in page] == []


def test_every_table_has_as_many_cells_in_each_row() -> None:
    tables = [block for block in re.split(r"\n\n", render()) if block.startswith("| ")]
    assert len(tables) > 10
    for block in tables:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block


def test_our_defaults_are_those_of_the_training() -> None:
    told = {name: text.split(",")[0] for name, text in TRAINING_DEFAULTS.items()}
    texts = {name: str(value).replace("'", "") for name, value in DEFAULTS.items()}
    written = {name: text.replace("False", "false").replace("True", "true") for name, text in texts.items()}
    assert {name: told[name] for name in DEFAULTS} == written
    assert set(TRAINING_DEFAULTS) <= set(TRAINING)
    assert all(f"{rate:g}" in TRAINING_DEFAULTS["learning_rate"] for rate in LEARNING_RATES.values())


@pytest.mark.parametrize(
    ("default", "text"),
    [(None, ""), ("", ""), (True, "`true`"), (0.05, "`0.05`"), ("auto", "`auto`")],
)
def test_defaults_are_written_as_in_a_yaml(default: object, text: str) -> None:
    section = make_dataclass("section", [("key", "str", field(default=default))])
    assert default_of(fields_of(section)["key"]) == text


def test_lists_and_required_keys() -> None:
    section = make_dataclass(
        "section",
        [
            ("given", "str", field(metadata={"help": "A | b."})),
            ("many", "list[str]", field(default_factory=lambda: ["a", "b"], metadata={"help": "C."})),
        ],
    )
    assert fields_table("x", fields_of(section)).splitlines()[2:] == [
        "| `x.given` | a text | required | A \\| b. |",
        "| `x.many` | a list of texts | `[a, b]` | C. |",
    ]


def test_the_page_is_written_by_a_command(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hf_asr.config.reference", str(tmp_path / "page.md")], check=True)
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == render()
