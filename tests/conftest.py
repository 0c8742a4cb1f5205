"""What every test shares: offline, one thread, tiny models; real speech when it is there."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Two processes with two threads each on two cores run 10 to 20 times slower than one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A deadline per example would be a timed assertion: on a busy machine it fails for nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

PROJECT = Path(__file__).resolve().parents[1]


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name bytes without their content: a gzip or a float WAV has the time in it, and xdist wants equal names."""
    return "bytes" if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test its own feature cache, so that none reads what another wrote."""
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path_factory.mktemp("hf_asr_cache")))


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout that is being tested."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real speech; the test is skipped where there is none."""
    folder = Path(os.environ.get("HF_ASR_SHARED_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real speech is not at {folder}; set HF_ASR_SHARED_DATA to its folder")
    return folder.resolve()
