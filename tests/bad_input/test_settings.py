"""Settings that ask for something impossible, and places that cannot be written: one message, nothing half-done."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets.arrow_writer
import pytest
from helpers.outcomes import ENTRIES, MODES, Attack, Outcome, results_of
from helpers.tiny_release import SIZES, Release

WRITERS = ("cached", "prepare", "evaluate")


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    ("written", "advice"), [("Russian", "Write ru"), ("e", "code"), ("en_", "code"), ("ру", "code")]
)
def test_a_language_that_is_no_tag(attack: Attack, release: Release, entry: str, written: str, advice: str) -> None:
    outcome = attack.enter(entry, release.yaml, release.model, f"data.language={written}")
    outcome.assert_refused("data.language: expected a BCP-47 tag", f"found '{written}'", advice)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_language_token_that_the_tokenizer_lacks(attack: Attack, release: Release, entry: str) -> None:
    outcome = attack.enter(entry, release.yaml, release.model, "data.language=sah", "model.language_token=fr")
    words = ("model.language_token: expected a language", "(en, zh, de, es, ru)", "found 'fr'", "Choose")
    if entry == "doctor":
        assert outcome.code == 1 and all(word in outcome.out for word in words)
    else:
        outcome.assert_refused(*words)
    assert not (release.yaml.parent / "runs").exists()


HUB = "attacker/no-such-thing"
NAMED: dict[str, tuple[list[str], str]] = {
    "model": ([f"model.name_or_path={HUB}"], "model.name_or_path: expected a transformers checkpoint"),
    "tokenizer": (
        [f"model.tokenizer_name_or_path={HUB}"],
        "model.tokenizer_name_or_path: expected a Whisper tokenizer",
    ),
    "data set": (["data.corpus=hub", "data.path=null", f"data.name={HUB}"], f"the data set {HUB} cannot be loaded"),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("what", NAMED)
def test_a_hub_name_while_offline(attack: Attack, release: Release, entry: str, what: str) -> None:
    overrides, words = NAMED[what]
    model: Path | str = release.model
    if entry == "evaluate" and what == "model":
        model, overrides = HUB, []
    outcome = attack.enter(entry, release.yaml, Path(model), *overrides)
    if entry == "doctor":
        assert outcome.code == 1 and words in outcome.out and "HF_HUB_OFFLINE" in outcome.out
    else:
        outcome.assert_refused(words, "HF_HUB_OFFLINE", "with the Hub switched on")


@pytest.mark.parametrize("verb", ["transcribe", "evaluate"])
def test_a_hub_model_of_a_verb_while_offline(attack: Attack, release: Release, verb: str) -> None:
    own = ["--input", release.folder / "clips" / "c0.wav"]
    if verb == "evaluate":
        own = ["--config", release.yaml, "--output-dir", release.yaml.parent / "out"]
    attack.verb(verb, "--model", HUB, *own).assert_refused(HUB, "HF_HUB_OFFLINE")


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_made_anew(attack: Attack, release: Release, entry: str, refused: Outcome) -> None:
    """See that nothing of the attempt was kept, and that the next one, with room, does everything itself."""
    assert "reused" not in refused.err
    caches = release.yaml.parent / "features"
    assert not [path for path in caches.glob("*") if path.suffix != ".lock"]
    again = attack.enter(entry, release.yaml, release.model, "experiment.name=again")
    again.assert_done()
    if entry == "evaluate":
        assert results_of(release.yaml.parent / "scored")["num_utterances"] == SIZES["test"]
    else:
        assert f"features of train: {SIZES['train']} clips in " in again.err and "reused" not in again.err


@pytest.mark.parametrize("entry", WRITERS)
@pytest.mark.parametrize("place", ["write_batch", "finalize"])
def test_a_disk_that_fills_up_in_the_cache_step(
    attack: Attack, release: Release, entry: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(datasets.arrow_writer.ArrowWriter, place, full)
        refused = attack.enter(entry, release.yaml, release.model)
    refused.assert_refused("features.cache_dir: expected room", "the disk is full", "features.cache=false")
    assert_made_anew(attack, release, entry, refused)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 40 kB; skipped where none can be mounted."""
    yield from mounted(tmp_path / "disk", "size=40k")


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is mounted read-only; skipped where none can be mounted."""
    yield from mounted(tmp_path / "disk", "ro")


def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a disk of its own can only be mounted by root on Linux")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("entry", WRITERS)
def test_a_disk_too_small_for_the_cache(attack: Attack, release: Release, entry: str, small_disk: Path) -> None:
    refused = attack.enter(entry, release.yaml, release.model, f"features.cache_dir={small_disk}")
    refused.assert_refused("expected", "MB free", "found", "features.cache_dir to another disk")
    assert not [path for path in small_disk.rglob("*") if path.suffix != ".lock"]


@pytest.mark.parametrize("entry", ["cached", "streamed"])
def test_a_disk_too_small_for_a_checkpoint(attack: Attack, release: Release, entry: str, small_disk: Path) -> None:
    refused = attack.enter(entry, release.yaml, release.model, f"experiment.output_dir={small_disk}")
    refused.assert_refused("expected room on the disk", "resume_from_checkpoint=true")
    run = small_disk / entry
    assert not list(run.glob("checkpoints/checkpoint-*")) and not (run / "best_checkpoint").exists()


@pytest.mark.parametrize("entry", [*WRITERS, "streamed"])
def test_a_cache_on_a_read_only_disk(attack: Attack, release: Release, entry: str, read_only_disk: Path) -> None:
    refused = attack.enter(entry, release.yaml, release.model, f"features.cache_dir={read_only_disk}")
    refused.assert_refused("features.cache_dir: expected room", "Read-only file system", "features.cache=false")


@pytest.mark.parametrize("entry", [*WRITERS, "live", "streamed", "doctor"])
def test_everything_of_ours_on_a_read_only_disk(
    attack: Attack, release: Release, entry: str, read_only_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ASR_CACHE", str(read_only_disk))
    outcome = attack.enter(entry, release.yaml, release.model)
    if entry == "doctor":
        assert outcome.code == 1 and "HF_ASR_CACHE" in outcome.out
    else:
        outcome.assert_refused(str(read_only_disk), "Read-only file system", "HF_ASR_CACHE")


@pytest.mark.parametrize("entry", [*WRITERS, "streamed"])
def test_a_cache_that_may_not_be_written(
    attack: Attack, release: Release, entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For who is not root, too: what the system says is put in its mouth."""
    place, make = release.yaml.parent / "features", Path.mkdir

    def mkdir(path: Path, *arguments: object, **options: object) -> None:
        if path == place or place in path.parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        make(path, *arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(Path, "mkdir", mkdir)
        refused = attack.enter(entry, release.yaml, release.model)
    refused.assert_refused("features.cache_dir: expected room", "Permission denied", "features.cache=false")


@pytest.mark.parametrize("entry", [*WRITERS, "streamed"])
def test_a_file_where_the_cache_should_be(attack: Attack, release: Release, entry: str) -> None:
    (release.yaml.parent / "features").write_text("a file")
    attack.enter(entry, release.yaml, release.model).assert_refused("features.cache_dir", "cannot be written")


@pytest.mark.parametrize("mode", MODES)
def test_a_corpus_that_may_not_be_written_is_read(attack: Attack, release: Release, mode: str) -> None:
    os.chmod(release.folder, 0o555)
    outcome = attack.enter(mode, release.yaml, release.model)
    os.chmod(release.folder, 0o755)  # to be removed by who is not root
    outcome.assert_done()
    assert not (release.folder / "clip_durations.tsv").exists()
