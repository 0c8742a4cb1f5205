"""Texts and files to score that are odd or wrong: one message, or a number with what it counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_asr.cli import main


def enter(folder: Path, references: str, hypotheses: str, *words: str) -> int:
    """Run ``hf-asr score --json`` on two files."""
    options = []
    for name, text in (("references", references), ("hypotheses", hypotheses)):
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        options += [f"--{name}", str(folder / f"{name}.txt")]
    return main(["score", *options, "--json", *words])


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ("a\nb\nc\n", "a\n", "and 1 in {0}/hypotheses.txt: {0}/references.txt goes on from line 2"),
        ("a\n", "a\nb\n", "{0}/hypotheses.txt goes on from line 2"),
        ("", "", "expected one utterance a line, found nothing"),
        ("\n\n", "a\nb\n", "found 2 references that are all empty after the normalizer basic"),
        ("...\n?!\n", "a\nb\n", "found 2 references that are all empty after the normalizer basic"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_told(
    references: str, hypotheses: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enter(tmp_path, references, hypotheses) == 2
    shown = capsys.readouterr()
    assert message.format(tmp_path) in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("references", "hypotheses", "words", "expected"),
    [
        ("a b\n\n", "a b\nx y\n", [], {"insertions": 2, "num_empty_references": 1, "wer": 1.0}),
        ("a b\n", "\n", [], {"deletions": 2, "wer": 1.0, "num_empty_references": 0}),
        ("a b\n?!\n", "a b\n\n", [], {"wer": 0.0, "num_empty_references": 1}),
        ("a\tb\n", "a b\n", [], {"wer": 0.0, "hits": 2}),
        ("a\tb\n", "a b\n", ["--normalizer", "none"], {"wer": 2.0, "num_words": 1}),
        ("a, b\n", "a b\n", [], {"wer": 0.0, "raw_wer": 0.5}),
        ("e\u0301te\u0301 n\u0303\n", "été ñ\n", [], {"wer": 0.0, "raw_wer": 1.0}),
        ("\ufeffa b\r\n\r\n", "a b\nc\n", [], {"hits": 2, "insertions": 1, "num_empty_references": 1}),
        ("a\u2028b\nc\n", "a b\nc\n", [], {"wer": 0.0, "num_utterances": 2}),
        ("{a}\n", "a\n", [], {"wer": 0.0}),
    ],
)
def test_odd_texts_are_counted(
    references: str,
    hypotheses: str,
    words: list[str],
    expected: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert enter(tmp_path, references, hypotheses, *words) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: found[name] for name in expected} == expected
    (part,) = found["slices"]
    assert (part["name"], sum(group["utterances"] for group in part["groups"])) == (
        "reference_length",
        found["num_utterances"],
    )
