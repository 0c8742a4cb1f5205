"""Shards from a server that fails: every sample exactly once, and what cannot be had is told by name."""

from __future__ import annotations

import random
from email.utils import formatdate
from pathlib import Path

import pytest
from helpers.faulty_server import FAULTS, Plan, faulty_server
from helpers.tiny_shards import make_tars

from hf_asr.config.arguments import DataArguments
from hf_asr.data import remote
from hf_asr.data.audio import load
from hf_asr.data.remote import Unreachable, fetch
from hf_asr.data.stream import Stream
from hf_asr.data.streaming import stream_rows
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(remote, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(remote, "TIMEOUT", 0.15)


def stream_from(address: str, shards: str, **rest: object) -> Stream:
    data = DataArguments(corpus="webdataset", path=f"{address}/train-{{{shards}}}.tar", streaming=True, **rest)
    return stream_rows(data, "train", 0, Drops())


def five_faults(shard: int) -> list[str]:
    """Return faults of one shard; a server overlooks a Range only where one is asked for."""
    chance = random.Random(shard)
    some = [chance.choice(("500", "503", "429", "cut", "reset")) for _ in range(5)]
    return [*some[:2], "slow" if shard % 4 == 0 else some[2], "cut", "whole"] if shard % 2 == 0 else some


def test_200_faults_and_every_sample_once(tmp_path: Path) -> None:
    ids = make_tars(tmp_path / "served", shards=40, clips=3)
    plan = Plan(faults={f"train-{shard:03d}.tar": five_faults(shard) for shard in range(40)}, stall=0.2)
    with faulty_server(tmp_path / "served", plan) as address:
        stream = stream_from(address, "000..039")
        for epoch in (0, 1):
            rows = [stream.row(place) for place in stream.places(epoch)]
            assert sorted(row["id"] for row in rows) == ids
        assert all(len(load(AudioRef(**row["audio"]))) >= 6400 for row in rows)
    assert plan.injected.total() == 200 and set(plan.injected) == set(FAULTS)
    assert stream.take_drops() == [] and not stream.failed


@pytest.mark.parametrize("on_bad_clip", ["skip", "raise"])
def test_a_shard_that_has_vanished(tmp_path: Path, on_bad_clip: str) -> None:
    ids = make_tars(tmp_path / "served", shards=3, clips=2)
    with faulty_server(tmp_path / "served", Plan(gone=["train-001.tar"])) as address:
        stream = stream_from(address, "000..002", on_bad_clip=on_bad_clip)
        if on_bad_clip == "raise":
            with pytest.raises(UserError, match=r"expected the shard http.*/train-001\.tar, which .* 404"):
                list(stream)
            return
        assert sorted(row["id"] for row in stream) == ids[:2] + ids[4:]
        ((name, error),) = stream.take_drops()
        assert name.endswith("/train-001.tar") and error.startswith("missing_shard: the server answers 404")
        assert list(stream.failed) == [name]


def test_what_was_left_out_before_a_resume_stays_out(tmp_path: Path) -> None:
    ids = make_tars(tmp_path / "served", shards=3, clips=2)
    with faulty_server(tmp_path / "served", Plan()) as address:
        stream = stream_from(address, "000..002")
        stream.leave_out({f"{address}/train-001.tar": "the server answers 404"})
        assert sorted(row["id"] for row in stream) == ids[:2] + ids[4:]


def test_a_server_that_is_slow_for_ever(tmp_path: Path) -> None:
    make_tars(tmp_path / "served", shards=1, clips=1)
    plan = Plan(faults={"train-000.tar": ["slow"] * 20}, stall=0.3)
    with faulty_server(tmp_path / "served", plan) as address, pytest.raises(Unreachable, match="8 attempts in a row"):
        fetch(f"{address}/train-000.tar", tmp_path / "here")
    assert list(tmp_path.glob("*here*")) == []


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"8 attempts in a row brought nothing, the last: .*refused"):
        fetch("http://127.0.0.1:9/x.tar", tmp_path / "here")


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("", None), ("soon", None), (formatdate(0), 0)])
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert remote._seconds_asked(value) == seconds


def test_the_hub_while_it_is_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"Hub to be switched on for hf://datasets/a/b/x\.tar"):
        fetch("hf://datasets/a/b/x.tar", tmp_path / "here")


def test_shards_far_away_tell_no_length(tmp_path: Path) -> None:
    stream = stream_from("http://127.0.0.1:9", "000..002")
    with pytest.raises(UserError, match=r"expected training\.max_steps, or data\.limit\.train"):
        stream.check_length(-1)
    assert stream.check_length(10) is None
    assert stream_from("http://127.0.0.1:9", "000..002", limit={"train": 6}).check_length(-1) == 6


def test_validation_is_not_read_from_far_away() -> None:
    from hf_asr.data.webdataset import read

    data = DataArguments(corpus="webdataset", path="http://127.0.0.1:9/x.tar")
    with pytest.raises(UserError, match="expected shards on this machine"):
        list(read(data, "test", Drops()))
