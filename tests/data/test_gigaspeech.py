"""GigaSpeech.json: subsets, tags, garbage, and segments that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_asr.config.arguments import DataArguments
from hf_asr.data import audio, gigaspeech
from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.data.gigaspeech import GARBAGE, PUNCTUATION, plain_text
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance

OPUS = "audio/podcast/P0001/POD1.opus"
WORDS = st.lists(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ'-", min_size=1, max_size=8), max_size=6)


def segment(sid: str, begin: float, end: float, text: str = "HELLO", *subsets: str, **rest: Any) -> dict[str, Any]:
    names = [f"{{{name}}}" for name in subsets or ("XL", "L", "M", "S", "XS")]
    return {
        "sid": sid,
        "speaker": "N/A",
        "begin_time": begin,
        "end_time": end,
        "text_tn": text,
        "subsets": names,
    } | rest


def entry(path: str = OPUS, *segments: dict[str, Any], duration: float = 4.0, **rest: Any) -> dict[str, Any]:
    return {
        "path": path,
        "aid": Path(path).stem,
        "duration": duration,
        "source": "podcast",
        "segments": list(segments),
    } | rest


def corpus(folder: Path, *audios: dict[str, Any], indent: int | None = 1) -> Path:
    """Write GigaSpeech.json; every file that it names and that is called POD... is there."""
    content = {"dataset": "GigaSpeech", "language": "EN", "version": "v1.0.0", "audios": list(audios)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "GigaSpeech.json").write_text(json.dumps(content, indent=indent))
    sound = encode(np.linspace(0, 0.1, 4 * SAMPLE_RATE, dtype=np.float32), SAMPLE_RATE, "opus")
    for path in (folder / str(one["path"]) for one in audios):
        if path.name.startswith("POD"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sound)
    return folder


def read(path: Path | None, split: str = "XS", **keys: Any) -> tuple[list[Utterance], Drops]:
    drops = Drops()
    data = DataArguments(corpus="gigaspeech", path=path and str(path), **keys)
    return list(gigaspeech.read(data, split, drops)), drops


def ids(rows: list[Utterance]) -> list[str]:
    return [row.id for row in rows]


@pytest.mark.parametrize(
    ("tagged", "plain"),
    [
        ("HELLO <COMMA> YOU <PERIOD>", "HELLO, YOU."),
        ("REALLY <QUESTIONMARK> YES <EXCLAMATIONPOINT>", "REALLY? YES!"),
        ("AS  IT   IS", "AS IT IS"),
        ("<SIL>", ""),
        ("<MUSIC> <NOISE>", ""),
        ("<OTHER> <PERIOD>", ""),
        ("WELL <NOISE> THEN", "WELL THEN"),
        ("<COMMA> AND", "AND"),
        ("DON'T <COMMA> <COMMA> NO", "DON'T,, NO"),
        ("UNKNOWN <TAG> STAYS", "UNKNOWN <TAG> STAYS"),
        ("A < B > C", "A < B > C"),
        ("", ""),
    ],
)
def test_tags(tagged: str, plain: str) -> None:
    assert plain_text(tagged) == plain


@settings(max_examples=60, deadline=None)
@given(words=WORDS, data=st.data())
def test_tags_never_touch_words(words: list[str], data: st.DataObject) -> None:
    tags = st.lists(st.sampled_from([*PUNCTUATION, *GARBAGE]), max_size=2)
    tagged = " ".join(part for word in words for part in (*data.draw(tags), word)) + " " + " ".join(data.draw(tags))
    plain = plain_text(tagged)
    assert plain.translate(str.maketrans("", "", "".join(PUNCTUATION.values()))).split() == words
    assert "<" not in plain
    assert plain == plain_text(plain)
    assert plain == plain.strip()


def test_segments_of_a_subset(tmp_path: Path) -> None:
    first = segment("S0", 0.5, 1.75, "HELLO <COMMA> YOU", speaker="ann")
    corpus(tmp_path, entry(OPUS, first, segment("S1", 2, 3, "LARGE", "XL"), category="Education"))
    rows, drops = read(tmp_path)
    assert rows == [
        Utterance(
            id="S0",
            audio=AudioRef(path=str(tmp_path / OPUS), start=0.5, end=1.75),
            text="HELLO, YOU",
            speaker="ann",
            duration=1.25,
            language="en",
            corpus="gigaspeech",
            extra={"aid": "POD1", "source": "podcast", "category": "Education"},
        )
    ]
    assert drops.total() == 0
    assert [(row.id, row.speaker) for row in read(tmp_path, "XL")[0]] == [("S0", "ann"), ("S1", "")]


@pytest.mark.parametrize("split", ["S", "s", "{S}"])
def test_a_subset_with_and_without_braces(tmp_path: Path, split: str) -> None:
    corpus(tmp_path, entry(OPUS, segment("S0", 0, 1, "IN", "XL", "S"), segment("S1", 1, 2, "OUT", "XL")))
    assert ids(read(tmp_path, split)[0]) == ["S0"]


@pytest.mark.parametrize(
    ("split", "subset", "expected"),
    [
        ("train", None, ["S0", "S1"]),
        ("train", "XS", ["S0"]),
        ("train", "{xs}", ["S0"]),
        ("validation", None, ["D"]),
        ("validation", "XS", ["D"]),
        ("dev", None, ["D"]),
        ("test", None, ["T"]),
    ],
)
def test_our_splits_are_subsets(tmp_path: Path, split: str, subset: str | None, expected: list[str]) -> None:
    segments = [("S0", ("XL", "XS")), ("S1", ("XL",)), ("D", ("DEV",)), ("T", ("TEST",))]
    corpus(
        tmp_path,
        entry(OPUS, *(segment(sid, n / 2, n / 2 + 0.4, "X", *names) for n, (sid, names) in enumerate(segments))),
    )
    assert ids(read(tmp_path, split, subset=subset)[0]) == expected


@pytest.mark.parametrize("split", ["huge", "train.tsv"])
def test_an_unknown_subset_names_the_known(tmp_path: Path, split: str) -> None:
    corpus(tmp_path, entry(OPUS, segment("S0", 0, 1)))
    with pytest.raises(UserError, match="subsets are XS, S, M, L, XL, DEV, TEST; found"):
        read(tmp_path, split)


def test_a_subset_that_has_no_segment_names_those_that_have(tmp_path: Path) -> None:
    corpus(tmp_path, entry(OPUS, segment("S0", 0, 1, "X", "XL", "S")))
    with pytest.raises(UserError, match="has no segment of subset DEV; its subsets are S, XL;"):
        read(tmp_path, "validation")


def test_garbage_is_dropped_and_counted(tmp_path: Path) -> None:
    texts = ["<SIL>", "<MUSIC>", "<NOISE>", "<OTHER>", "SPEECH"]
    corpus(tmp_path, entry(OPUS, *(segment(f"S{n}", n / 2, n / 2 + 0.4, text) for n, text in enumerate(texts))))
    rows, drops = read(tmp_path)
    assert ids(rows) == ["S4"]
    assert drops.reasons == {"garbage": [(f"S{n}", text) for n, text in enumerate(texts[:4])]}


def test_missing_and_refused_files_are_named(tmp_path: Path) -> None:
    corpus(
        tmp_path / "gs",
        entry("audio/gone.opus", segment("S0", 0, 1), segment("S1", 1, 2)),
        entry("../POD9.opus", segment("S2", 0, 1)),
        entry(OPUS, segment("S3", 0, 1)),
    )
    rows, drops = read(tmp_path / "gs")
    assert ids(rows) == ["S3"]
    assert drops.reasons["missing_audio"] == [(sid, f"no audio/gone.opus in {tmp_path / 'gs'}") for sid in ("S0", "S1")]
    assert drops.reasons["outside_release"] == [("S2", "../POD9.opus is refused, it leads out of the release")]


@pytest.mark.parametrize(
    ("begin", "end", "kept"),
    [(0, 4, True), (3, 4.09, True), (3, 4.2, False), (5, 6, False), (-0.1, 1, False), (2, 2, False), (2, 1, False)],
)
def test_segments_outside_their_file(tmp_path: Path, begin: float, end: float, kept: bool) -> None:
    corpus(tmp_path, entry(OPUS, segment("S0", begin, end), segment("S1", 0, 1)))
    rows, drops = read(tmp_path)
    assert ids(rows) == (["S0", "S1"] if kept else ["S1"])
    assert drops.counts() == ({} if kept else {"outside_audio": 1})
    for row in rows:
        assert len(audio.load(row.audio)) > 0


@pytest.mark.parametrize(
    "wrong", [{"begin_time": None}, {"begin_time": "soon"}, {"text_tn": None}, {"sid": ..., "end_time": ...}]
)
def test_segments_without_what_they_need(tmp_path: Path, wrong: dict[str, Any]) -> None:
    bad = {name: value for name, value in (segment("S0", 0, 1) | wrong).items() if value is not ...}
    corpus(tmp_path, entry(OPUS, bad, segment("S1", 1, 2)))
    rows, drops = read(tmp_path)
    assert ids(rows) == ["S1"]
    assert drops.counts() == {"bad_row": 1}


def test_a_segment_listed_twice(tmp_path: Path) -> None:
    corpus(tmp_path, entry(OPUS, segment("S0", 0, 1), segment("S0", 1, 2)))
    rows, drops = read(tmp_path)
    assert ids(rows) == ["S0"]
    assert drops.counts() == {"duplicate_id": 1}


@pytest.mark.parametrize("block", [1, 7, 64, 2**22])
@pytest.mark.parametrize("indent", [None, 1])
def test_the_json_is_read_in_blocks_of_any_size(
    tmp_path: Path, block: int, indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gigaspeech, "_BLOCK", block)
    audios = [entry(OPUS, segment(f"S{n}", 0, 1, 'A "}],{[" TRAP')) for n in range(3)]
    corpus(tmp_path, *audios, entry(OPUS), indent=indent)
    assert ids(read(tmp_path)[0]) == ["S0", "S1", "S2"]


def test_the_first_segment_comes_before_the_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gigaspeech, "_BLOCK", 600)
    corpus(tmp_path, entry(OPUS, segment("S0", 0, 1)), entry(OPUS, *(segment(f"T{n}", 0, 1) for n in range(50))))
    path = tmp_path / "GigaSpeech.json"
    path.write_text(path.read_text()[:-500])
    rows = gigaspeech.read(DataArguments(corpus="gigaspeech", path=str(tmp_path)), "XS", Drops())
    assert next(rows).id == "S0"
    with pytest.raises(UserError, match="ends or breaks off"):
        list(rows)


@pytest.mark.parametrize("content", ["", "{}", '{"audios": [', '{"audios": [{"path": 1]', "text", "[1, 2]"])
def test_json_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "GigaSpeech.json").write_text(content)
    with pytest.raises(UserError, match=r"expected a whole GigaSpeech\.json with a list of audios"):
        read(tmp_path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "GigaSpeech.json").write_bytes(b'{"audios": [\xff\xfe')
    with pytest.raises(UserError, match="no UTF-8 text"):
        read(tmp_path)


@pytest.mark.parametrize(("make", "message"), [("folder", "found nothing there"), ("nothing", "found nothing there")])
def test_paths_without_the_json(tmp_path: Path, make: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"GigaSpeech\.json at .*{message}"):
        read(tmp_path if make == "folder" else tmp_path / "nowhere")


def test_a_path_is_needed() -> None:
    with pytest.raises(UserError, match=r"needs data\.path"):
        read(None)


def test_the_json_itself_or_kept_elsewhere(tmp_path: Path) -> None:
    corpus(tmp_path / "gs", entry(OPUS, segment("S0", 0, 1)))
    assert ids(read(tmp_path / "gs" / "GigaSpeech.json")[0]) == ["S0"]
    kept = (tmp_path / "gs" / "GigaSpeech.json").rename(tmp_path / "kept.json")
    assert ids(read(tmp_path / "gs", transcripts=str(kept))[0]) == ["S0"]


def parquet(folder: Path) -> Path:
    """The Hub's form, in small: segments cut out already, tags still in the text."""
    texts = ["HELLO <COMMA> YOU <PERIOD>", "<MUSIC>", "GOOD <QUESTIONMARK>"]
    sound = encode(np.full(1600, 0.1, np.float32), SAMPLE_RATE, "wav")
    columns = {
        "segment_id": [f"YOU{n}_S{n}" for n in range(3)],
        "speaker": ["N/A", "N/A", "ann"],
        "text": texts,
        "audio": [{"bytes": sound, "path": f"{n}.wav"} for n in range(3)],
        "begin_time": [10.0, 20.0, 30.0],
        "end_time": [10.1, 20.1, 30.1],
        "audio_id": ["YOU0"] * 3,
    }
    folder.mkdir(parents=True)
    table = datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio(decode=False))
    table.to_parquet(str(folder / "train-00000-of-00001.parquet"))
    return folder


