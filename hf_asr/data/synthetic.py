"""The offline demo corpus: short sentences in English and Russian, said by espeak-ng's voices.

``data.name`` chooses one of two corpora: ``clean`` (the default: few voices, an even pace, no noise) and ``shifted``
(many other voices, other pitch and pace, noise at 10 to 25 dB). Each has the splits ``train``, ``validation`` and
``test``. No voice is in two of the six, and no sentence is in two splits. ``data.language`` (``en`` or ``ru``) keeps
one language, without it there are both. ``data.path`` is where the audio is written, once, by default the folder
``synthetic`` of our cache::

    <data.path>/
        clean-train-en-5f0c.../
            index.json
            clips/train-en-m2-0000.wav ...

What is said, by whom and how is a function of :data:`SEED` alone, and so are the samples.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from hf_asr.config.arguments import DataArguments
from hf_asr.data import espeak
from hf_asr.data.archives import cache_folder
from hf_asr.data.speaking import Clip, speak_clips
from hf_asr.errors import UserError
from hf_asr.files import write_whole
from hf_asr.utterance import AudioRef, Drops, Utterance

SEED = 42
INDEX = "index.json"
SPLITS = ("train", "validation", "test")

# A sentence takes one phrase of each column: 68 words together, and 4,096 sentences a language.
GRAMMAR: dict[str, tuple[tuple[str, ...], ...]] = {
    "en": (
        ("nobody", "everyone", "father", "grandma", "uncle", "my sister", "the queen", "a teacher"),
        ("finds", "paints", "wants", "sells", "carries", "hides", "brings", "loves"),
        ("two", "three", "five", "seven", "nine", "ten", "eleven", "twenty"),
        ("boats", "apples", "horses", "windows", "letters", "chairs", "bottles", "flowers"),
    ),
    "ru": (
        ("никто", "каждый", "отец", "бабушка", "дядя", "моя сестра", "королева", "учитель"),
        ("находит", "рисует", "хочет", "продаёт", "несёт", "прячет", "любит", "моет"),
        ("два", "три", "пять", "семь", "девять", "десять", "сорок", "двадцать"),
        ("лодки", "яблока", "лошади", "окна", "письма", "стула", "бутылки", "цветка"),
    ),
}
LANGUAGES = tuple(GRAMMAR)


@dataclass(frozen=True, slots=True)
class Split:
    """How a split is spoken.

    Attributes:
        clips: Clips of each language.
        voices: espeak-ng's variants, in turn.
    """

    clips: int
    voices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """What the splits of a corpus have in common.

    Attributes:
        rates: Slowest and fastest pace, words a minute.
        pitches: Lowest and highest pitch, 50 is a voice's own.
        noise: Lowest and highest signal-to-noise ratio in dB; None for no noise.
        splits: Name to split.
    """

    rates: tuple[int, int]
    pitches: tuple[int, int]
    noise: tuple[float, float] | None
    splits: dict[str, Split]


# espeak-ng's slow variants (Alicia, Marco, AnxiousAndy ...) are left out: all clips fit into two seconds.
CORPORA: dict[str, Corpus] = {
    "clean": Corpus(
        rates=(180, 195),
        pitches=(45, 55),
        noise=None,
        splits={
            "train": Split(800, ("m2", "f2", "m7", "f5", "Mike", "zac")),
            "validation": Split(60, ("victor", "steph3")),
            "test": Split(60, ("paul", "belinda")),
        },
    ),
    "shifted": Corpus(
        rates=(180, 230),
        pitches=(30, 70),
        noise=(10.0, 25.0),
        splits={
            "train": Split(
                1500,
                (
                    *("m1", "m3", "f1", "f3", "Alex", "Andrea", "m5", "Lee", "Annie", "Denis", "Diogo", "Gene"),
                    *("Henrique", "Hugo", "Jacky", "Mario", "Michael", "Nguyen", "Reed", "adam", "antonio", "boris"),
                    *("david", "edward", "grandma", "grandpa", "iven", "max", "norbert", "pablo", "rob"),
                    *("sandro", "steph", "Storm", "caleb", "gustave", "robert", "shelby"),
                ),
            ),
            "validation": Split(60, ("travis", "ian", "marcelo")),
            "test": Split(180, ("f4", "m6", "m8")),
        },
    ),
}


def read(data: DataArguments, split: str, drops: Drops) -> Iterator[Utterance]:
    """Yield the utterances of a split, speaking them first where that was not done yet.

    Args:
        data: Its ``name``, ``language`` and ``path`` are used.
        split: ``train``, ``validation`` or ``test``.
        drops: Takes nothing: every clip is sound.

    Raises:
        UserError: There is no such corpus, split or language, espeak-ng is not installed, or the folder cannot be
            written.
    """
    name = data.name or "clean"
    _check("data.name", name, tuple(CORPORA))
    _check("data.splits", split, SPLITS)
    if data.language is not None:
        _check("data.language", data.language, LANGUAGES)
    root = Path(data.path).expanduser() if data.path else cache_folder("synthetic")
    for language in LANGUAGES if data.language is None else (data.language,):
        folder = _spoken(root, name, split, language)
        for row in json.loads((folder / INDEX).read_text("utf-8")):
            yield _utterance(row, folder)


def plan(name: str, split: str, language: str) -> list[Clip]:
    """Return what is said in a split in one language, the voices in turn.

    Args:
        name: Key of :data:`CORPORA`.
        split: ``train``, ``validation`` or ``test``.
        language: ``en`` or ``ru``.
    """
    corpus, spoken = CORPORA[name], CORPORA[name].splits[split]
    # A text seeds through SHA-512, the same on every machine.
    chance = random.Random(f"{SEED} {name} {split} {language}")
    texts = sentences(language, split)
    chance.shuffle(texts)
    return [
        Clip(
            id=f"{split}-{language}-{voice}-{index:04}",
            text=texts[index % len(texts)],
            language=language,
            variant=voice,
            rate=chance.randint(*corpus.rates),
            pitch=chance.randint(*corpus.pitches),
            noise_db=round(chance.uniform(*corpus.noise), 1) if corpus.noise else None,
            noise_tilt=chance.choice((0.0, 0.5, 1.0, 1.5)),
            gain=chance.uniform(0.3, 1.0) if corpus.noise else 1.0,
        )
        for index, voice in zip(range(spoken.clips), itertools.cycle(spoken.voices), strict=False)
    ]


def sentences(language: str, split: str) -> list[str]:
    """Return the sentences of a split: 60 for validation, 180 for test, the rest of all that there are for train."""
    everything = [" ".join(phrases) for phrases in itertools.product(*GRAMMAR[language])]
    random.Random(f"{SEED} {language}").shuffle(everything)
    return {"validation": everything[:60], "test": everything[60:240], "train": everything[240:]}[split]


def _spoken(root: Path, name: str, split: str, language: str) -> Path:
    """Return the folder of a split in one language with its audio, which is made once."""
    clips = plan(name, split, language)
    key = json.dumps([[asdict(clip) for clip in clips], espeak.version()], sort_keys=True)
    folder = root / f"{name}-{split}-{language}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if (folder / INDEX).is_file():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not (folder / INDEX).is_file():
                _speak_into(folder, clips)
    except OSError as error:
        raise UserError(
            f"data.path: expected a folder to write some 100 MB of speech to, found {root}: {error.strerror}; "
            "give another one as data.path, or set HF_ASR_CACHE"
        ) from error
    return folder


def _speak_into(folder: Path, clips: Sequence[Clip]) -> None:
    """Write a split under another name; rename it when it is whole."""
    unfinished = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.unfinished")
    (unfinished / "clips").mkdir(parents=True)
    try:
        seconds = speak_clips(clips, unfinished / "clips")
        rows = [asdict(clip) | {"seconds": seconds[clip.id]} for clip in clips]
        write_whole(unfinished / INDEX, json.dumps(rows, ensure_ascii=False, indent=0))
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _utterance(row: dict[str, object], folder: Path) -> Utterance:
    id, language, variant = str(row["id"]), str(row["language"]), str(row["variant"])
    described = ("rate", "pitch", "noise_db")
    return Utterance(
        id=id,
        audio=AudioRef(path=str(folder / "clips" / f"{id}.wav")),
        text=str(row["text"]),
        speaker=f"{language}-{variant}",
        duration=float(str(row["seconds"])),
        language=language,
        corpus="synthetic",
        extra={name: str(row[name]) for name in described},
    )


def _check(key: str, found: str, known: Sequence[str]) -> None:
    if found not in known:
        raise UserError(f"{key}: expected one of {', '.join(known)} of the synthetic corpus, found {found!r}; use one")
