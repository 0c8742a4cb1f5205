"""``hf-asr score``: what it reads, prints and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jiwer
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_asr.cli import main
from hf_asr.cli.score import read_lines, score


def files(folder: Path, references: bytes, hypotheses: bytes) -> list[str]:
    """Write both files and return the options that name them."""
    (folder / "references.txt").write_bytes(references)
    (folder / "hypotheses.txt").write_bytes(hypotheses)
    return ["--references", str(folder / "references.txt"), "--hypotheses", str(folder / "hypotheses.txt")]


def scored(options: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """Score with ``--json`` and return the object, seeing that nothing else stands on stdout."""
    assert main(["score", *options, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    result: dict[str, object] = json.loads(out)
    return result


def test_json_has_rates_counts_and_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = files(tmp_path, "Hello, World!\n\nраз два три\n".encode(), "hello word\nx\nраз три\n".encode())
    result = scored(options, capsys)
    references, hypotheses = ["hello world", "", "раз два три"], ["hello word", "x", "раз три"]
    assert result["wer"] == jiwer.wer(references, hypotheses)
    assert result["cer"] == jiwer.cer(references, hypotheses)
    assert result["mer"] == jiwer.mer(references, hypotheses)
    assert result["wil"] == jiwer.wil(references, hypotheses)
    named = ("substitutions", "deletions", "insertions", "hits", "num_utterances", "num_words", "normalizer")
    assert [result[name] for name in named] == [1, 1, 1, 3, 3, 5, "basic"]
    low, high = result["wer_interval"]  # type: ignore[misc]
    assert low <= 0.6 <= high
    assert result["wer_interval_by"] == "utterance"


# Words of several scripts, with marks that combine, beside any text of one line; a first mark of byte order is cut.
LINES = st.lists(st.sampled_from(["a", "ab", "да", "e\u0301", "नी", "天", "مَر", "👩\u200d👧"]), max_size=6).map(
    " ".join
)
LINES |= st.text(st.characters(codec="utf-8", exclude_characters="\n\ufeff"), max_size=8)
PAIRS = st.lists(st.tuples(LINES, LINES), min_size=1, max_size=5).filter(
    lambda pairs: any(reference.strip() for reference, _ in pairs)
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PAIRS)
def test_what_two_files_score_is_jiwers(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    sides = [list(side) for side in zip(*pairs, strict=True)]
    files(tmp_path, *("".join(f"{line}\n" for line in side).encode() for side in sides))
    read = [read_lines(tmp_path / name) for name in ("references.txt", "hypotheses.txt")]
    assert read == sides
    found, words = score(read[0], read[1], "none"), jiwer.process_words(*sides)
    assert [found[name] for name in ("wer", "mer", "wil", "cer")] == [
        words.wer,
        words.mer,
        words.wil,
        jiwer.cer(*sides),
    ]
    names = ("substitutions", "deletions", "insertions", "hits")
    assert [found[name] for name in names] == [getattr(words, name) for name in names]
    assert found["wer_interval"][0] <= found["wer_interval"][1]


@pytest.mark.parametrize(
    ("normalizer", "wer"),
    [("none", 1.0), ("basic", 0.5), ("whisper_english", 0.0)],
)
def test_the_normalizer_is_chosen(
    normalizer: str, wer: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = files(tmp_path, b"The Colour,\n", b"the color\n")
    result = scored([*options, "--normalizer", normalizer], capsys)
    assert (result["wer"], result["normalizer"]) == (wer, normalizer)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"\na\n", ["", "a"]),
        (b"\xef\xbb\xbfa\nb", ["a", "b"]),
        ("a\u2028b\u0085c\x0bd\x1ce\n".encode(), ["a\u2028b\u0085c\x0bd\x1ce"]),
        (b"a\r\nb\r\n", ["a\r", "b\r"]),
        (b"a\rb\n", ["a\rb"]),
    ],
)
def test_lines_end_at_line_feeds_only(content: bytes, lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    assert read_lines(tmp_path / "x.txt") == lines


@pytest.mark.parametrize("normalizer", ["none", "basic", "whisper_english", "whisper_basic"])
def test_a_windows_file_scores_like_a_unix_file(
    normalizer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = files(tmp_path, b"one two\r\n\r\nthree\r\n", b"one two\n\nthree\n")
    result = scored([*options, "--normalizer", normalizer], capsys)
    assert (result["wer"], result["cer"], result["num_utterances"]) == (0.0, 0.0, 3)


@pytest.mark.parametrize(
    ("references", "hypotheses", "words"),
    [
        (b"a\nb\n", b"a\n", "2 lines in"),
        (b"a\n", b"a\n\n", "and 2 in"),
        (b"", b"", "found nothing in"),
        (b"\n...\n", b"a\nb\n", "all empty after the normalizer basic"),
        (b"a\n\xff\xfea\x00\n", b"a\nb\n", "found other bytes in line 2"),
        (b"a\n", "é\n".encode("latin-1"), "save the file as UTF-8"),
        (b'{"text": "a"}\n\n', b"a\n\n", "found JSON objects; write the texts alone"),
        (b"a\n", b' {"text": "a"}\n', "hypotheses.txt, one utterance a line, found JSON objects"),
    ],
)
def test_files_that_cannot_be_scored_are_told(
    references: bytes, hypotheses: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", *files(tmp_path, references, hypotheses)]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""


@pytest.mark.parametrize(("name", "words"), [("missing.txt", "No such file"), (".", "Is a directory")])
def test_files_that_are_none_are_told(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = files(tmp_path, b"a\n", b"a\n")
    assert main(["score", *options[:3], str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err


def test_an_unknown_normalizer_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", *files(tmp_path, b"a\n", b"a\n"), "--normalizer", "rusian"]) == 2
    assert "did you mean russian" in capsys.readouterr().err


def test_the_table_reads_in_per_cent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", *files(tmp_path, b"a b c d\n", b"a b c x\n")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("1 utterances, 4 reference words", "normalizer basic", "25.00 %", "by utterance", "substitutions"):
        assert words in shown


def test_it_needs_neither_torch_nor_evaluate_and_keeps_stdout_clean(tmp_path: Path) -> None:
    options = files(tmp_path, b"the colour\n", b"the color\n")
    code = (
        f"import sys; from hf_asr.cli import main; code = main(['score', '--json', *{options!r}, "
        "'--normalizer', 'whisper_english']); heavy = {'torch', 'transformers', 'evaluate', 'datasets', 'pandas'}; "
        "assert not heavy & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["wer"] == 0.0
    assert done.stderr == ""
