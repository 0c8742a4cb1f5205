"""Bad clips and rows: skipped, counted and named wherever a corpus is read, and none of them silently.

Every split of one release has one of each; it goes once through every way in, and each row of the table is looked for
in what they leave behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.outcomes import MODES, Attack, Outcome, results_of, sample_ids
from helpers.tiny_corpus import tone
from helpers.tiny_release import SIZES, Release, make_release

from hf_asr.data.audio import SAMPLE_RATE, encode


def wav(seconds: float, format: str = "wav", channels: int = 1) -> bytes:
    samples = tone(7, seconds)
    return encode(np.stack([samples] * channels, axis=1) if channels > 1 else samples, SAMPLE_RATE, format)


def truncated_mp3() -> bytes:
    whole = wav(2, "mp3")
    return whole[: len(whole) // 2 + 5]


def not_a_number() -> bytes:
    samples = tone(7, 1.0)
    samples[100] = np.nan
    return encode(samples, SAMPLE_RATE, "wav_float")


def add(name: str, data: bytes | None, text: str = "one two") -> Callable[[Release, str], object]:
    """Return a fault: a clip of these bytes, without a file for None, in the split that is given later."""
    return lambda release, split: release.add(split, f"{split}-{name}", text, data)


def add_loop(release: Release, split: str) -> None:
    (release.folder / "clips" / f"{split}-loop.wav").symlink_to(f"{split}-loop.wav")
    release.add(split, f"{split}-loop.wav", "one two")


def add_folder(release: Release, split: str) -> None:
    (release.folder / "clips" / f"{split}-folder.wav").mkdir()
    release.add(split, f"{split}-folder.wav", "one two")


def add_outside(release: Release, split: str) -> None:
    (release.folder.parent / f"{split}-outside.wav").write_bytes(wav(1))
    release.add(split, f"../../{split}-outside.wav", "one two")


def add_nul(release: Release, split: str) -> None:
    release.add(split, f"{split}-nul.wav", "one\0two", wav(1))


# Fault to (how it is made, the reason it is left out for, a word of the detail); the id is SPLIT-FAULT.
FAULTS: dict[str, tuple[Callable[[Release, str], object], str, str]] = {
    "missing": (add("missing.wav", None), "missing_audio", "no "),
    "folder": (add_folder, "missing_audio", "no "),
    "loop": (add_loop, "missing_audio", "no "),
    "outside": (add_outside, "outside_release", "is refused"),
    "truncated": (add("truncated.mp3", truncated_mp3()), "broken_audio", "is truncated"),
    "empty": (add("empty.wav", b""), "broken_audio", "is empty"),
    "silentless": (add("silentless.wav", encode(np.zeros(0), SAMPLE_RATE, "wav")), "broken_audio", "no samples"),
    "text": (add("text.mp3", b"This is a text, and no sound.\n" * 9), "broken_audio", "is no audio"),
    "nan": (add("nan.wav", not_a_number()), "broken_audio", "NaN"),
    "long": (add("long.wav", wav(31)), "too_long", "31.00 s, data.max_seconds is 30"),
    "window": (add("window.wav", wav(5)), "too_long", "5.00 s, the model's window is 4"),
    "short": (add("short.wav", wav(0.1)), "too_short", "0.10 s, data.min_seconds is 0.3"),
    "label": (add("label.wav", wav(1), "ж" * 100), "label_too_long", "the decoder has 128 positions"),
    "nul": (add_nul, "bad_row", "a NUL byte"),
}
COUNTS = Counter(reason for _, reason, _ in FAULTS.values())
# A text too long for the decoder cannot be learnt; where clips are scored, it is scored.
UNLEARNABLE = "label"
SCORED_COUNTS = Counter(reason for fault, (_, reason, _) in FAULTS.items() if fault != UNLEARNABLE)
# 8 channels are no fault
KEPT = {"train": SIZES["train"] + 1, "dev": SIZES["dev"] + 2, "test": SIZES["test"] + 2}
NAMES = {"train": "train", "validation": "dev", "test": "test"}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Release:
    """A release with one of each fault in every split."""
    release = make_release(tmp_path_factory.mktemp("broken"), model)
    for split in SIZES:
        release.add(split, f"{split}-channels.wav", "one two three", wav(1, channels=8))
        for make, _, _ in FAULTS.values():
            make(release, split)
    return release


@pytest.fixture(scope="module")
def runs(broken: Release, attack: Attack) -> dict[str, tuple[Path, Outcome]]:
    """The run folders of the three modes, each over one whole epoch, and what was printed."""
    found = {}
    for mode, words in MODES.items():
        outcome = attack.finetune(broken.yaml, f"experiment.name={mode}", "training.max_steps=6", *words)
        found[mode] = broken.yaml.parent / "runs" / mode, outcome
    return found


def name_of(fault: str, split: str, broken: Release) -> str:
    """Return what a fault is called: an id, or a line of a table."""
    lines = (broken.folder / f"{split}.tsv").read_bytes().split(b"\n")
    line = next((number for number, line in enumerate(lines, 1) if b"\0" in line), 0)
    return f"{broken.folder / f'{split}.tsv'}, line {line}" if fault == "nul" else f"{split}-{fault}"


def found_in(results: dict[str, Any], reason: str, name: str) -> str:
    """Return the detail of a clip in test_results.json."""
    return next(detail for id, detail in results["skipped_items"][reason] if id == name)


@pytest.mark.parametrize("mode", MODES)
def test_the_run_ends_well_and_every_row_is_accounted_for(runs: dict[str, tuple[Path, Outcome]], mode: str) -> None:
    run, outcome = runs[mode]
    outcome.assert_done()
    for part in ("baseline", "test"):
        results = results_of(run / part)
        assert results["num_utterances"] == KEPT["test"]
        assert results["skipped"] == dict(SCORED_COUNTS)
    trained = Counter(sample_ids(run)[: KEPT["train"]])
    assert len(trained) == KEPT["train"] and set(trained.values()) == {1}
    assert "train-channels" in trained


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", MODES)
def test_a_bad_clip_is_named_in_the_results_and_the_log(
    runs: dict[str, tuple[Path, Outcome]], broken: Release, fault: str, mode: str
) -> None:
    run, _ = runs[mode]
    _, reason, detail = FAULTS[fault]
    learnable = fault != UNLEARNABLE
    if learnable:
        assert detail in found_in(results_of(run / "test"), reason, name_of(fault, "test", broken))
    log = (run / "training.log").read_text()
    for split in NAMES.values() if learnable else ["train"]:
        name = name_of(fault, split, broken)
        assert any(name in line and reason in line and detail in line for line in log.splitlines()), name
    assert f"train-{fault}" not in sample_ids(run)


@pytest.mark.parametrize("mode", MODES)
def test_the_card_and_the_screen_count_every_row(runs: dict[str, tuple[Path, Outcome]], mode: str) -> None:
    run, outcome = runs[mode]
    rows = [line.split("|") for line in (run / "README.md").read_text().splitlines() if line.startswith("| ")]
    table = {row[1].strip(): [cell.strip() for cell in row[2:5]] for row in rows}
    screen = " ".join(outcome.out.replace("│", " ").split())
    for split, name in NAMES.items():
        clips, _, left_out = table[split]
        streamed = mode == "streamed" and split == "train"
        assert streamed or clips == str(KEPT[name])
        counts = COUNTS if split == "train" else SCORED_COUNTS
        assert sorted(int(word.split(": ")[1]) for word in left_out.split(", ")) == sorted(counts.values())
        told = left_out.replace(":", "")
        assert f" {split} {'a stream' if streamed else f'{clips} clips, 0.00 h'}; left out: {told}" in screen


@pytest.mark.parametrize("split", NAMES)
@pytest.mark.parametrize("mode", MODES)
def test_evaluate_counts_and_names_them(attack: Attack, broken: Release, tmp_path: Path, split: str, mode: str) -> None:
    words = ("--model", broken.model, "--config", broken.yaml, "--split", split, "--output-dir", tmp_path)
    outcome = attack.verb("evaluate", *words, *MODES[mode])
    outcome.assert_done()
    results = results_of(tmp_path)
    kept = KEPT[NAMES[split]] + (split == "train")  # nothing is learnt from it here
    assert (results["num_utterances"], results["skipped"]) == (kept, dict(SCORED_COUNTS))
    for fault, (_, reason, detail) in FAULTS.items():
        if fault == UNLEARNABLE:
            continue
        assert detail in found_in(results, reason, name_of(fault, NAMES[split], broken))


@pytest.mark.parametrize("words", [[], ["features.num_proc=2"]], ids=["one process", "two"])
def test_preparing_counts_them(attack: Attack, broken: Release, tmp_path: Path, words: list[str]) -> None:
    outcome = attack.prepare(broken.yaml, f"features.cache_dir={tmp_path}", *words)
    outcome.assert_done()
    for split, table in NAMES.items():
        line = next(line for line in outcome.out.splitlines() if line.startswith(f"{split}: {KEPT[table]} clips"))
        for reason, number in (COUNTS if split == "train" else SCORED_COUNTS).items():
            assert f"'{reason}': {number}" in line


@pytest.fixture(scope="module")
def doctors(broken: Release, attack: Attack) -> dict[str, Outcome]:
    """What doctor says of a table, and of a stream."""
    return {mode: attack.verb("doctor", "--config", broken.yaml, *MODES[mode]) for mode in ("cached", "streamed")}


@pytest.mark.parametrize("reason", ["missing_audio", "outside_release", "broken_audio", "bad_row"])
@pytest.mark.parametrize("mode", ["cached", "streamed"])
def test_doctor_finds_them(doctors: dict[str, Outcome], broken: Release, mode: str, reason: str) -> None:
    outcome = doctors[mode]
    assert outcome.code == 1 and "Traceback" not in outcome.err
    for fault, (_, why, _) in FAULTS.items():
        if why == reason and fault not in ("truncated", "nan"):  # these are found where clips are decoded
            for split in NAMES.values():
                assert name_of(fault, split, broken) in outcome.out, (fault, split)
    assert "train: train-nan: NaN" in outcome.out and "is truncated" in outcome.out
    assert "label lengths" in outcome.out and "train-label (206)" in outcome.out


def test_doctor_lists_a_text_too_long_for_its_clip(attack: Attack, release: Release) -> None:
    release.add("train", "hasty.wav", "one two three four five six seven " * 3, wav(1))
    outcome = attack.verb("doctor", "--config", release.yaml)
    assert outcome.code == 1
    line = next(line for line in outcome.out.splitlines() if "too long for their clip" in line)
    assert "train: hasty (10" in line and "c1" not in line


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "data"), [("nan.wav", not_a_number()), ("empty.wav", b""), ("truncated.mp3", truncated_mp3())]
)
def test_a_bad_clip_ends_the_run_where_that_is_asked_for(
    attack: Attack, release: Release, name: str, data: bytes, mode: str
) -> None:
    release.add("train", name, "one two", data)
    words = ("data.on_bad_clip=raise", "training.max_steps=3", "training.eval_strategy=no")
    outcome = attack.enter(mode, release.yaml, release.model, *words)
    outcome.assert_refused("data.on_bad_clip=raise: expected every clip to be usable", name.split(".")[0], "skip")