@pytest.mark.parametrize("by", ["path", "name", "file"])
def test_the_parquet_form(tmp_path: Path, by: str) -> None:
    folder = parquet(tmp_path / "gigaspeech")
    if by == "name":
        rows, drops = read(None, "train", name=str(folder))
    else:
        rows, drops = read(folder if by == "path" else folder / "train-00000-of-00001.parquet", "train")
    assert [(row.id, row.text, row.speaker, row.corpus) for row in rows] == [
        ("YOU0_S0", "HELLO, YOU.", "", "gigaspeech"),
        ("YOU2_S2", "GOOD?", "ann", "gigaspeech"),
    ]
    assert drops.reasons == {"garbage": [("YOU1_S1", "<MUSIC>")]}
    assert [len(audio.load(row.audio)) for row in rows] == [1600, 1600]


def test_the_real_layout(shared_data: Path) -> None:
    rows, drops = read(shared_data / "gigaspeech_layout", "XL")
    assert len(rows) == 2500
    assert drops.counts() == {"garbage": 250}
    assert len({row.speaker for row in rows}) == 125
    small, _ = read(shared_data / "gigaspeech_layout", "XS")
    assert len(small) == 260
    assert {row.id for row in small} < {row.id for row in rows}
    for row in small[:40:8]:
        assert len(audio.load(row.audio)) == pytest.approx((row.duration or 0) * SAMPLE_RATE, abs=2)
