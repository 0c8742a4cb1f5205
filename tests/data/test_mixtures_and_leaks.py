"""Sources mixed by weight, and what splits must not share."""

from __future__ import annotations

import pytest
from helpers.fake_corpora import CORPUS, clip, clips, ids, ids_of, section, use_fake_corpora
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_asr.config.arguments import DataArguments
from hf_asr.data.audio import encode
from hf_asr.data.corpora import build_splits, find_leaks, mix
from hf_asr.data.row_table import table_of
from hf_asr.errors import UserError

# Fake corpora by data.path: split to utterances.


@pytest.fixture(autouse=True)
def fake_corpora(monkeypatch):
    use_fake_corpora(monkeypatch)


def sound(seconds: float):
    numpy = pytest.importorskip("numpy")
    return numpy.zeros(int(seconds * 16_000), dtype="float32") + 0.1


def mixture(**rest) -> DataArguments:
    weights = rest.pop("weights", (None, None))
    sources = [
        {"corpus": "common_voice", "path": "A", "weight": weights[0]},
        {"corpus": "hub", "path": "B", "weight": weights[1]},
    ]
    return DataArguments(sources=sources, **rest)


@pytest.mark.parametrize(
    ("weights", "limit", "expected"),
    [
        ((None, None), {}, (20, 10)),
        ((1, 1), {}, (10, 10)),
        ((2, 1), {}, (20, 10)),
        ((3, 1), {}, (20, 7)),
        ((1, 3), {}, (3, 10)),
        ((1, 1), {"train": 8}, (4, 4)),
        ((None, None), {"train": 6}, (4, 2)),
    ],
)
def test_weights_are_shares(weights, limit, expected):
    split = build_splits(mixture(weights=weights, limit=limit), seed=0, names=["train"])["train"]
    found = ids(split)
    assert (sum(id[0] == "a" for id in found), sum(id[0] == "b" for id in found)) == expected
    assert len(found) == len(set(found))
    assert len(found) + split.drops.counts().get("not_sampled", 0) == 30
    assert split.seconds == 2.0 * len(found)


def test_a_mixture_is_sampled_by_seed():
    first, again, other = (ids_of(mixture(weights=(1, 1)), "train", seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_evaluation_takes_all_sources_whole_and_weights_hold_for_train_only():
    data = mixture(weights=(1, 5))
    CORPUS["B"]["dev"] = CORPUS["B"].pop("validation")
    data.sources[1]["corpus"] = "common_voice"
    assert ids_of(data, "validation") == [f"d{i}" for i in range(5)] + [f"bv{i}" for i in range(3)]


def test_the_sections_own_splits_stand_for_the_mixture():
    data = mixture(splits={"test": {"corpus": "hub", "path": "B"}, "train": ["train", "test"]})
    assert ids_of(data, "test") == [f"bt{i}" for i in range(3)]
    assert len(ids_of(data, "train")) == 20 + 5 + 10 + 3


def test_a_source_for_training_only(tmp_path):
    (tmp_path / "x.wav").write_bytes(encode(sound(1.0), 16_000, "wav"))
    (tmp_path / "m.csv").write_text("path,text\nx.wav,a\n")
    data = mixture()
    data.sources[1] = {"corpus": "manifest", "path": str(tmp_path / "m.csv")}
    assert ids_of(data, "test") == [f"t{i}" for i in range(5)]
    assert len(ids_of(data, "train")) == 21
    data.sources = data.sources[1:]
    with pytest.raises(UserError, match=r"data\.splits\.test: expected to know which clips are test"):
        build_splits(data, seed=0, names=["test"])


def test_ids_that_collide_between_sources_are_prefixed():
    CORPUS["B"]["train"] = clips("a", 10)
    found = ids_of(mixture(), "train")
    assert found == [f"a{i}" for i in range(20)] + [f"hub1:a{i}" for i in range(10)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0.1, 10)), min_size=1, max_size=4), st.integers(0, 50))
def test_mix_keeps_shares_and_repeats_nothing(given_sources, limit):
    sizes, weights = zip(*given_sources, strict=True)
    tables = [TABLES[index].select(range(size)) for index, size in enumerate(sizes)]
    rows, left_out = mix(tables, weights, seed=3, limit=limit or None)
    kept = list(rows["id"])
    assert len(set(kept) | set(left_out)) == len(kept) + len(left_out) == sum(sizes)
    for index, weight in enumerate(weights):
        number = sum(id.startswith(f"{index}-") for id in kept)
        assert abs(number - len(kept) * weight / sum(weights)) <= 0.5 + 0.5 * len(weights)


@pytest.fixture(scope="module", autouse=True)
def tables(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_ASR_CACHE", str(tmp_path_factory.mktemp("tables")))
    TABLES.extend(table_of(lambda index=index: iter(clips(f"{index}-", 40))) for index in range(4))
    yield
    patch.undo()


TABLES: list = []


def test_leaks_are_told():
    CORPUS["A"]["test"] = [
        CORPUS["A"]["train"][0],
        clip("t1", text=" A  1"),
        clip("t2", text="new", speaker="s-a-3"),
        clip("t3", text="", speaker=""),
    ]
    splits = build_splits(section(), seed=0)
    assert splits["test"].warnings == [
        "test: 1 of its 4 clips are in train too, such as a0",
        "test: 2 of its 4 clips have a sentence that train has too, such as 'a 0'",
        "test: 2 of its 4 clips have a speaker whom train has too (2 speakers)",
    ]
    assert splits["validation"].warnings == []
    assert find_leaks(splits) == splits["test"].warnings


def test_identical_splits_are_told():
    splits = build_splits(section(splits={"test": "dev"}), seed=0)
    assert find_leaks(splits) == ["test: it is the same 5 clips as validation"]
    assert find_leaks({"test": splits["test"]}) == []


def test_equal_ids_of_different_clips_are_no_leak():
    CORPUS["A"]["test"] = [clip("a0", text="something else"), clip("a1", text="new")]
    assert build_splits(section(), seed=0)["test"].warnings == []
