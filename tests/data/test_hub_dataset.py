"""Data sets by name or folder, undecoded; here all are local, the Hub is out of reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from hf_asr.config.arguments import DataArguments
from hf_asr.data import audio
from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.data.manifest import read_hub
from hf_asr.errors import UserError
from hf_asr.utterance import Drops, Utterance

SOUND = encode(np.full(1600, 0.1, np.float32), SAMPLE_RATE, "flac")


def table(count: int = 3, **columns: list[Any]) -> datasets.Dataset:
    """A mirror of Common Voice, in small: an Audio column, and a ``path`` that is only a name."""
    rows = {
        "client_id": [f"speaker {number}" for number in range(count)],
        "path": [f"cv_{number}.mp3" for number in range(count)],
        "audio": [{"bytes": SOUND, "path": f"cv_{number}.flac"} for number in range(count)],
        "sentence": [f"Sentence {number}." for number in range(count)],
        "up_votes": [2, 1, 3][:count],
        "down_votes": [0, 1, 1][:count],
        "locale": ["cy"] * count,
    } | columns
    made = datasets.Dataset.from_dict({name: values for name, values in rows.items() if values})
    return made.cast_column("audio", datasets.Audio(decode=False)) if "audio" in made.column_names else made


def parquet(folder: Path, split: str = "train", **columns: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made = table(**columns)
    if "audio" in made.column_names and isinstance(made.features["audio"], datasets.Audio):
        made = made.cast_column("audio", datasets.Audio())
    made.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    return folder


def read(split: str = "train", **keys: Any) -> tuple[list[Utterance], Drops]:
    drops = Drops()
    return list(read_hub(DataArguments(corpus="hub", **keys), split, drops)), drops


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("key", ["name", "path"])
def test_a_mirror_of_common_voice_in_parquet(tmp_path: Path, key: str, streaming: bool) -> None:
    folder = parquet(tmp_path / "mirror")
    rows, drops = read(**{key: str(folder)}, streaming=streaming)
    assert [(row.id, row.text, row.speaker, row.language) for row in rows] == [
        (f"{folder.name}-train-0", "Sentence 0.", "speaker 0", "cy"),
        (f"{folder.name}-train-2", "Sentence 2.", "speaker 2", "cy"),
    ]
    assert drops.reasons == {"votes": [(f"{folder.name}-train-1", "1 up, 1 down")]}
    assert rows[0].extra == {"path": "cv_0.mp3", "up_votes": "2", "down_votes": "0"}
    np.testing.assert_allclose(audio.load(rows[0].audio), 0.1, atol=1e-4)
    assert len(read(**{key: str(folder)}, streaming=streaming, filter_votes=False)[0]) == 3


def test_a_single_parquet_file(tmp_path: Path) -> None:
    file = next(parquet(tmp_path / "mirror").glob("*.parquet"))
    assert len(read(path=str(file))[0]) == 2
    assert len(read("anything", path=str(file))[0]) == 2


@pytest.mark.parametrize(("there", "asked"), [("validation", "validation"), ("dev", "validation"), ("test", "test")])
def test_splits_by_name_or_by_another_word(tmp_path: Path, there: str, asked: str) -> None:
    folder = parquet(tmp_path / "mirror")
    parquet(folder, there)
    saved = tmp_path / "saved"
    datasets.DatasetDict({"train": table(1), there: table(2)}).save_to_disk(str(saved))
    assert len(read(asked, name=str(saved), filter_votes=False)[0]) == 2
    assert len(read(asked, name=str(folder), filter_votes=False)[0]) == 3


def test_an_unknown_split_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no split test; its splits are train;"):
        read("test", name=str(parquet(tmp_path / "mirror")))


def test_a_data_set_saved_without_splits(tmp_path: Path) -> None:
    table().save_to_disk(str(tmp_path / "saved"))
    assert len(read(name=str(tmp_path / "saved"))[0]) == 2


def test_columns_that_are_given(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "mirror", key=["x", "y", "z"], emotion=["joy", "fear", "joy"], words=["1", "2", "3"])
    columns = {"text": "words", "label": "emotion", "id": "key"}
    rows, _ = read(name=str(folder), columns=columns)
    assert [(row.id, row.text, row.label) for row in rows] == [("x", "1", "joy"), ("z", "3", "joy")]


def test_the_column_of_type_audio_wins_over_names(tmp_path: Path) -> None:
    made = table().rename_column("audio", "recording")
    made.save_to_disk(str(tmp_path / "saved"))
    rows, _ = read(name=str(tmp_path / "saved"))
    assert [len(audio.load(row.audio)) for row in rows] == [1600, 1600]


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.columns\.text: words; its columns are client_id, path, audio"):
        read(name=str(parquet(tmp_path / "mirror")), columns={"text": "words"})


def test_a_data_set_without_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="looks like text"):
        read(name=str(parquet(tmp_path / "mirror", sentence=[])))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_of_paths(tmp_path: Path, streaming: bool) -> None:
    folder = parquet(tmp_path / "mirror", audio=[], path=["clips/a.flac", "clips/gone.flac", str(tmp_path / "b.flac")])
    (folder / "clips").mkdir()
    for place in (folder / "clips" / "a.flac", tmp_path / "b.flac"):
        place.write_bytes(SOUND)
    rows, drops = read(name=str(folder), filter_votes=False, streaming=streaming)
    assert [row.audio.path for row in rows] == [str(folder / "clips" / "a.flac"), str(tmp_path / "b.flac")]
    assert drops.reasons == {"missing_audio": [(f"{folder.name}-train-1", "neither bytes nor a file in column path")]}
    assert len(audio.load(rows[0].audio)) == 1600


def test_a_row_without_audio_is_named(tmp_path: Path) -> None:
    sounds = [{"bytes": SOUND, "path": None}, {"bytes": None, "path": "gone.mp3"}, {"bytes": SOUND, "path": "x"}]
    file = tmp_path / "struct.parquet"  # the same cells, without the type Audio
    datasets.Dataset.from_dict({"audio": sounds, "text": ["1", "2", "3"]}).to_parquet(str(file))
    rows, drops = read(name=str(file))
    assert [row.id for row in rows] == [f"{file.name}-train-0", f"{file.name}-train-2"]
    assert [len(audio.load(row.audio)) for row in rows] == [1600, 1600]
    assert drops.counts() == {"missing_audio": 1}


@pytest.mark.parametrize("streaming", [False, True])
def test_json_lines_and_files_beside_them(tmp_path: Path, streaming: bool) -> None:
    (tmp_path / "train.jsonl").write_text('{"audio": "a.flac", "text": "One."}\n{"audio": "b.flac", "text": "Two."}\n')
    for name in ("a.flac", "b.flac"):
        (tmp_path / name).write_bytes(SOUND)
    rows, drops = read(name=str(tmp_path), streaming=streaming, columns={"audio": "audio"})
    assert [row.text for row in rows] == ["One.", "Two."]
    assert drops.total() == 0


def test_rows_with_one_id(tmp_path: Path) -> None:
    rows, drops = read(name=str(parquet(tmp_path / "mirror", id=["x", "y", "x"])), filter_votes=False)
    assert [row.id for row in rows] == ["x", "y"]
    assert drops.counts() == {"duplicate_id": 1}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_name_while_offline(streaming: bool) -> None:
    with pytest.raises(
        UserError, match=r"org/no-such-data cannot be loaded: .*give a folder, or fetch it with the Hub switched on"
    ):
        read(name="org/no-such-data", streaming=streaming)


@pytest.mark.parametrize("name", ["/no/such/folder", "./gone.parquet"])
def test_a_folder_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        read(name=name)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        read(name=str(tmp_path))


def test_an_unknown_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be loaded: .*no-config"):
        read(name=str(parquet(tmp_path / "mirror")), subset="no-config")


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="cannot be loaded"):
        read(path=str(tmp_path / "train.parquet"))


def test_a_name_is_needed() -> None:
    with pytest.raises(UserError, match=r"needs data\.name"):
        read()


def test_structured_cells_are_no_extra(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "mirror", words=[["a"], ["b"], ["c"]], age=[30, None, 40])
    rows, _ = read(name=str(folder))
    assert rows[0].extra["age"] in ("30", "30.0")
    assert "words" not in rows[0].extra
