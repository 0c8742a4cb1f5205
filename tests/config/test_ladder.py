"""The ladder's YAML: which rows and runs it makes, and every mistake told at once."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_asr.config.arguments import Arguments
from hf_asr.config.ladder import Ladder, LadderArguments, load_ladder, parse_ladder
from hf_asr.config.parser import ConfigError

BASE: dict[str, Any] = {
    "experiment": {"name": "steps"},
    "model": {"name_or_path": "some/model"},
    "data": {"corpus": "manifest", "path": "clips.csv"},
    "training": {"learning_rate": 1e-5, "scheduler": {"name": "cosine"}},
}
VARIANTS: dict[str, Any] = {
    "frozen": {"freeze": {"groups": ["encoder"]}, "training": {"learning_rate": 5e-5}},
    "lora": {"peft": {"method": "lora"}},
    "blind": {"training": {"eval_strategy": False}},
}


def write(folder: Path, ladder: dict[str, Any] | None = None, **base: Any) -> Path:
    """Write base and ladder as one YAML; return its path."""
    path = folder / "ladder.yaml"
    path.write_text(
        yaml.safe_dump({**BASE, "ladder": {"variants": VARIANTS, **(ladder or {})}, **base}, sort_keys=False)
    )
    return path


def load(folder: Path, ladder: dict[str, Any] | None = None, *overrides: str) -> Ladder:
    """Read a ladder over the base of this file."""
    return load_ladder([write(folder, ladder)], overrides)


def problems(folder: Path, ladder: dict[str, Any], *overrides: str) -> list[str]:
    """Return what is wrong with a ladder."""
    with pytest.raises(ConfigError) as caught:
        load(folder, ladder, *overrides)
    return caught.value.problems


@pytest.mark.parametrize(
    ("ladder", "expected"),
    [
        ({}, [("base", ""), ("frozen", "base"), ("lora", "base"), ("blind", "base")]),
        (
            {"mode": "cumulative", "order": ["blind", "frozen"]},
            [("base", ""), ("blind", "base"), ("base + blind + frozen", "blind")],
        ),
        (
            {"mode": "both", "order": ["blind", "frozen"]},
            [
                ("base", ""),
                ("frozen", "base"),
                ("lora", "base"),
                ("blind", "base"),
                ("base + blind + frozen", "blind"),
            ],
        ),
    ],
)
def test_rows_and_what_they_are_compared_with(
    tmp_path: Path, ladder: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert [(row.name, row.against) for row in load(tmp_path, ladder).rows] == expected


def test_every_row_runs_with_every_seed_the_first_seed_first(tmp_path: Path) -> None:
    ladder = load(tmp_path, {"seeds": [1, 2]})
    rows = ["base", "frozen", "lora", "blind"]
    assert list(ladder.runs) == [f"{row}-seed{seed}" for seed in (1, 2) for row in rows]
    run = ladder.runs["frozen-seed2"]
    assert (run.experiment.seed, run.freeze.groups, run.training["learning_rate"]) == (2, ["encoder"], 5e-5)
    assert run.training["scheduler"] == {"name": "cosine"}
    assert run.run_dir == ladder.folder / "runs" / "frozen-seed2"
    assert ladder.folder.name == ladder.name == "steps"


def test_variants_are_added_up(tmp_path: Path) -> None:
    ladder = load(tmp_path, {"mode": "cumulative", "order": ["frozen", "blind"], "seeds": [3]})
    run = ladder.runs["up-to-blind-seed3"]
    assert (run.freeze.groups, run.training["eval_strategy"]) == (["encoder"], "no")


def test_the_untouched_model_is_scored_once(tmp_path: Path) -> None:
    def scored(ladder: Ladder) -> list[str]:
        return [name for name, run in ladder.runs.items() if run.evaluation.baseline]

    assert scored(load(tmp_path)) == ["base-seed42"]
    assert scored(load(tmp_path, {"untouched": False})) == []


def test_runs_of_a_ladder_are_never_pushed(tmp_path: Path) -> None:
    path = write(tmp_path, hub={"push": True, "repo": "some/model"})
    assert not any(run.hub.push for run in load_ladder([path]).runs.values())


def test_the_command_line_reaches_base_and_variants(tmp_path: Path) -> None:
    words = ["ladder.variants.lora=null", "ladder.variants.frozen.training.learning_rate=3e-5", "ladder.seeds=[5]"]
    ladder = parse_ladder(["--config", str(write(tmp_path)), *words, "data.max_seconds=9"], "")
    assert list(ladder.runs) == ["base-seed5", "frozen-seed5", "blind-seed5"]
    assert ladder.runs["frozen-seed5"].training["learning_rate"] == 3e-5
    assert {run.data.max_seconds for run in ladder.runs.values()} == {9}


def test_a_variant_takes_a_key_back(tmp_path: Path) -> None:
    ladder = load(tmp_path, {"variants": {"plain": {"training": {"scheduler": None}}}})
    assert "scheduler" not in ladder.runs["plain-seed42"].training


def test_the_base_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    base, ladder = tmp_path / "base.yaml", tmp_path / "variants.yaml"
    base.write_text(yaml.safe_dump(BASE))
    ladder.write_text(yaml.safe_dump({"ladder": {"variants": VARIANTS}}))
    assert len(load_ladder([base, ladder]).rows) == 4


@pytest.mark.parametrize(
    ("ladder", "words"),
    [
        ({"variants": {}}, "at least one variant"),
        ({"variants": {"base": {}}}, "expected another name"),
        ({"variants": {"a/b": {}}}, "plain folder name"),
        ({"variants": {1: {"freeze": {}}}}, "expected a name as key, found the number 1"),
        ({"variants": {"a": {}}}, "expected sections of a run"),
        (
            {"mode": "both", "variants": {**VARIANTS, "up-to-blind": VARIANTS["blind"]}},
            r"variants\.up-to-blind: expected another name",
        ),
        ({"seeds": [2**40]}, "at most 4294967295"),
        ({"accelerate_config": "/nowhere/there.yaml"}, "ladder.accelerate_config: expected a file"),
        ({"variants": {"a": ["peft"]}}, "expected sections of a run"),
        ({"variants": {"a": {"experiment": {"seed": 1}}}}, r"variants\.a\.experiment: expected it in the base"),
        ({"variants": {"a": {"fraeze": {}}}}, r"ladder\.variants\.a: fraeze: unknown key"),
        ({"variants": {"a": {"freeze": {"grups": []}}}}, "nearest right name is 'groups'"),
        ({"variants": {"a": {"training": {"bf16": True, "fp16": True}}}}, "a: training.bf16: expected bf16 or fp16"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"seeds": []}, "different whole numbers"),
        ({"seeds": ["one"]}, "a list of whole numbers"),
        ({"mode": "all"}, "one of alone, cumulative, both"),
        ({"order": ["frosen"]}, "found 'frosen'"),
        ({"order": []}, "an empty list"),
        ({"recipe": "finetune"}, "Did you mean finetune_ctc"),
        ({"sedes": [1]}, "nearest right name is 'seeds'"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, ladder: dict[str, Any], words: str) -> None:
    found = problems(tmp_path, ladder)
    assert any(re.search(words, problem) for problem in found), found


def test_what_only_the_sum_of_two_variants_has_wrong_is_told(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, {"mode": "cumulative", "order": ["frozen", "lora"]})
    assert problem.startswith("base + frozen + lora: freeze: peft.method lora already freezes")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, {"mode": "all", "variants": {"a": {"fraeze": {}}}}, "data.corpuss=manifest")
    assert len(found) == 3


def test_a_base_without_a_model_is_told_once(tmp_path: Path) -> None:
    path = write(tmp_path, model={})
    with pytest.raises(ConfigError) as caught:
        load_ladder([path])
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["model.name_or_path"]


def test_no_section_at_all(tmp_path: Path) -> None:
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump(BASE))
    with pytest.raises(ConfigError, match="at least one variant"):
        load_ladder([path])


def test_every_key_is_on_its_page(project_root: Path) -> None:
    page = (project_root / "docs" / "ladder.md").read_text(encoding="utf-8")
    assert [item.name for item in fields(LadderArguments) if f"`ladder.{item.name}`" not in page] == []


@pytest.mark.parametrize("name", ["freezing", "classifier_optimizations", "training_loop", "windows"])
def test_the_shipped_ladders_plan_their_runs(project_root: Path, tmp_path: Path, name: str) -> None:
    recipes = project_root / "recipes"
    base = "classifier/emotion" if name.startswith("classifier") else "whisper/gigaspeech_s"
    if not (recipes / f"{base}.yaml").is_file():
        pytest.skip(f"recipes/{base}.yaml is not there")
    files = [recipes / f"{base}.yaml", recipes / "ladders" / f"{name}.yaml"]
    ladder = load_ladder(files, ["data.path=somewhere"])
    assert len(ladder.settings.seeds) >= 3 and all(isinstance(run, Arguments) for run in ladder.runs.values())
    assert len(ladder.runs) == len(ladder.rows) * len(ladder.settings.seeds)


def test_the_freezing_ladder_is_the_one_of_the_requirements(project_root: Path) -> None:
    recipes = project_root / "recipes"
    ladder = load_ladder([recipes / "whisper/gigaspeech_s.yaml", recipes / "ladders/freezing.yaml"])
    found = {row.name: ladder.runs[f"{row.folder}-seed42"] for row in ladder.rows}
    assert found["base"].freeze.groups == [] and found["base"].peft.method == "none"
    assert found["decoder_only"].freeze.groups == ["encoder"]
    assert found["last_encoder_layers"].freeze.last_n_encoder_layers == 4
    assert found["lora"].peft.method == "lora"
    assert len({run.training["learning_rate"] for run in found.values()}) == 4


def test_the_windows_ladder_decodes_every_row_by_the_full_window(project_root: Path) -> None:
    recipes = project_root / "recipes"
    ladder = load_ladder([recipes / "whisper/gigaspeech_s.yaml", recipes / "ladders/windows.yaml"])
    assert {run.evaluation.window for run in ladder.runs.values()} == {"full"}
    found = {row.name: ladder.runs[f"{row.folder}-seed42"] for row in ladder.rows}
    assert {name: run.model.window for name, run in found.items()} == {
        "base": "full",
        "thinned": "thinned",
        "thinned_stride_20": "thinned",
        "clip": "clip",
        "pack": "full",
        "pack_plain": "full",
    }
    assert [name for name, run in found.items() if run.data.pack] == ["pack", "pack_plain"]
