"""Manifests of one's own: every form of table and of JSON lines, columns guessed or given, splits found."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_asr.config.arguments import DataArguments
from hf_asr.data import manifest
from hf_asr.data.columns import Columns, as_seconds, in_split, leaves_folder, outvoted
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance

ROWS = [("a.wav", "Well, yes.", "ann", "train"), ("sub/b.mp3", "No.", "ben", "test")]
CLIPS = ("a.wav", "sub/b.mp3")


def make_clips(folder: Path, *names: str) -> Path:
    """Write files that are no audio: nothing may open them."""
    for name in names or CLIPS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"clip")
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".jsonl", ".json", ".ndjson"):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(*names: str, texts: tuple[str, ...] = ("Well, yes.", "No."), **rest: Any) -> list[dict[str, Any]]:
    return [{"path": name, "text": text, **rest} for name, text in zip(names or CLIPS, texts, strict=False)]


def read(path: Path | str | None, split: str = "train", **keys: Any) -> tuple[list[Utterance], Drops]:
    drops = Drops()
    data = DataArguments(corpus="manifest", path=path and str(path), **keys)
    return list(manifest.read(data, split, drops)), drops


def ids(rows: list[Utterance]) -> list[str]:
    return [row.id for row in rows]


@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.jsonl", "m.json", "m.ndjson"])
def test_every_form_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    rows = [dict(zip(("path", "text", "speaker", "split", "age"), (*row, "30"), strict=True)) for row in ROWS]
    found, drops = read(write(make_clips(tmp_path) / name, rows))
    assert found == [
        Utterance(
            id="a.wav",
            audio=AudioRef(path=str(tmp_path / "a.wav")),
            text="Well, yes.",
            speaker="ann",
            corpus="manifest",
            extra={"age": "30"},
        )
    ]
    assert drops.total() == 0
    assert ids(read(tmp_path / name, "test")[0]) == ["sub/b.mp3"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r\n\t")), min_size=1, max_size=4
    )
)
@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.jsonl"])
def test_any_text_survives(tmp_path: Path, name: str, texts: list[str]) -> None:
    clips = [f"{number}.wav" for number in range(len(texts))]
    make_clips(tmp_path, *clips)
    found, drops = read(write(tmp_path / name, rows_of(*clips, texts=tuple(texts))))
    assert [row.text for row in found] == texts
    assert drops.total() == 0


@pytest.mark.parametrize("audio", ["audio", "path", "file", "wav", "audio_filepath", "Path", "AUDIO"])
@pytest.mark.parametrize("text", ["text", "sentence", "transcript", "transcription", "Text"])
def test_columns_are_known_by_their_names(
    tmp_path: Path, audio: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_clips(tmp_path)
    with caplog.at_level("INFO"):
        rows, _ = read(write(tmp_path / "m.csv", [{text: "Hi.", audio: "a.wav"}]))
    assert [(row.audio.path, row.text) for row in rows] == [(str(tmp_path / "a.wav"), "Hi.")]
    assert f"audio={audio}, text={text}" in caplog.text


def test_columns_that_are_given_come_first(tmp_path: Path) -> None:
    table = [{"path": "gone.wav", "clip name": "a.wav", "text": "raw", "clean": "Hi.", "who": "ann", "secs": "1.5",
              "emotion": "joy", "key": "k1"}]  # fmt: skip
    columns = {"audio": "clip name", "text": "clean", "speaker": "who", "duration": "secs", "label": "emotion"}
    (row,), _ = read(write(make_clips(tmp_path) / "m.csv", table), columns=columns)
    assert (row.id, row.text, row.speaker, row.duration, row.label) == ("k1", "Hi.", "ann", 1.5, "joy")
    assert row.extra == {"path": "gone.wav", "text": "raw"}


@pytest.mark.parametrize(
    ("columns", "header", "message"),
    [
        ({"text": "clean"}, "path,text", r"has no column for data\.columns\.text: clean; its columns are path, text"),
        ({}, "clip,text", r"no column of .* looks like audio; its columns are clip, text; .* data\.columns\.audio"),
        ({}, "path,words", r"looks like text; its columns are path, words; .* data\.columns\.text"),
        ({}, "a,b", r"looks like audio or text"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, columns: dict[str, str], header: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(f"{header}\na.wav,hi\n")
    with pytest.raises(UserError, match=message):
        read(tmp_path / "m.csv", columns=columns)


def test_a_corpus_with_labels_needs_no_text(tmp_path: Path) -> None:
    (row,), _ = read(
        write(make_clips(tmp_path) / "m.csv", [{"path": "a.wav", "mood": "joy"}]), columns={"label": "mood"}
    )
    assert (row.text, row.label) == ("", "joy")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1.5", 1.5), ("3", 3.0), ("", None), ("-1", None), ("0", None), ("long", None), ("nan", None)],
)
def test_durations(tmp_path: Path, value: str, seconds: float | None) -> None:
    (row,), _ = read(write(make_clips(tmp_path) / "m.csv", rows_of("a.wav", duration=value)))
    assert row.duration == seconds


def test_paths_start_at_the_manifest(tmp_path: Path) -> None:
    """``..`` and absolute paths are the user's own affair."""
    make_clips(tmp_path, "up.wav", "lists/a.wav", "far/away.wav")
    names = ("a.wav", "../up.wav", str(tmp_path / "far" / "away.wav"))
    rows, drops = read(write(tmp_path / "lists" / "m.csv", rows_of(*names, texts=("1", "2", "3"))))
    assert ids(rows) == list(names)
    assert [Path(row.audio.path).resolve().name for row in rows] == ["a.wav", "up.wav", "away.wav"]
    assert drops.total() == 0


