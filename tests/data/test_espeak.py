"""The voices of the demo: they speak, and what they cannot do is said."""

from __future__ import annotations

import builtins
import importlib.metadata
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="the extra `demo` is not installed")

from hf_asr.data import espeak
from hf_asr.errors import UserError

TEXT = {"en": "grandma paints two boats", "ru": "бабушка рисует две лодки"}


def pitch_of(samples: np.ndarray) -> float:
    """Return the strongest period's frequency in Hz, by autocorrelation between 60 and 400 Hz."""
    spectrum = np.abs(np.fft.rfft(samples, 2 * len(samples))) ** 2
    correlation = np.fft.irfft(spectrum)
    low, high = espeak.SAMPLE_RATE // 400, espeak.SAMPLE_RATE // 60
    return espeak.SAMPLE_RATE / (low + int(np.argmax(correlation[low:high])))


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize("variant", ["", "f4", "m6"])
def test_it_speaks(language: str, variant: str) -> None:
    samples, rate = espeak.speak(TEXT[language], language, variant=variant)
    assert rate == 22_050
    assert samples.dtype == np.float32
    assert 0.8 < len(samples) / rate < 2.5
    assert 0.1 < np.abs(samples).max() <= 1


def test_every_call_is_whole() -> None:
    long, _ = espeak.speak("nine bottles and ten letters and eleven chairs", "en")
    short, _ = espeak.speak("ten", "en")
    assert 0 < len(short) < len(long) / 3


def test_a_faster_rate_is_shorter() -> None:
    lengths = [len(espeak.speak(TEXT["en"], "en", rate)[0]) for rate in (120, 175, 260)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 1.5 * lengths[2]


def test_a_higher_pitch_is_higher() -> None:
    low, high = (pitch_of(espeak.speak("no", "en", 175, pitch)[0]) for pitch in (20, 80))
    assert high > 1.2 * low


def test_variants_sound_different() -> None:
    assert {"f1", "f4", "m3", "m6"} <= set(espeak.variants())
    female, male = (pitch_of(espeak.speak("no", "en", variant=variant)[0]) for variant in ("f4", "m6"))
    assert female > 1.2 * male


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"voice": "xx"}, "expected a language that espeak-ng speaks, such as en or ru, found 'xx'"),
        ({"variant": "zz"}, "expected a variant out of .*f1.*, found 'zz'"),
        ({"rate": 79}, "expected a rate of 80 to 450 and a pitch of 0 to 99, found rate 79 and pitch 50"),
        ({"pitch": 100}, "found rate 175 and pitch 100"),
    ],
)
def test_what_it_cannot_do_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        espeak.speak(**{"text": "ten", "voice": "en"} | options)


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without the extra `demo`."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *rest, **options)

    def no_version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    espeak._engine.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(importlib.metadata, "version", no_version)
    yield
    espeak._engine.cache_clear()


@pytest.mark.usefixtures("not_installed")
def test_without_the_extra_it_says_what_to_install() -> None:
    for ask in (espeak.version, espeak.variants, lambda: espeak.speak("ten", "en")):
        with pytest.raises(UserError, match=r"found it not installed; install it with: pip install 'hf_asr\[demo\]'"):
            ask()


def test_a_library_that_does_not_load_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    import espeakng_loader

    espeak._engine.cache_clear()
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: "/nowhere/libespeak-ng.so")
    with pytest.raises(UserError, match=r"expected espeak-ng's library to load, found: .*nowhere"):
        espeak.speak("ten", "en")
    espeak._engine.cache_clear()
