"""Common Voice releases of every age and form, and each way a row of one can be wrong."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hf_asr.config.arguments import DataArguments
from hf_asr.data import archives, audio, common_voice
from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance

OLD = ["client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent", "locale", "segment"]
NEW = [*OLD[:2], "sentence_id", "sentence", "sentence_domain", *OLD[3:7], "accents", "variant", *OLD[8:]]
SPEAKER = "5e94" * 32


def row(columns: Sequence[str], path: str, **fields: str) -> str:
    values = {
        "client_id": SPEAKER,
        "path": path,
        "sentence": f"Sentence of {path}.",
        "up_votes": "2",
        "down_votes": "0",
    }
    values |= {"locale": "ru"} | fields
    return "\t".join(values.get(name, "") for name in columns)


def release(
    folder: Path,
    rows: Sequence[str],
    columns: Sequence[str] = NEW,
    table: str = "train",
    clips: Sequence[str] = ("a", "b"),
) -> Path:
    """Write one language of a release; a clip's length is its number of tenths of a second, counted from 5."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    (folder / f"{table}.tsv").write_bytes("\n".join(("\t".join(columns), *rows, "")).encode())
    for number, clip in enumerate(clips):
        samples = np.full(SAMPLE_RATE // 10 * (5 + number), 0.1, np.float32)
        (folder / "clips" / f"{clip}.mp3").write_bytes(encode(samples, SAMPLE_RATE, "mp3"))
    return folder


def two_rows(columns: Sequence[str] = NEW) -> list[str]:
    return [row(columns, "a.mp3"), row(columns, "b.mp3")]


def read(path: Path | str, split: str = "train", **keys: object) -> tuple[list[Utterance], Drops]:
    drops = Drops()
    data = DataArguments(corpus="common_voice", path=str(path), **keys)  # type: ignore[arg-type]
    return list(common_voice.read(data, split, drops)), drops


def ids(rows: list[Utterance]) -> list[str]:
    return [row.id for row in rows]


def pack(folder: Path, target: Path, prefix: str) -> Path:
    with tarfile.open(target, "w:gz" if target.name.endswith("gz") else "w") as tar:
        tar.add(folder, prefix)
    return target


@pytest.mark.parametrize("columns", [OLD, NEW], ids=["old", "new"])
def test_columns_of_old_and_new_releases(tmp_path: Path, columns: list[str]) -> None:
    accent = "accent" if "accent" in columns else "accents"
    fields = {"age": "twenties", "gender": "female", accent: "с юга", "sentence_domain": "news"}
    rows, drops = read(release(tmp_path, [row(columns, "a.mp3", **fields)], columns))
    assert rows == [
        Utterance(
            id="a",
            audio=AudioRef(path=str(tmp_path / "clips" / "a.mp3")),
            text="Sentence of a.mp3.",
            speaker=SPEAKER,
            language="ru",
            corpus="common_voice",
            extra={"up_votes": "2", "down_votes": "0", "age": "twenties", "gender": "female", "accent": "с юга"}
            | ({"sentence_domain": "news"} if columns is NEW else {}),
        )
    ]
    assert drops.total() == 0


def test_nothing_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio.soundfile, "SoundFile", lambda *_: pytest.fail("audio was opened"))
    release(tmp_path, two_rows(), clips=())
    for name in ("a", "b"):
        (tmp_path / "clips" / f"{name}.mp3").write_bytes(b"not even audio")
    assert ids(read(tmp_path)[0]) == ["a", "b"]


@pytest.mark.parametrize(
    ("split", "table"),
    [("train", "train"), ("validation", "dev"), ("validation", "validation"), ("validated", "validated"),
     ("other", "other"), ("dev.tsv", "dev"), ("my_own", "my_own")],
)  # fmt: skip
def test_splits_are_names_of_tsvs(tmp_path: Path, split: str, table: str) -> None:
    assert ids(read(release(tmp_path, two_rows(), table=table), split)[0]) == ["a", "b"]


def test_a_tsv_of_ones_own_anywhere(tmp_path: Path) -> None:
    release(tmp_path / "ru", two_rows())
    (tmp_path / "mine.tsv").write_text("path\tsentence\nb.mp3\tOnly this one.\n")
    rows, _ = read(tmp_path / "ru", str(tmp_path / "mine.tsv"))
    assert [(row.id, row.text, row.speaker, row.language) for row in rows] == [("b", "Only this one.", "", "")]


