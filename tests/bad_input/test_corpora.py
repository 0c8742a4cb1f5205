"""Bad tables: what cannot be read is refused with one message, what an editor did to a table is undone."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.outcomes import ENTRIES, Attack
from helpers.tiny_release import SIZES, Release, sentence

Break = Callable[[Release], object]


def each_table(change: Callable[[Path], object]) -> Break:
    """Return a break of all three TSVs."""
    return lambda release: [change(release.folder / f"{split}.tsv") for split in SIZES]


def make_folder(table: Path) -> None:
    table.unlink()
    table.mkdir()


def make_loop(table: Path) -> None:
    table.unlink()
    table.symlink_to(table.name)


def rewritten(change: Callable[[bytes], bytes]) -> Break:
    """Return a break that changes the bytes of all three TSVs."""
    return lambda release: release.rewrite(change)


IMPOSSIBLE: dict[str, tuple[Break, tuple[str, ...]]] = {
    "missing folder": (lambda r: shutil.rmtree(r.folder), ("expected a Common Voice release", "found nothing")),
    "missing file": (each_table(Path.unlink), ("no train.tsv", "name one in data.splits")),
    "directory for a file": (each_table(make_folder), ("train.tsv", "found a folder", "give the file itself")),
    "loop of links": (each_table(make_loop), ("train.tsv", "cannot be read", "Too many levels of symbolic links")),
    "empty": (rewritten(lambda b: b""), ("train.tsv is empty", "expected a header")),
    "without a needed column": (
        rewritten(lambda b: b.replace(b"sentence", b"words")),
        ("expected the column sentence", "found client_id, path, words"),
    ),
    "header only": (rewritten(lambda b: b.split(b"\n")[0] + b"\n"), ("a header and no rows", "expected one row")),
    "wrong delimiter": (
        rewritten(lambda b: b.replace(b"\t", b",")),
        ("separated by commas", "expected tabs"),
    ),
    "UTF-16": (rewritten(lambda b: b.decode().encode("utf-16")), ("UTF-16", "expected UTF-8")),
    "a NUL in the header": (rewritten(lambda b: b"\0" + b), ("a NUL byte", "expected a UTF-8 table")),
}
READABLE: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda b: b,
    "BOM": lambda b: b"\xef\xbb\xbf" + b,
    "CRLF": lambda b: b.replace(b"\n", b"\r\n"),
    "no line end at the end": lambda b: b.removesuffix(b"\n"),
    "empty lines": lambda b: b + b"\n\n",
}
SPLITS = {"train": "train", "validation": "dev", "test": "test"}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("fault", IMPOSSIBLE)
def test_what_cannot_be_read_is_refused(attack: Attack, release: Release, fault: str, entry: str) -> None:
    change, words = IMPOSSIBLE[fault]
    change(release)
    outcome = attack.enter(entry, release.yaml, release.model)
    if entry == "doctor":  # the same, as a finding among others
        assert outcome.code == 1 and "Traceback" not in outcome.err
        assert all(word in outcome.out for word in words), outcome.out
    else:
        said = [word.replace("train", "test") for word in words] if entry == "evaluate" else words
        outcome.assert_refused(*said)
    assert not (release.yaml.parent / "runs").exists()
    assert not (release.yaml.parent / "features").exists()


def references(attack: Attack, release: Release, split: str) -> list[str]:
    """Score a split; return the references of its clips, in the order of the predictions."""
    folder = release.yaml.parent / f"scored-{split}"
    words = ("--model", release.model, "--config", release.yaml, "--split", split, "--output-dir", folder)
    attack.verb("evaluate", *words, "--save-predictions").assert_done()
    with (folder / "test_predictions.csv").open(newline="", encoding="utf-8") as file:
        return [row["reference"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("form", READABLE)
def test_what_an_editor_did_is_undone(attack: Attack, release: Release, form: str) -> None:
    release.rewrite(READABLE[form])
    first = 0
    for split, table in SPLITS.items():
        expected = [sentence(index) for index in range(first, first + SIZES[table])]
        assert references(attack, release, split) == expected
        first += SIZES[table]


@pytest.mark.parametrize("mode", ["cached", "live", "streamed"])
@pytest.mark.parametrize("form", ["BOM", "CRLF"])
def test_what_an_editor_did_does_not_reach_the_labels(attack: Attack, release: Release, form: str, mode: str) -> None:
    release.rewrite(READABLE[form])
    outcome = attack.enter(mode, release.yaml, release.model, "data.shuffle_buffer=1", "--dry-run")
    outcome.assert_done()
    for index in range(SIZES["train"]):
        prefix = "<|en|><|transcribe|><|notimestamps|>"
        assert f"c{index}\n  reference: {sentence(index)}\n  labels:    {prefix} {sentence(index)}<|endoftext|>" in (
            outcome.out
        )


QUOTED = {
    '"one two': '"one two',
    'he said "one" two': 'he said "one" two',
    '"one" and "two"': '"one" and "two"',
    '"one ""two"" three"': 'one "two" three',  # CSV software wrapped it
    "one' two`": "one' two`",
}


@pytest.mark.parametrize("written", QUOTED)
def test_quotes_in_a_sentence_cost_no_row(attack: Attack, release: Release, written: str) -> None:
    release.rewrite(lambda b: b.replace(f"\t{sentence(10)}\t".encode(), f"\t{written}\t".encode()), "test")
    expected = [sentence(9), QUOTED[written], sentence(11), sentence(12)]
    assert references(attack, release, "test") == expected
