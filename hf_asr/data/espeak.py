"""The espeak-ng speech synthesizer, driven in this process through ctypes: the voices of the offline demo.

``espeakng_loader`` brings the library and its voices inside its wheel, so nothing is downloaded. espeak-ng is GPL-3:
the package is the optional extra ``demo`` and this is the only module that loads it.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np

from hf_asr.errors import UserError

SAMPLE_RATE = 22_050
RATES = range(80, 451)  # words a minute; outside of it espeak-ng silently takes the nearest
PITCHES = range(0, 100)

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS, _CHARACTERS, _UTF8 = 2, 1, 1
_RATE, _PITCH = 1, 3
_FULL_SCALE = 2**15
# The same noise in every voice's breath.
_SEED = 1
_LOCK = threading.Lock()


class _Engine:
    """The library of this process; it keeps one voice and one set of parameters, so one caller at a time."""

    def __init__(self, library: str, data: str) -> None:
        self.variants = Path(data) / "voices" / "!v"
        self.library = ctypes.CDLL(library)
        # ctypes would cut a long seed and guess an int for each pointer.
        self.library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self.library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.POINTER(ctypes.c_uint),
            ctypes.c_void_p,
        ]
        self.parts: list[np.ndarray] = []
        # The library keeps the pointer only: without a reference of ours Python would free it.
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = kind(self._take)
        rate = self.library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), 0)
        assert rate == SAMPLE_RATE, f"espeak_Initialize returned {rate}"
        self.library.espeak_SetSynthCallback(self.callback)

    def _take(self, samples: ctypes._Pointer[ctypes.c_short], number: int, events: int | None) -> int:
        if samples and number > 0:
            self.parts.append(np.ctypeslib.as_array(samples, (number,)).copy())
        return 0

    def set_voice(self, name: str) -> bool:
        """Choose a voice; tell whether there is one of this name."""
        return self.library.espeak_SetVoiceByName(name.encode()) == 0

    def synthesize(self, text: str, rate: int, pitch: int) -> np.ndarray:
        """Return 16-bit samples (T,)."""
        self.parts.clear()
        self.library.espeak_ng_SetRandSeed(_SEED)
        self.library.espeak_SetParameter(_RATE, rate, 0)
        self.library.espeak_SetParameter(_PITCH, pitch, 0)
        encoded = text.encode()
        status = self.library.espeak_Synth(encoded, len(encoded) + 1, 0, _CHARACTERS, 0, _UTF8, None, None)
        assert status == 0, f"espeak_Synth returned {status}"
        return np.concatenate(self.parts) if self.parts else np.zeros(0, np.int16)


def speak(text: str, voice: str, rate: int = 175, pitch: int = 50, variant: str = "") -> tuple[np.ndarray, int]:
    """Say a text.

    espeak-ng keeps the phase of its oscillators from clip to clip: the samples of a clip are the same only after the
    same calls in a fresh process, else they sound the same.

    Args:
        text: What is said.
        voice: espeak-ng's name of a language, such as ``en`` or ``ru``.
        rate: Words a minute.
        pitch: 0 to 99; 50 is the voice's own.
        variant: Timbre, such as ``f1`` or ``m3`` (:func:`variants`); empty for the language's own.

    Returns:
        Float32 samples (T,) in [-1, 1), and their rate, :data:`SAMPLE_RATE`.

    Raises:
        UserError: espeak-ng is not installed.
        ValueError: There is no such voice or variant, or a number is outside its range.
    """
    if rate not in RATES or pitch not in PITCHES:
        raise ValueError(f"expected a rate of 80 to 450 and a pitch of 0 to 99, found rate {rate} and pitch {pitch}")
    engine = _engine()
    # An unknown variant would be ignored in silence.
    if variant and variant not in variants():
        raise ValueError(f"expected a variant out of {', '.join(variants())}, found {variant!r}")
    with _LOCK:
        if not engine.set_voice(f"{voice}+{variant}" if variant else voice):
            raise ValueError(f"expected a language that espeak-ng speaks, such as en or ru, found {voice!r}")
        samples = engine.synthesize(text, rate, pitch)
    return samples.astype(np.float32) / _FULL_SCALE, SAMPLE_RATE


def variants() -> list[str]:
    """Return the names of the timbres that any voice can take.

    Raises:
        UserError: espeak-ng is not installed.
    """
    return sorted(path.name for path in _engine().variants.iterdir())


def version() -> str:
    """Return the version of the installed voices: another one speaks otherwise.

    Raises:
        UserError: They are not installed.
    """
    try:
        return importlib.metadata.version("espeakng_loader")
    except importlib.metadata.PackageNotFoundError:
        raise _missing() from None


@lru_cache(maxsize=1)
def _engine() -> _Engine:
    try:
        import espeakng_loader
    except ImportError:
        raise _missing() from None
    try:
        return _Engine(espeakng_loader.get_library_path(), espeakng_loader.get_data_path())
    except OSError as error:
        raise UserError(
            f"the demo's voices: expected espeak-ng's library to load, found: {error}; "
            "espeakng_loader has wheels for Linux with glibc, macOS and Windows"
        ) from error


def _missing() -> UserError:
    return UserError(
        "the demo's voices: expected the package espeakng_loader, found it not installed; "
        "install it with: pip install 'hf_asr[demo]'"
    )