def test_the_language_of_rows_without_a_locale_is_the_configured_one(tmp_path: Path) -> None:
    rows, _ = read(release(tmp_path, ["a.mp3\tHi."], ["path", "sentence"]), language="cy")
    assert rows[0].language == "cy"


def test_an_unknown_split_names_the_tsvs(tmp_path: Path) -> None:
    release(tmp_path, two_rows())
    (tmp_path / "clip_durations.tsv").write_text("clip\tduration[ms]\n")
    with pytest.raises(UserError, match=r"no test\.tsv in .*; its TSVs are train;"):
        read(tmp_path, "test")


def test_votes(tmp_path: Path) -> None:
    votes = {"a": ("2", "0"), "b": ("2", "2"), "c": ("0", "3"), "d": ("", ""), "e": ("3", "2")}
    rows = [row(NEW, f"{clip}.mp3", up_votes=up, down_votes=down) for clip, (up, down) in votes.items()]
    release(tmp_path, rows, clips=list(votes))
    kept, drops = read(tmp_path)
    assert ids(kept) == ["a", "e"]
    assert drops.reasons == {
        "votes": [("b", "2 up, 2 down"), ("c", "0 up, 3 down"), ("d", "votes that are no numbers: '' up, '' down")]
    }
    kept, drops = read(tmp_path, filter_votes=False)
    assert ids(kept) == list(votes)
    assert drops.total() == 0


@pytest.mark.parametrize(
    "path",
    ["../secret.mp3", "../../ru/clips/a.mp3", "sub/../../a.mp3", "/etc/passwd", "..\\secret.mp3", "C:\\secret.mp3",
     "C:secret.mp3", "\\\\host\\share\\a.mp3"],
)  # fmt: skip
def test_paths_that_lead_out_are_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.mp3").write_bytes(b"never opened")
    release(tmp_path / "ru", [row(NEW, path), row(NEW, "a.mp3")])
    (tmp_path / "ru" / "secret.mp3").write_bytes(b"never opened")
    rows, drops = read(tmp_path / "ru")
    assert ids(rows) == ["a"]
    assert drops.counts() == {"outside_release": 1}
    assert drops.reasons["outside_release"][0][1] == f"line 2: {path} is refused, it leads out of the release"


def test_missing_clips_are_named(tmp_path: Path) -> None:
    release(tmp_path, [row(NEW, "a.mp3"), row(NEW, "gone.mp3"), row(NEW, ""), row(NEW, "folder"), row(NEW, "loop.mp3")])
    (tmp_path / "clips" / "folder").mkdir()
    (tmp_path / "clips" / "loop.mp3").symlink_to(tmp_path / "clips" / "loop.mp3")
    rows, drops = read(tmp_path)
    assert ids(rows) == ["a"]
    assert [id for id, _ in drops.reasons["missing_audio"]] == ["gone", "line 4", "folder", "loop"]
    assert "line 3: no gone.mp3 in clips/" in drops.reasons["missing_audio"][0][1]


def test_names_without_the_suffix(tmp_path: Path) -> None:
    """Releases 1 to 4 list ``a``, their files are ``a.mp3``."""
    rows, _ = read(release(tmp_path, [row(OLD, "a"), row(OLD, "b.mp3")], OLD))
    assert ids(rows) == ["a", "b"]
    assert [os.path.basename(row.audio.path) for row in rows] == ["a.mp3", "b.mp3"]


def test_a_clip_listed_twice_is_kept_once(tmp_path: Path) -> None:
    rows, drops = read(release(tmp_path, [*two_rows(), row(NEW, "a.mp3", sentence="Again.")]))
    assert ids(rows) == ["a", "b"]
    assert drops.counts() == {"duplicate_id": 1}


@pytest.mark.parametrize(("bom", "end"), [("\ufeff", "\n"), ("", "\r\n"), ("\ufeff", "\r\n")])
def test_bom_and_crlf(tmp_path: Path, bom: str, end: str) -> None:
    release(tmp_path, ())
    (tmp_path / "train.tsv").write_bytes((bom + end.join(("\t".join(NEW), *two_rows(), ""))).encode())
    rows, drops = read(tmp_path)
    assert [row.text for row in rows] == ["Sentence of a.mp3.", "Sentence of b.mp3."]
    assert drops.total() == 0