def test_a_folder_of_clips_and_manifests_elsewhere(tmp_path: Path) -> None:
    make_clips(tmp_path / "clips")
    file = write(tmp_path / "lists" / "m.csv", rows_of())
    assert ids(read(tmp_path / "clips", str(file))[0]) == list(CLIPS)
    assert ids(read(tmp_path / "clips", transcripts=str(file))[0]) == list(CLIPS)


def test_missing_files_are_named(tmp_path: Path) -> None:
    make_clips(tmp_path)
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    rows, drops = read(
        write(tmp_path / "m.csv", rows_of("a.wav", "gone.wav", "", "loop.wav", "sub", texts=tuple("12345")))
    )
    assert ids(rows) == ["a.wav"]
    assert [id for id, _ in drops.reasons["missing_audio"]] == ["gone.wav", "line 4", "loop.wav", "sub"]
    assert drops.reasons["missing_audio"][0][1] == f"line 3: no file {tmp_path / 'gone.wav'}"


def test_a_nul_in_a_json_path(tmp_path: Path) -> None:
    _, drops = read(write(tmp_path / "m.jsonl", rows_of("a\0.wav")))
    assert drops.counts() == {"missing_audio": 1}


def test_a_clip_listed_twice_needs_ids(tmp_path: Path) -> None:
    table = [{"path": "a.wav", "text": text, "utt": f"u{text}"} for text in "12"]
    make_clips(tmp_path)
    assert ids(read(write(tmp_path / "with.csv", table))[0]) == ["u1", "u2"]
    rows, drops = read(write(tmp_path / "without.csv", [{"path": "a.wav", "text": text} for text in "12"]))
    assert ids(rows) == ["a.wav"]
    assert "data.columns.id" in drops.reasons["duplicate_id"][0][1]


def test_an_empty_id_is_the_path(tmp_path: Path) -> None:
    rows, _ = read(
        write(make_clips(tmp_path) / "m.csv", [r | {"id": i} for r, i in zip(rows_of(), ("x", ""), strict=True)])
    )
    assert ids(rows) == ["x", "sub/b.mp3"]


def test_the_vote_filter_works_on_a_copy_of_common_voice(tmp_path: Path) -> None:
    table = [row | {"up_votes": up, "down_votes": "1"} for row, up in zip(rows_of(), "21", strict=True)]
    file = write(make_clips(tmp_path) / "m.tsv", table)
    rows, drops = read(file)
    assert ids(rows) == ["a.wav"]
    assert drops.reasons == {"votes": [("sub/b.mp3", "1 up, 1 down")]}
    assert len(read(file, filter_votes=False)[0]) == 2


def test_the_language_of_a_row_and_of_the_corpus(tmp_path: Path) -> None:
    table = [row | {"locale": locale} for row, locale in zip(rows_of(), ("cy", ""), strict=True)]
    rows, _ = read(write(make_clips(tmp_path) / "m.csv", table), language="ru")
    assert [row.language for row in rows] == ["cy", "ru"]


