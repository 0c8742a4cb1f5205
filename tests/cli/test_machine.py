"""What doctor finds out about the machine."""

from __future__ import annotations

import importlib.metadata
from collections import namedtuple
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
import torch

from hf_asr.cli import machine

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "total available")


@pytest.mark.parametrize(("free", "ok"), [(3, True), (1, False)])
def test_disk_is_that_of_the_nearest_folder_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, ok: bool
) -> None:
    seen = []
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: seen.append(path) or Usage(9, 9, free * machine.GIB))
    check = machine.check_disk(tmp_path / "runs" / "new")
    assert seen == [tmp_path]
    assert check.ok is ok
    assert f"{free}.0 GiB free" in check.found


def test_a_folder_that_cannot_be_written_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    check = machine.check_disk(tmp_path, 0)
    assert not check.ok
    assert "read-only" in check.found


@pytest.mark.parametrize(("available", "ok"), [(8, True), (1, False)])
def test_memory_is_what_is_free_now(monkeypatch: pytest.MonkeyPatch, available: int, ok: bool) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(16 * machine.GIB, available * machine.GIB))
    check = machine.check_memory()
    assert check.ok is ok
    assert f"{available}.0 of 16.0 GiB free" in check.found


def test_memory_is_the_accelerators_where_the_model_goes_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2 * machine.GIB, 15 * machine.GIB))
    check = machine.check_memory(3 * machine.GIB, "weights", on_cpu=False)
    assert not check.ok
    assert check.found == "2.0 of 15.0 GiB free (Tesla T4)"
    assert "Tesla" not in machine.check_memory(1, "weights", on_cpu=True).found


@pytest.mark.parametrize(
    ("bf16", "wanted", "ok"), [(True, "bfloat16", True), (False, "bfloat16", False), (False, "float16", True)]
)
def test_a_gpu_without_bfloat16_is_told(monkeypatch: pytest.MonkeyPatch, bf16: bool, wanted: str, ok: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16 or including_emulation)
    check = machine.check_device(wanted)
    assert check.ok is ok
    assert check.found.startswith("Tesla T4: float32, float16")


def test_a_run_on_the_cpu_is_held_to_the_cpu() -> None:
    assert machine.check_device("bfloat16", on_cpu=True).ok
    assert not machine.check_device("float16", on_cpu=True).ok


@pytest.mark.parametrize(
    ("cores", "threads", "processes", "workers", "ok"),
    [(4, 4, 1, 0, True), (4, 2, 2, 2, True), (4, 4, 2, 0, False), (4, 1, 2, 4, False), (2, 4, 1, 0, False)],
)
def test_more_threads_or_workers_than_cores_are_a_finding(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int, processes: int, workers: int, ok: bool
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    check = machine.check_threads(workers)
    assert check.ok is ok
    assert f"OMP_NUM_THREADS={cores // processes}" in check.do


@pytest.mark.parametrize(("offline", "told"), [(True, "HF_HUB_OFFLINE is set"), (False, "online")])
def test_being_offline_is_told_and_no_fault(monkeypatch: pytest.MonkeyPatch, offline: bool, told: str) -> None:
    monkeypatch.setattr(machine, "is_offline", lambda: offline)
    check = machine.check_offline()
    assert check.ok
    assert check.found.startswith(told)


@pytest.mark.parametrize(
    ("name", "offline", "ok", "told"),
    [
        ("config:whisper-tiny", True, True, "local"),
        (".", True, True, "local"),
        ("org/no-such-model-anywhere", True, False, "HF_HUB_OFFLINE is set"),
        ("org/no-such-model-anywhere", False, True, "on the Hub"),
        ("./no/such/folder", False, False, "no folder"),
    ],
)
def test_a_hub_name_that_is_not_cached_needs_the_hub(
    monkeypatch: pytest.MonkeyPatch, name: str, offline: bool, ok: bool, told: str
) -> None:
    monkeypatch.setattr(machine, "is_offline", lambda: offline)
    check = machine.check_model_reachable(name, None)
    assert check.ok is ok
    assert told in check.found


@pytest.mark.parametrize(
    ("requirement", "ok"),
    [
        ("numpy>=1", True),
        ("numpy<1", False),
        ('numpy<1 ; extra == "dev"', True),
    ],
)
def test_libraries_outside_their_ranges_are_named(monkeypatch: pytest.MonkeyPatch, requirement: str, ok: bool) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [requirement])
    check = machine.check_versions()
    assert check.ok is ok
    assert ("numpy" in check.found) is not ok


@pytest.mark.parametrize("missing", ["hf_asr", "numpy"])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    requires = {"hf_asr": ["numpy>=1"]} if missing == "numpy" else {}
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires.get(name) or not_installed(name))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: not_installed(name))
    check = machine.check_versions()
    assert not check.ok
    assert check.found == f"{missing} is not installed"


def not_installed(name: str) -> NoReturn:
    """Raise what importlib does."""
    raise importlib.metadata.PackageNotFoundError(name)


def test_this_environment_is_within_the_ranges() -> None:
    assert machine.check_versions().ok
