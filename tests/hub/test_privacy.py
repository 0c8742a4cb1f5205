"""Nothing local leaves the machine: paths become names, speakers become hashes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.hub.privacy import cut_paths, hash_speaker, public_value


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/home/anna/my corpus/ru", "ru"),
        ("/Users/Anna Smith/corpus/", "corpus"),
        ("C:\\Users\\Anna\\cv", "cv"),
        ("D:/speech data/cv", "cv"),
        ("\\\\server\\anna\\cv", "cv"),
        ("~/corpus", "corpus"),
        ("~anna/corpus", "corpus"),
        ("../shared/data/ru", "ru"),
        ("file:///home/anna/a.wav", "a.wav"),
        ("/", "."),
        ("data.path=/home/anna/ru", "data.path=ru"),
        ("hf-asr evaluate --model '/home/An na/x' --config ./a/b.yaml", "hf-asr evaluate --model 'x' --config b.yaml"),
        ("not found:/home/anna/a.wav", "not found:a.wav"),
        ("clip /home/anna/a.wav (cut)", "clip a.wav (cut)"),
        ("openai/whisper-small", "openai/whisper-small"),
        ("config:whisper-tiny", "config:whisper-tiny"),
        ("clips/a.wav", "clips/a.wav"),
        ("see https://huggingface.co/openai/whisper-small", "see https://huggingface.co/openai/whisper-small"),
        ("1/2 of it, and/or more", "1/2 of it, and/or more"),
        ("", ""),
    ],
)
def test_paths_are_cut_to_names_and_nothing_else_changes(text: str, public: str) -> None:
    assert cut_paths(text) == public
    assert cut_paths(public) == public


@given(st.lists(st.text("abcXYZ0 ._-", min_size=1).filter(lambda part: part.strip(" .")), min_size=1), st.text("abc"))
def test_no_folder_of_a_path_survives(folders: list[str], name: str) -> None:
    path = "/SECRET/" + "/".join(folders) + "/" + (name or "x")
    assert "SECRET" not in cut_paths(path)
    assert "SECRET" not in cut_paths(f"found {path!r} there")


def test_speakers_are_hashed_alike_everywhere() -> None:
    assert hash_speaker("anna") == hash_speaker("anna") != hash_speaker("boris")
    assert "anna" not in hash_speaker("anna")
    assert hash_speaker("") == ""


def test_public_value_walks_the_whole_tree_and_keeps_types() -> None:
    value = {
        "model": {"path": "/home/anna/whisper", "layers": 4, "frozen": True, "revision": None},
        "speakers": ["anna", "boris"],
        "rows": [{"speaker": "anna", "text": "anna sings"}],
        "skipped": {"broken_audio": [["/home/anna/clip.wav", "cannot read /home/anna/clip.wav"]]},
    }
    assert public_value(value) == {
        "model": {"path": "whisper", "layers": 4, "frozen": True, "revision": None},
        "speakers": [hash_speaker("anna"), hash_speaker("boris")],
        "rows": [{"speaker": hash_speaker("anna"), "text": "anna sings"}],
        "skipped": {"broken_audio": [["clip.wav", "cannot read clip.wav"]]},
    }
