"""``hf-asr report``: with the audio of the worst utterances where the corpus is there, and without it where not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.scored_run import AFTER, BEFORE, REFERENCES, make_scored_run
from helpers.tiny_corpus import make_tiny_corpus

from hf_asr.cli import main
from hf_asr.cli.run_report import encoded_clips
from hf_asr.config.arguments import DataArguments
from hf_asr.data.corpora import build_splits


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run whose test clips are those of a tiny corpus that lies beside it."""
    manifest = make_tiny_corpus(tmp_path / "corpus", train=2, validation=2, test=6)
    ids = [f"clip{index}.wav" for index in range(4, 10)]
    data = {"path": str(manifest), "columns": {"split": "split"}}
    return make_scored_run(tmp_path / "runs" / "tiny", data=data, ids=ids)


def test_the_worst_utterances_can_be_heard(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run_dir)]) == 0
    place = run_dir / "test" / "report.html"
    assert capsys.readouterr().out.strip() == str(place)
    wrong = sum(one != other for one, other in zip(REFERENCES, AFTER, strict=True))
    assert place.read_text().count("<audio") == wrong == 3


def test_without_the_corpus_the_page_says_why_it_is_silent(run_dir: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "corpus")
    assert main(["report", str(run_dir)]) == 0
    page = (run_dir / "test" / "report.html").read_text()
    assert "<audio" not in page
    assert "the corpus could not be read when this page was made" in page
    assert str(tmp_path) not in page


def test_no_clips_are_asked_for(run_dir: Path, tmp_path: Path) -> None:
    assert main(["report", str(run_dir), "--clips", "0", "--output", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<audio" not in page and "cannot be listened to" not in page


def test_several_runs_make_one_page(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = make_scored_run(tmp_path / "runs" / "other", name="other", after=BEFORE, ids=[f"{i}" for i in range(6)])
    assert main(["report", str(run_dir), str(other)]) == 0
    assert capsys.readouterr().out.strip() == "report.html"
    assert "2 runs side by side" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}", "--clips", "-1"], "--clips: expected 0 or more"),
        (["{run}/nothing"], "expected a run folder"),
        (["{run}", "--output", "{run}/config.yaml/page.html"], "expected a folder that can be written"),
    ],
)
def test_the_impossible_is_refused_with_one_message(
    run_dir: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["report", *(word.format(run=run_dir) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_clips_are_kept_until_the_bytes_are_used_up_and_broken_ones_left_out(tmp_path: Path) -> None:
    manifest = make_tiny_corpus(tmp_path, train=2, validation=2, test=6)
    data = DataArguments(corpus="manifest", path=str(manifest), columns={"split": "split"}, min_seconds=0.0)
    rows = build_splits(data, seed=0, names=("test",))["test"].rows
    ids = rows["id"][:]
    (tmp_path / "clip5.wav").write_bytes(b"no audio")
    everything = encoded_clips(rows, [*ids, "unknown"])
    assert list(everything) == [id for id in ids if id != "clip5.wav"]
    assert all(data.startswith(b"OggS") for data in everything.values())
    first = next(iter(everything.values()))
    assert list(encoded_clips(rows, ids, len(first))) == ids[:1]
