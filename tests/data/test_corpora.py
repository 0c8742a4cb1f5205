"""Splits: what is read for each, what is left out and counted, what is mixed, and what leaks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from helpers.fake_corpora import CORPUS, clip, clips, ids, ids_of, read_fake, section, use_fake_corpora
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.config.arguments import DataArguments
from hf_asr.data.audio import encode
from hf_asr.data.corpora import CORPORA, build_splits
from hf_asr.data.held_out import HeldOut
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef

# Fake corpora by data.path: split to utterances.


@pytest.fixture(autouse=True)
def fake_corpora(monkeypatch):
    use_fake_corpora(monkeypatch)


def test_usual_names():
    splits = build_splits(section(), seed=0)
    assert list(splits) == ["train", "validation", "test"]
    assert [len(split.rows) for split in splits.values()] == [20, 5, 5]
    assert ids(splits["validation"]) == [f"d{i}" for i in range(5)]
    assert splits["train"].seconds == 40.0
    assert splits["test"].drops.counts() == {"votes": 1}
    assert all(split.warnings == [] for split in splits.values())


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("other", [f"o{i}" for i in range(4)]),
        (["dev", "other"], [f"d{i}" for i in range(5)] + [f"o{i}" for i in range(4)]),
        ({"path": "B"}, [f"bt{i}" for i in range(3)]),
        ({"path": "B", "splits": {"test": "validation"}}, [f"bv{i}" for i in range(3)]),
        ({"corpus": "hub", "path": "B", "splits": {"test": ["test", "validation"]}},
         [f"bt{i}" for i in range(3)] + [f"bv{i}" for i in range(3)]),
    ],
)  # fmt: skip
def test_entries_of_splits(entry, expected):
    assert ids_of(section(splits={"test": entry}), "test") == expected


def test_a_mapping_is_a_section_with_its_own_filters():
    CORPUS["B"]["test"][0] = replace(CORPUS["B"]["test"][0], duration=40.0)
    assert len(ids_of(section(splits={"test": {"path": "B"}}), "test")) == 2
    assert len(ids_of(section(splits={"test": {"path": "B", "max_seconds": 50.0}}), "test")) == 3


@pytest.mark.parametrize(
    ("given_keys", "expected"),
    [
        ({"subset": "x"}, ("A", "T", "x", {"text": "t"})),  # the same place
        ({"path": "B"}, ("B", None, None, {"text": "t"})),  # another place of the same kind
        ({"corpus": "common_voice"}, (None, None, None, {"text": "t"})),
        ({"corpus": "hub", "path": "B"}, ("B", None, None, {})),  # another kind, other columns
    ],
)
def test_inheritance(monkeypatch, given_keys, expected):
    seen = []
    for name in ("common_voice", "hub"):
        monkeypatch.setitem(CORPORA, name, lambda data, split, drops: seen.append(data) or iter(clips("x", 1)))
    data = section(transcripts="T", subset="S", columns={"text": "t"}, min_seconds=1.0, limit={"test": 3},
                   splits={"test": given_keys, "train": "train"})  # fmt: skip
    build_splits(data, seed=0, names=["test"])
    found = seen[0]
    assert (found.path, found.transcripts, found.subset, found.columns) == expected
    assert (found.min_seconds, found.splits, found.limit) == (1.0, {}, {})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (section(splits={"test": {"pth": "B"}}), r"data\.splits\.test\.pth: .*Try path"),
        (section(splits={"test": {"sources": []}}), r"data\.splits\.test\.sources: expected a key"),
        (section(splits={"test": []}), r"data\.splits\.test: expected a name or file, or a list of them, found \[\]"),
        (section(splits={"held_out": 0.1}), "held_out: expected a mapping"),
        (section(splits={"held_out": {"dev": 0.1}}), "held_out: expected a mapping"),
        (section(splits={"held_out": {"validation": 0.5, "test": 0.5}}), "leave something to train on"),
        (section(splits={"held_out": {"test": -0.1}}), "shares of 0 or more"),
        (section(splits={"held_out": {"test": "some"}}), "shares of 0 or more"),
        (section(splits={"held_out": {"by": "accent"}}), "one of speaker, id, found accent"),
        (section(sources=[{"corpus": "hub", "path": "A", "weight": 1}, {"corpus": "hub", "path": "B"}]), "for none"),
        (section(sources=[{"corpus": "hub", "path": "A", "weight": 0}]), "a weight above 0"),
    ],
)
def test_bad_sections(data, message):
    with pytest.raises(UserError, match=message):
        build_splits(data, seed=0)


def test_held_out_carves_what_is_missing():
    data = DataArguments(corpus="hub", path="A", splits={"held_out": {"validation": 0.3, "test": 0.2}})
    CORPUS["A"]["train"] = [clip(f"a{i}", text=f"a {i}", speaker=f"s{i % 50}") for i in range(300)]
    splits = build_splits(data, seed=0)
    assert sorted(id for split in splits.values() for id in ids(split)) == sorted(c.id for c in CORPUS["A"]["train"])
    speakers = [set(split.rows["speaker"]) for split in splits.values()]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 50
    assert all(split.warnings == [] for split in splits.values())
    # Seed, order of rows and the other split's share change nothing for test.
    CORPUS["A"]["train"].reverse()
    assert sorted(ids_of(data, "test", seed=9)) == sorted(ids(splits["test"]))
    given_validation = replace(data, splits={"held_out": {"validation": 0.3, "test": 0.2}, "validation": "other"})
    assert sorted(ids_of(given_validation, "test")) == sorted(ids(splits["test"]))
    assert sorted(ids_of(given_validation, "train")) == sorted(ids(splits["train"]) + ids(splits["validation"]))


def test_held_out_of_several_parts():
    data = section(splits={"train": ["train", "other"], "held_out": {"validation": 0.4, "by": "id"}})
    splits = build_splits(data, seed=0)
    both = [c.id for c in CORPUS["A"]["train"] + CORPUS["A"]["other"]]
    assert sorted(ids(splits["train"]) + ids(splits["validation"])) == sorted(both)
    assert ids(splits["test"]) == [f"t{i}" for i in range(5)]


def test_held_out_places_never_change():
    # Another place would move clips of published test sets into train.
    held_out = HeldOut(validation=0.3, test=0.2)
    places = [held_out.place(clip("x", speaker=speaker)) for speaker in ("anna", "ben", "")]
    assert places == pytest.approx(PLACES, abs=1e-12)
    assert HeldOut(by="id").place(clip("x", speaker="anna")) == places[2]


PLACES = [0.37171405469503516, 0.31897287648075895, 0.6022355635579354]


def test_held_out_is_the_same_in_another_process():
    code = (
        "from hf_asr.data.held_out import HeldOut\nfrom hf_asr.utterance import AudioRef, Utterance\n"
        "print([HeldOut().place(Utterance(id='x', audio=AudioRef(), text='', speaker=s)) for s in 'abc'])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str([HeldOut().place(clip("x", speaker=speaker)) for speaker in "abc"])


@given(st.text(min_size=1), st.text(min_size=1), st.floats(0, 0.49), st.floats(0, 0.49))
def test_a_speaker_is_on_one_side(speaker, id, validation, test):
    held_out = HeldOut(validation, test)
    assert held_out.side(clip(id, speaker=speaker)) == held_out.side(clip("another", speaker=speaker))
    assert 0 <= held_out.place(clip(id, speaker=speaker)) < 1


def test_no_speaker_on_that_side():
    CORPUS["A"]["train"] = clips("a", 3)
    with pytest.raises(UserError, match=r"test: .* none of its 3 speakers on that side; the lowest stands at 0\.\d+"):
        build_splits(section(splits={"held_out": {"validation": 0, "test": 1e-6}}), seed=0, names=["test"])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("one.csv", "path,text\n{0},a\n{1},b\n", {"train": ["0.wav", "1.wav"]}),
        ("one.csv", "path,text,split\n{0},a,train\n{1},b,dev\n", {"train": ["0.wav"], "validation": ["1.wav"]}),
    ],
)
def test_manifest_without_entries(tmp_path, name, content, expected):
    for index in (0, 1):
        (tmp_path / f"{index}.wav").write_bytes(encode(sound(1.0), 16_000, "wav"))
    (tmp_path / name).write_text(content.format("0.wav", "1.wav"))
    data = DataArguments(corpus="manifest", path=str(tmp_path / name))
    for split in ("train", "validation"):
        if split in expected:
            assert ids_of(data, split) == expected[split]
        else:
            with pytest.raises(
                UserError, match=r"Give data\.splits\.validation a file, carve it .* data\.columns\.split"
            ):
                build_splits(data, seed=0, names=[split])
    other = section(splits={"validation": {"corpus": "manifest", "path": str(tmp_path / name)}})
    assert ids_of(other, "validation") == expected.get("validation", expected["train"])


def test_manifest_without_anything():
    with pytest.raises(UserError, match=r"data\.splits\.train: .*no data\.path"):
        build_splits(DataArguments(corpus="manifest"), seed=0, names=["train"])


# ---- Filters ----


def test_filters_are_counted_and_named():
    CORPUS["A"]["train"] = [
        clip("ok"),
        clip("short", seconds=0.2),
        clip("long", seconds=31.0),
        clip("rounded", seconds=30.0004),
        clip("empty", text=" "),
        clip("odd", audio=AudioRef(path="/nowhere/\udcff.wav")),
        clip("nan", seconds=float("nan")),
    ]
    split = build_splits(section(), seed=0, names=["train"])["train"]
    assert ids(split) == ["ok", "rounded"]
    assert {reason: [id for id, _ in items] for reason, items in split.drops.reasons.items()} == {
        "votes": ["train-outvoted"],
        "too_short": ["short", "nan"],
        "too_long": ["long"],
        "empty_text": ["empty"],
        "bad_row": ["odd"],
    }
    assert ("short", "0.20 s, data.min_seconds is 0.3") in split.drops.reasons["too_short"]


def test_a_text_that_the_label_pipeline_empties_is_empty():
    CORPUS["A"]["train"] = [clip("a"), clip("b", text="...")]
    assert ids_of(section(), "train") == ["a", "b"]
    assert ids_of(section(text_pipeline="basic"), "train") == ["a"]


def test_an_empty_reference_stays_in_the_test():
    CORPUS["A"]["test"] = [clip("a"), clip("b", text="")]
    assert ids_of(section(), "test") == ["a", "b"]
    CORPUS["A"]["test"] = [clip("a", text=""), clip("b", text=" ")]
    with pytest.raises(UserError, match="test: expected transcripts, found 2 clips whose texts are all empty"):
        build_splits(section(), seed=0, names=["test"])


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_split_of_which_nothing_is_left(name):
    CORPUS["A"][name] = clips("x", 3, seconds=50.0)
    with pytest.raises(UserError, match=rf"{name}: expected clips in common_voice {name}.*too_long: 3 left out"):
        build_splits(section(), seed=0, names=[name])


def test_an_empty_corpus():
    CORPUS["A"]["train"] = []
    with pytest.raises(UserError, match="train: expected clips in common_voice train, found none left"):
        build_splits(section(), seed=0, names=["train"])


def test_ids_repeated_by_another_part_are_dropped():
    CORPUS["A"]["other"] = CORPUS["A"]["train"][:3] + clips("o", 2)
    split = build_splits(section(splits={"train": ["train", "other"]}), seed=0, names=["train"])["train"]
    assert len(ids(split)) == len(set(ids(split))) == 22
    assert split.drops.counts() == {"duplicate_id": 3, "votes": 2}


def sound(seconds: float):
    numpy = pytest.importorskip("numpy")
    return numpy.zeros(int(seconds * 16_000), dtype="float32") + 0.1


def test_durations_are_read_from_headers(tmp_path):
    for name, content in (("a", encode(sound(1.5), 16_000, "flac")), ("b", b"no audio")):
        (tmp_path / name).write_bytes(content)
    CORPUS["A"]["train"] = [
        clip("a", seconds=None, audio=AudioRef(path=str(tmp_path / "a"))),
        clip("known", seconds=3.0),
        clip("b", seconds=None, audio=AudioRef(path=str(tmp_path / "b"))),
        clip("bytes", seconds=None, audio=AudioRef(data=encode(sound(2.5), 16_000, "wav"))),
    ]
    split = build_splits(section(), seed=0, names=["train"])["train"]
    assert ids(split) == ["a", "known", "bytes"]
    assert list(split.rows["duration"]) == [1.5, 3.0, 2.5]
    assert split.seconds == 7.0
    assert [id for id, _ in split.drops.reasons["broken_audio"]] == ["b"]
    with pytest.raises(UserError, match=r"on_bad_clip=raise: .* found b: broken_audio.*data\.on_bad_clip=skip"):
        build_splits(section(on_bad_clip="raise"), seed=0, names=["train"])


def test_a_filtered_clip_is_not_a_broken_one():
    CORPUS["A"]["train"] = [clip("a"), clip("long", seconds=99.0)]
    assert ids_of(section(on_bad_clip="raise"), "train") == ["a"]


def test_limit_takes_the_first_after_the_filters_and_reads_no_further(monkeypatch):
    CORPUS["A"]["train"][1] = clip("a1", seconds=0.1)
    read = []
    monkeypatch.setitem(CORPORA, "common_voice", lambda *given: (read.append(c) or c for c in read_fake(*given)))
    split = build_splits(section(limit={"train": 3}), seed=0, names=["train"])["train"]
    assert ids(split) == ["a0", "a2", "a3"]
    assert len(read) == 4
    assert split.drops.counts() == {"too_short": 1, "votes": 1}


# ---- Mixtures ----