@pytest.mark.parametrize(
    ("split", "value"),
    [("train", "train"), ("validation", "dev"), ("validation", "Validation"), ("validation", "valid"), ("test", "TEST"),
     ("fold7", "fold7")],
)  # fmt: skip
def test_values_of_the_split_column(tmp_path: Path, split: str, value: str) -> None:
    table = [row | {"split": name} for row, name in zip(rows_of(), (value, "rest"), strict=True)]
    assert ids(read(write(make_clips(tmp_path) / "m.csv", table), split)[0]) == ["a.wav"]


def test_a_split_column_of_another_name(tmp_path: Path) -> None:
    table = [row | {"fold": fold} for row, fold in zip(rows_of(), "12", strict=True)]
    assert ids(read(write(make_clips(tmp_path) / "m.csv", table), "2", columns={"split": "fold"})[0]) == ["sub/b.mp3"]


def test_a_value_that_no_row_has_names_those_there_are(tmp_path: Path) -> None:
    table = [row | {"split": name} for row, name in zip(rows_of(), ("train", "held"), strict=True)]
    with pytest.raises(UserError, match=r"no row of .* is of split test; column split holds held, train"):
        read(write(make_clips(tmp_path) / "m.csv", table), "test")


def test_without_a_split_column_all_is_train(tmp_path: Path) -> None:
    file = write(make_clips(tmp_path) / "m.csv", rows_of())
    assert len(read(file, "train")[0]) == 2
    with pytest.raises(UserError, match=r"no column of splits, so it has no test; give data\.splits\.test a file"):
        read(file, "test")


@pytest.mark.parametrize("given_as", ["absolute", "in data.path", "beside data.path"])
def test_a_file_as_a_split_is_taken_whole(tmp_path: Path, given_as: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(make_clips(tmp_path) / "held.csv", [row | {"split": "anything"} for row in rows_of()])
    monkeypatch.chdir(tmp_path)
    split = str(file) if given_as == "absolute" else "held.csv"
    rows, _ = read(tmp_path if given_as == "in data.path" else None, split)
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("name", "split"),
    [("train.tsv", "train"), ("dev.csv", "validation"), ("validation.jsonl", "validation"), ("test.tsv", "test")],
)
def test_a_folder_with_one_manifest_a_split(tmp_path: Path, name: str, split: str) -> None:
    write(make_clips(tmp_path) / name, rows_of())
    write(tmp_path / "other.tsv", rows_of("a.wav"))
    assert len(read(tmp_path, split)[0]) == 2


def test_a_folder_with_a_single_manifest(tmp_path: Path) -> None:
    (tmp_path / "clip_durations.tsv").write_text("clip\tduration[ms]\n")
    write(make_clips(tmp_path) / "metadata.csv", rows_of())
    assert len(read(tmp_path)[0]) == 2


def test_a_folder_without_the_splits_manifest_names_what_it_has(tmp_path: Path) -> None:
    write(make_clips(tmp_path) / "train.tsv", rows_of())
    write(tmp_path / "extra.csv", rows_of())
    with pytest.raises(UserError, match=r"expected a manifest of test in .*, found extra\.csv, train\.tsv"):
        read(tmp_path, "test")


@pytest.mark.parametrize(
    ("path", "message"), [("gone.csv", "found nothing there"), (None, r"needs data\.path"), (".", "found no such file")]
)
def test_paths_that_are_no_manifest(tmp_path: Path, path: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(path and tmp_path / path)


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("not json", "not JSON: Expecting value"),
        ('["a.wav", "hi"]', "expected an object, found list"),
        ('{"path": "a.wav"', "not JSON"),
        (b'{"path": "\xff"}', "not JSON"),
        ("null", "expected an object, found NoneType"),
    ],
)
def test_json_lines_that_are_none(tmp_path: Path, line: str | bytes, detail: str) -> None:
    make_clips(tmp_path)
    raw = line if isinstance(line, bytes) else line.encode()
    file = tmp_path / "m.jsonl"
    file.write_bytes(
        b'\xef\xbb\xbf{"path": "a.wav", "text": "1"}\r\n\r\n' + raw + b'\n{"path": "sub/b.mp3", "text": "2"}'
    )
    rows, drops = read(file)
    assert ids(rows) == list(CLIPS)
    ((place, found),) = drops.reasons["bad_row"]
    assert place == f"{file}, line 3"
    assert found.startswith(detail)


