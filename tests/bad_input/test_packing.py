"""Clips that cannot be joined: one message, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.outcomes import Attack, recipe_main
from helpers.tiny_ctc import make_tiny_ctc
from helpers.tiny_moonshine import make_tiny_moonshine
from helpers.tiny_release import Release

REFUSED: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "a share above 1": (
        ["data.pack_share=1.5"],
        ("data.pack_share: expected a number (at least 0 and at most 1)", "found the number 1.5"),
    ),
    "whose clips": (["data.pack_speakers=mine"], ("data.pack_speakers: expected one of same, any", "'mine'")),
    "thinned windows by padded seconds": (
        ["model.window=thinned", "data.batch_seconds=60"],
        ("data.batch_seconds: expected model.window full beside data.pack, found thinned",),
    ),
    "a batch below the window": (
        ["data.batch_seconds=3"],
        ("data.batch_seconds: expected at least the longest clip of train, 4.00 s, found 3",),
    ),
    "a batch below the window, streamed": (
        ["data.batch_seconds=3", "data.streaming=true"],
        ("data.batch_seconds: expected at least the model's window, 4.00 s", "found 3", "Raise it"),
    ),
    "a bank": (["features.bank=on"], ("features.bank: it keeps the states of single clips", "data.pack")),
    "joined twice": (
        ["augment.enabled=true", "augment.concatenate.probability=1"],
        ("augment.concatenate: data.pack joins clips already", "Remove one of them"),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused(attack: Attack, release: Release, what: str) -> None:
    overrides, words = REFUSED[what]
    attack.enter("cached", release.yaml, release.model, "data.pack=true", *overrides).assert_refused(*words)


@pytest.mark.parametrize(
    ("recipe", "make"),
    [("finetune_ctc", make_tiny_ctc), ("finetune_seq2seq", make_tiny_moonshine)],
    ids=["ctc", "moonshine"],
)
def test_other_families_have_no_window_to_share(
    attack: Attack, release: Release, tmp_path: Path, recipe: str, make: object
) -> None:
    model = make(tmp_path / "other")  # type: ignore[operator]
    settings = json.loads(release.yaml.read_text())
    settings["evaluation"]["generation"] = {}  # a CTC model generates nothing
    release.yaml.write_text(json.dumps(settings))
    for name in (recipe, "prepare_features"):
        outcome = attack.recipe(name, release.yaml, f"model.name_or_path={model}", "data.pack=true")
        outcome.assert_refused("data.pack: expected a Whisper", "a model of another family", "Set data.pack=false")
    assert not (tmp_path / "runs").exists()


def test_a_tokenizer_without_timestamps(attack: Attack, release: Release, tmp_path: Path) -> None:
    """Such tokenizers are saved by scripts that add only the special tokens."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for file in release.model.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] = [
        item for item in content["added_tokens"] if item["content"] not in ("<|1.00|>", "<|4.00|>")
    ]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    given = [f"model.name_or_path={folder}", "data.pack=true"]
    attack.finetune(release.yaml, *given).assert_refused(
        "data.pack: expected a tokenizer and a model with the timestamp tokens <|0.00|> to <|4.00|>",
        "found 2 of 201 missing, <|1.00|> first",
        "Take the tokenizer of the published checkpoint",
    )


@pytest.mark.parametrize("entry", ["cached", "live", "streamed", "prepare", "evaluate"])
def test_packed_training_runs_by_every_way(attack: Attack, release: Release, entry: str) -> None:
    attack.enter(entry, release.yaml, release.model, "data.pack=true").assert_done()


def test_a_dry_run_shows_the_timestamps(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    recipe_main("finetune_seq2seq")(["--config", str(release.yaml), "data.pack=true", "data.pack_share=1", "--dry-run"])
    shown = capsys.readouterr().out
    assert "<|0.00|>" in shown and "<|endoftext|>" in shown and "optimiser steps" in shown