def test_quotes_in_sentences(tmp_path: Path) -> None:
    sentences = ['He said "no".', '"Never', '"These, ""public"" and ""private""."']
    rows = [row(NEW, f"{clip}.mp3", sentence=text) for clip, text in zip("abc", sentences, strict=True)]
    found, drops = read(release(tmp_path, rows, clips="abc"))
    assert [row.text for row in found] == ['He said "no".', '"Never', 'These, "public" and "private".']
    assert drops.total() == 0


def test_bad_rows_are_named_by_line(tmp_path: Path) -> None:
    rows = [row(NEW, "a.mp3"), row(NEW, "b.mp3", sentence="nul\0"), "too\tfew", row(NEW, "b.mp3") + "\tmany"]
    found, drops = read(release(tmp_path, rows))
    assert ids(found) == ["a"]
    table = tmp_path / "train.tsv"
    assert drops.reasons == {
        "bad_row": [
            (f"{table}, line 3", "a NUL byte"),
            (f"{table}, line 4", "2 fields, the header has 13"),
            (f"{table}, line 5", "14 fields, the header has 13"),
        ]
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"train\.tsv is empty"),
        ("\t".join(NEW) + "\n", "has a header and no rows"),
        (",".join(NEW) + "\na,b\n", "it seems to be separated by commas, expected tabs"),
        ("client_id\tpath\ttext\n1\t2\t3\n", "expected the column sentence in .*, found client_id, path, text"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, content: str, message: str) -> None:
    release(tmp_path, ())
    (tmp_path / "train.tsv").write_text(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_a_folder_named_like_a_tsv(tmp_path: Path) -> None:
    release(tmp_path, ())
    (tmp_path / "train.tsv").unlink()
    (tmp_path / "train.tsv").mkdir()
    with pytest.raises(UserError, match="found a folder"):
        read(tmp_path)


@pytest.mark.parametrize("below", ["", "cv-corpus-22.0-2025-06-20"])
@pytest.mark.parametrize(("language", "folder"), [("ru", "ru"), ("RU", "ru"), ("sv", "sv-SE"), ("sv-SE", "sv-SE")])
def test_the_language_picks_a_folder_of_the_release(tmp_path: Path, below: str, language: str, folder: str) -> None:
    for name in ("ru", "sv-SE", "zh-CN", "zh-TW"):
        release(tmp_path / below / name, two_rows())
    rows, _ = read(tmp_path, language=language)
    assert {os.path.dirname(row.audio.path) for row in rows} == {str(tmp_path / below / folder / "clips")}


@pytest.mark.parametrize("language", [None, "zh", "de"])
def test_a_language_that_is_not_there_names_those_that_are(tmp_path: Path, language: str | None) -> None:
    for name in ("ru", "zh-CN", "zh-TW"):
        release(tmp_path / name, two_rows())
    with pytest.raises(UserError, match=r"holds ru, zh-cn, zh-tw; set data\.language"):
        read(tmp_path, language=language)


def test_links_that_lead_back_up_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    with pytest.raises(UserError, match="found neither"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("path", "message"), [("nowhere", "found nothing there"), (".", "found neither"), ("file", "another kind of file")]
)
def test_paths_that_are_no_release(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(UserError, match=message):
        read(tmp_path / path)


def test_a_path_is_needed() -> None:
    with pytest.raises(UserError, match=r"needs data\.path"):
        list(common_voice.read(DataArguments(corpus="common_voice"), "train", Drops()))


@pytest.mark.parametrize("name", ["ru.tar", "ru.tar.gz", "ru.tgz"])
@pytest.mark.parametrize("prefix", ["cv-corpus-22.0-2025-06-20/ru", "ru", "./ru", "."])
def test_archives_read_as_the_folder_does(tmp_path: Path, name: str, prefix: str) -> None:
    folder = release(tmp_path / "ru", two_rows())
    archive = pack(folder, tmp_path / name, prefix)
    rows, drops = read(archive)
    assert [(row.id, row.text) for row in rows] == [(row.id, row.text) for row in read(folder)[0]]
    assert drops.total() == 0
    for row, other in zip(rows, read(folder)[0], strict=True):
        np.testing.assert_array_equal(audio.load(row.audio), audio.load(other.audio))


def test_an_archive_of_several_languages(tmp_path: Path) -> None:
    for language, clip in (("ru", "a"), ("cy", "c")):
        release(tmp_path / "cv" / language, [row(NEW, f"{clip}.mp3")], clips=[clip])
    archive = pack(tmp_path / "cv", tmp_path / "cv.tar", "cv-corpus-6.1")
    assert ids(read(archive, language="cy")[0]) == ["c"]
    with pytest.raises(UserError, match=r"holds cy, ru; set data\.language"):
        read(archive)


def test_missing_and_refused_clips_of_an_archive(tmp_path: Path) -> None:
    folder = release(tmp_path / "ru", [row(NEW, "a"), row(NEW, "gone.mp3"), row(NEW, "../train.tsv")])
    rows, drops = read(pack(folder, tmp_path / "ru.tar", "ru"))
    assert ids(rows) == ["a"]
    assert drops.counts() == {"missing_audio": 1, "outside_release": 1}


def test_messages_name_the_tsv_inside_the_archive(tmp_path: Path) -> None:
    folder = release(tmp_path / "ru", ["1\t2"])
    _, drops = read(pack(folder, tmp_path / "ru.tar.gz", "cv/ru"))
    assert drops.reasons["bad_row"][0][0] == f"{tmp_path / 'ru.tar.gz'}/cv/ru/train.tsv, line 2"


@pytest.mark.parametrize("kind", ["file", "folder", "release"])
def test_transcripts_beside_an_archive(tmp_path: Path, kind: str) -> None:
    archive = pack(release(tmp_path / "ru", two_rows(), table="validated"), tmp_path / "ru.tar", "cv/ru")
    kept = tmp_path / "transcripts" / ("ru" if kind == "release" else "")
    kept.mkdir(parents=True)
    (kept / "train.tsv").write_text("path\tsentence\nb.mp3\tKept apart.\n")
    transcripts = kept / "train.tsv" if kind == "file" else tmp_path / "transcripts"
    rows, _ = read(archive, transcripts=str(transcripts))
    assert [row.text for row in rows] == ["Kept apart."]
    assert ids(read(archive, "validated", transcripts=str(transcripts))[0]) == ["a", "b"]


def test_transcripts_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a TSV at .*gone\.tsv"):
        read(release(tmp_path, two_rows()), transcripts=str(tmp_path / "gone.tsv"))


@pytest.mark.parametrize("name", ["ru", "ru.tar", "ru.tar.gz"])
def test_mozillas_durations_are_used(tmp_path: Path, name: str) -> None:
    folder = release(tmp_path / "ru", [row(NEW, "a.mp3"), row(NEW, "b")])
    (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\na.mp3\t4321\nb.mp3\t567\nother.mp3\t1\n")
    rows, _ = read(folder if name == "ru" else pack(folder, tmp_path / name, "cv/ru"))
    assert [row.duration for row in rows] == [4.321, 0.567]


def test_our_own_side_car_is_left_to_whoever_checks_the_sizes(tmp_path: Path) -> None:
    folder = release(tmp_path / "ru", two_rows())
    (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\tbytes\na.mp3\t4321\t17\n")
    assert [row.duration for row in read(folder)[0]] == [None, None]


def test_a_cut_archive(tmp_path: Path) -> None:
    archive = pack(release(tmp_path / "ru", two_rows()), tmp_path / "ru.tar", "ru")
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"cut or damaged|ends inside"):
        read(archive)


@pytest.mark.parametrize("language", ["ru", "en", "cy", "de"])
def test_the_real_release(shared_data: Path, language: str) -> None:
    counts = {}
    for split in ("train", "validation", "test", "validated"):
        rows, drops = read(shared_data / "common_voice_6.1_sample", split, language=language)
        counts[split] = len(rows)
        assert drops.total() == 0
        assert all(row.language == language and row.text and len(row.speaker) == 128 for row in rows)
        assert not any('""' in row.text for row in rows)
    assert counts == {"train": 60, "validation": 20, "test": 20, "validated": 100}


def test_the_real_release_as_an_archive(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "common_voice_6.1_sample" / "ru"
    rows, _ = read(pack(folder, tmp_path / "ru.tar.gz", "cv-corpus-6.1-2020-12-11/ru"), "test", language="ru")
    plain, _ = read(folder, "test")
    assert ids(rows) == ids(plain)
    for packed, file in list(zip(rows, plain, strict=True))[:3]:
        np.testing.assert_array_equal(audio.load(packed.audio), audio.load(file.audio))
    assert len(list(archives.cache_folder("archives").glob("*.tar"))) == 1