@pytest.mark.parametrize(("content", "message"), [("", "holds no row"), ("[\n{}\n]", "holds no row|looks like")])
def test_json_files_without_lines(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "m.json")


def test_values_of_json_become_text(tmp_path: Path) -> None:
    table = [{"path": "a.wav", "text": 42, "speaker": 7, "tags": ["x"], "none": None, "ok": True}]
    (row,), _ = read(write(make_clips(tmp_path) / "m.jsonl", table))
    assert (row.text, row.speaker, row.extra) == ("42", "7", {"ok": "True"})


def test_segments_of_a_nemo_manifest(tmp_path: Path) -> None:
    table = [{"audio_filepath": "a.wav", "offset": offset, "duration": 2.5, "text": "x"} for offset in (0, 4.25)]
    rows, _ = read(
        write(make_clips(tmp_path) / "m.json", [*table, {"audio_filepath": "sub/b.mp3", "duration": 3, "text": "y"}])
    )
    assert [(row.id, row.audio.start, row.audio.end, row.duration) for row in rows] == [
        ("a.wav@0", 0.0, 2.5, 2.5),
        ("a.wav@4.25", 4.25, 6.75, 2.5),
        ("sub/b.mp3", 0.0, None, 3.0),
    ]


def test_bad_rows_of_a_csv_are_named(tmp_path: Path) -> None:
    file = make_clips(tmp_path) / "m.csv"
    file.write_text('path,text\na.wav\nsub/b.mp3,"fine, ""really"""\na.wav,nul\0\n')
    rows, drops = read(file)
    assert [row.text for row in rows] == ['fine, "really"']
    assert [place for place, _ in drops.reasons["bad_row"]] == [f"{file}, line 2", f"{file}, line 4"]


@pytest.mark.parametrize(("split", "count"), [("train", 2400), ("test", 600)])
def test_the_real_manifest_of_digits(shared_data: Path, split: str, count: int) -> None:
    table = csv.DictReader(io.StringIO((shared_data / "fsdd" / "manifest.tsv").read_text()), delimiter="\t")
    expected = [row["path"] for row in table if row["split"] == split]
    rows, drops = read(shared_data / "fsdd" / "manifest.tsv", split)
    assert ids(rows) == expected
    assert drops.total() == 0
    assert all(row.duration and row.speaker and row.text for row in rows)


@pytest.mark.parametrize(
    ("name", "leaves"),
    [("a.mp3", False), ("sub/a.mp3", False), ("..a.mp3", False), ("a..mp3", False), ("../a", True), ("a/../../b", True),
     ("/a", True), ("C:\\a", True), ("a\\..\\b", True), ("", False), (".", False)],
)  # fmt: skip
def test_which_paths_lead_out(name: str, leaves: bool) -> None:
    assert leaves_folder(name) is leaves


@settings(max_examples=80, deadline=None)
@given(
    parts=st.lists(
        st.text(st.characters(exclude_characters="/\\:", exclude_categories=("Cs",)), min_size=1), min_size=1
    )
)
def test_plain_relative_paths_never_lead_out(parts: list[str]) -> None:
    assert leaves_folder("/".join(parts)) is (".." in parts)


@pytest.mark.parametrize(
    ("up", "down", "fault"), [(2, 1, ""), ("2", "2", "2 up, 2 down"), (None, 1, ""), ("x", 1, "votes that")]
)
def test_votes(up: Any, down: Any, fault: str) -> None:
    assert outvoted({"up_votes": up, "down_votes": down}).startswith(fault)
    assert bool(outvoted({"up_votes": up, "down_votes": down})) is bool(fault)


@pytest.mark.parametrize(("value", "seconds"), [(1, 1.0), ("2.5", 2.5), (None, None), ([], None), (float("inf"), None)])
def test_seconds(value: Any, seconds: float | None) -> None:
    assert as_seconds(value) == seconds


def test_split_names_of_other_corpora_stand_for_ours_only() -> None:
    assert in_split("dev", "validation")
    assert not in_split("dev", "train")
    assert not in_split("Fold", "fold")


def test_the_first_known_name_wins_and_a_given_one_wins_over_it() -> None:
    found = ["sentence", "text", "path", "audio"]
    assert Columns.choose(found, {}, "x").names == {"audio": "audio", "text": "text"}
    assert Columns.choose(found, {"text": "sentence"}, "x").names == {"audio": "audio", "text": "sentence"}
