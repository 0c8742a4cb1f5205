"""CTC models and classifiers that are asked for what cannot be: one message, exit code 2, no run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.outcomes import Attack, Outcome
from helpers.tiny_classifier import make_tiny_wav2vec2
from helpers.tiny_corpus import tone
from helpers.tiny_ctc import make_tiny_ctc
from helpers.tiny_speech2text import make_tiny_speech2text
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.data.audio import SAMPLE_RATE, encode

ROWS = {"train": 6, "validation": 2, "test": 2}
# Lines of a manifest's columns, by the number of the clip.
KINDS, WORDS = ("low", "high"), ("abc", "dea")


@dataclass(frozen=True)
class Parts:
    """Checkpoints by name, and a corpus of tones with texts and labels.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    def yaml(self, recipe: str, model: str, place: Path) -> Path:
        """Write the YAML of one step; a model that is none of ours is taken as it is."""
        label = {"label": "kind"} if recipe == "finetune_classifier" else {}
        found = self.folder / model
        sections: dict[str, Any] = {
            "experiment": {"name": "attacked", "output_dir": str(place / "runs")},
            "model": {"name_or_path": str(found) if found.is_dir() else model},
            "data": {
                "corpus": "manifest",
                "path": str(self.folder / "corpus.csv"),
                "columns": {"split": "split", **label},
                "max_seconds": 2,
            },
            "features": {"cache_dir": str(place / "features"), "num_proc": 1},
            "training": {"max_steps": 1, "per_device_train_batch_size": 2, "use_cpu": True, "eval_strategy": "no"},
            "evaluation": {"batch_size": 4, "baseline": False},
        }
        path = place / "run.yaml"
        path.write_text(json.dumps(sections), encoding="utf-8")
        return path


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Tiny checkpoints of several families, and ten clips."""
    folder = tmp_path_factory.mktemp("families")
    make_tiny_ctc(folder / "ctc")
    make_tiny_ctc(folder / "russian", letters="бвг")
    make_tiny_wav2vec2(folder / "encoder")
    make_tiny_whisper(folder / "whisper", chunk_length=2)
    make_tiny_speech2text(folder / "speech2text")
    write_corpus(folder)
    (folder / "words.arpa").write_text("no language model\n")
    (folder / "broken.json").write_text('{"a": 1,')
    (folder / "empty").mkdir()
    return Parts(folder)


def write_corpus(folder: Path) -> None:
    """Write corpus.csv and its clips; the columns ``one``, ``rare``, ``nan`` and ``pitch`` are for the attacks."""
    lines, number = ["path,text,kind,one,rare,nan,pitch,speaker,split"], 0
    for split, rows in ROWS.items():
        for _ in range(rows):
            file = folder / f"clip{number}.wav"
            file.write_bytes(encode(tone(number, 0.5), SAMPLE_RATE, "wav"))
            rare = "odd" if split == "test" else KINDS[number % 2]
            shown = (WORDS[number % 2], KINDS[number % 2], "same", rare, ("nan", "inf")[number % 2], str(number))
            lines.append(",".join((file.name, *shown, f"{split}{number}", split)))
            number += 1
    (folder / "corpus.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


CTC, CLASSIFIER, SEQ2SEQ = "finetune_ctc", "finetune_classifier", "finetune_seq2seq"
AUGMENT = "augment.enabled=true"
LORA = "peft.method=lora"
# What: (recipe, model, changes, words of the one message).
REFUSED: dict[str, tuple[str, str, list[str], tuple[str, ...]]] = {
    "Whisper in the CTC recipe": (CTC, "whisper", [], ("Start recipes/finetune_seq2seq.py",)),
    "CTC in the seq2seq recipe": (SEQ2SEQ, "ctc", [], ("Start recipes/finetune_ctc.py",)),
    "another recipe's family": (
        CLASSIFIER,
        "whisper",
        ["model.family=whisper"],
        ("model.family: expected classifier",),
    ),
    "a family by force": (CTC, "whisper", ["model.family=ctc"], ("found model_type 'whisper'",)),
    "no vocabulary": (CTC, "encoder", ["ctc.vocabulary=checkpoint"], ("expects a checkpoint with a CTC head",)),
    "a broken vocabulary": (CTC, "ctc", ["ctc.vocabulary=PARTS/broken.json"], ("ctc.vocabulary", "vocab.json")),
    "a vocabulary of another alphabet": (CTC, "russian", [], ("ctc.vocabulary", "found none of abcde", "extend")),
    # Without the extra `lm` the message names that instead.
    "no language model": (CTC, "ctc", ["ctc.lm=PARTS/words.arpa", "ctc.beam=4"], ("ctc.lm: expected",)),
    "no beam": (CTC, "ctc", ["ctc.beam=0"], ("ctc.beam", "at least 1")),
    "CTC in 4 bits": (CTC, "ctc", ["model.quantization=4bit"], ("model.quantization", LORA)),
    "a bank for texts": (CTC, "ctc", ["features.bank=on"], ("features.bank", "only a classifier")),
    "two texts at once": (CTC, "ctc", [AUGMENT, "augment.mix.probability=1"], ("augment.mix", "Remove")),
    "no noise": (CTC, "ctc", [AUGMENT, "augment.noise={folder: PARTS/empty}"], ("augment.noise.folder", "empty")),
    "no such attention": (
        CTC,
        "config:w2v-bert-mini",
        ["model.attn_implementation=flash_attention_2"],
        ("model.attn_implementation", "Set model.attn_implementation=sdpa"),
    ),
    "no label column": (CLASSIFIER, "encoder", ["data.columns.label=emotion"], ("no column for data.columns.label",)),
    "one class": (CLASSIFIER, "encoder", ["data.columns.label=one"], ("at least two classes", "'same'")),
    "a new class in test": (CLASSIFIER, "encoder", ["data.columns.label=rare"], ("test", "found odd as well")),
    "texts for numbers": (CLASSIFIER, "encoder", ["head.task=regression"], ("expected numbers", "'low'")),
    "no numbers": (CLASSIFIER, "encoder", ["head.task=regression", "data.columns.label=nan"], ("expected numbers",)),
    "weights without classes": (
        CLASSIFIER,
        "encoder",
        ["head.task=regression", "data.columns.label=pitch", "head.class_weights=balanced"],
        ("head.class_weights", "no classes"),
    ),
    "misspelt pooling": (CLASSIFIER, "encoder", ["head.pooling=meen"], ("head.pooling", "Did you mean mean?")),
    "a scale of nothing": (CLASSIFIER, "encoder", ["head.scales=[0]"], ("head.scales", "at least 1")),
    "batch norm of one clip": (
        CLASSIFIER,
        "encoder",
        ["head.norm=batch", "training.per_device_train_batch_size=1"],
        ("head.norm", "above 1"),
    ),
    "suspicious labels": (CLASSIFIER, "encoder", ["data.drop_suspicious=0.3"], ("data.drop_suspicious", "Remove it")),
    "attention that is not installed": (
        CLASSIFIER,
        "whisper",
        ["model.attn_implementation=flash_attention_2"],
        ("model.attn_implementation", "sdpa"),
    ),
    "adapters on a convolution": (CLASSIFIER, "whisper", [LORA, "peft.target_modules=[conv1]"], ("conv1", "Conv1d")),
    "adapters on nothing": (CLASSIFIER, "whisper", [LORA, "peft.target_modules=[]"], ("peft.target_modules",)),
    "adapters on no name": (CLASSIFIER, "whisper", [LORA, "peft.target_modules=['']"], ("peft.target_modules", "''")),
    "one_cycle's misspelt key": (CLASSIFIER, "encoder", ["training.scheduler={name: one_cycle, pct: 3}"], ("pct",)),
    "a schedule without its key": (
        CLASSIFIER,
        "encoder",
        ["training.scheduler={name: cosine_with_min_lr}"],
        ("training.scheduler", "min_lr"),
    ),
    "a schedule's key that is no number": (
        CTC,
        "ctc",
        ["training.scheduler={name: polynomial, power: steep}"],
        ("training.scheduler", "'steep'"),
    ),
    "a schedule divided by 0": (
        CTC,
        "ctc",
        ["training.scheduler={name: one_cycle, div_factor: 0}"],
        ("training.scheduler", "division by zero"),
    ),
    "a schedule longer than the training": (
        CTC,
        "ctc",
        ["training.scheduler={name: wsd, num_decay_steps: 100}"],
        ("training.scheduler", "at most 1 steps"),
    ),
}
# What is odd, and works: (recipe, model, changes, words in the log).
TAKEN: dict[str, tuple[str, str, list[str], str]] = {
    "an encoder without SDPA": (CLASSIFIER, "speech2text", [], ""),
    "a scale longer than the clip": (CLASSIFIER, "encoder", ["head.scales=[1, 1000]"], ""),
    "a last batch of one clip under batch norm": (
        CLASSIFIER,
        "encoder",
        ["head.norm=batch", "training.per_device_train_batch_size=5", "training.max_steps=2"],
        "",
    ),
    "a rank above the layer's size": (CTC, "ctc", [LORA, "peft.r=100"], "peft.r: 100 is above the 24"),
}


def enter(attack: Attack, parts: Parts, place: Path, recipe: str, model: str, changes: list[str]) -> Outcome:
    given = [text.replace("PARTS", str(parts.folder)) for text in changes]
    return attack.recipe(recipe, parts.yaml(recipe, model, place), *given)


@pytest.mark.parametrize("what", REFUSED)
def test_refused(attack: Attack, parts: Parts, tmp_path: Path, what: str) -> None:
    recipe, model, changes, words = REFUSED[what]
    enter(attack, parts, tmp_path, recipe, model, changes).assert_refused(*words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("what", TAKEN)
def test_taken(attack: Attack, parts: Parts, tmp_path: Path, what: str) -> None:
    recipe, model, changes, words = TAKEN[what]
    enter(attack, parts, tmp_path, recipe, model, changes).assert_done()
    assert words in (tmp_path / "runs" / "attacked" / "training.log").read_text()


def test_characters_that_a_checkpoint_lacks_are_told(attack: Attack, parts: Parts, tmp_path: Path) -> None:
    text = (parts.folder / "corpus.csv").read_text().replace("clip0.wav,abc", "clip0.wav,héllo")
    corpus = parts.folder / "accents.csv"
    corpus.write_text(text, encoding="utf-8")
    outcome = enter(attack, parts, tmp_path, CTC, "ctc", [f"data.path={corpus}", "--dry-run"])
    outcome.assert_done()
    assert "1 of 9 characters of the training texts are unknown to it: é" in outcome.err


def test_clips_of_a_few_samples_are_left_out_of_every_classifier(attack: Attack, parts: Parts, tmp_path: Path) -> None:
    (parts.folder / "blip.wav").write_bytes(encode(tone(1, 0.001), SAMPLE_RATE, "wav"))
    corpus = parts.folder / "blips.csv"
    corpus.write_text((parts.folder / "corpus.csv").read_text() + "blip.wav,a,low,same,low,nan,1,train9,train\n")
    changes = [f"data.path={corpus}", "data.min_seconds=0"]
    enter(attack, parts, tmp_path, CLASSIFIER, "speech2text", changes).assert_done()
    assert "blip.wav" in (tmp_path / "runs" / "attacked" / "training.log").read_text()


def test_doctor_looks_at_labels_as_the_classifiers_recipe_does(attack: Attack, parts: Parts, tmp_path: Path) -> None:
    yaml = parts.yaml(CLASSIFIER, "encoder", tmp_path)
    healthy = attack.verb("doctor", "--config", yaml)
    assert "classes" in healthy.out and "high, low" in healthy.out and "ctc.vocabulary" not in healthy.out
    odd = attack.verb("doctor", "--config", yaml, "data.columns.label=rare")
    assert odd.code == 1 and "found odd as well" in " ".join(odd.out.split())


def test_a_saved_classifier_keeps_its_head(attack: Attack, parts: Parts, tmp_path: Path) -> None:
    enter(attack, parts, tmp_path, CLASSIFIER, "encoder", []).assert_done()
    best = tmp_path / "runs" / "attacked" / "best_checkpoint"
    changes = ["experiment.name=again", "head.pooling=mean"]
    enter(attack, parts, tmp_path, CLASSIFIER, str(best), changes).assert_done()
    assert "head.pooling: not used" in (tmp_path / "runs" / "again" / "training.log").read_text()
    for recipe in (CTC, SEQ2SEQ):
        enter(attack, parts, tmp_path, recipe, str(best), ["experiment.name=other"]).assert_refused(
            "Start recipes/finetune_classifier.py"
        )
    attack.verb("transcribe", "--model", best, "--input", parts.folder / "clip0.wav").assert_refused("--model")
