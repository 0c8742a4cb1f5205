"""Energy from counters alone: RAPL for Intel's and AMD's processors, NVML for NVIDIA's cards; no counter, no joules."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"


def read_counters(powercap: Path = POWERCAP) -> dict[str, float]:
    """Return the joules that each counter of this machine stands at, by its name; empty where there is none."""
    return {**read_rapl(powercap), **read_nvml()}


def joules_since(before: Mapping[str, float], powercap: Path = POWERCAP) -> dict[str, float | str | None]:
    """Return what was used since ``before``, with the counters it comes from; null where nothing counts.

    A counter counts the whole machine or card, whoever uses it. One that has wrapped around (RAPL's do after some
    262 kJ) is left out rather than guessed.

    Args:
        before: From :func:`read_counters`.
        powercap: Folder of the RAPL counters.
    """
    used = {name: now - before[name] for name, now in read_counters(powercap).items() if name in before}
    # An NVML counter that is not implemented stands at 0 for ever.
    used = {name: joules for name, joules in used.items() if joules > 0}
    whole = bool(used) and len(used) == len(before)
    return {"joules": sum(used.values()) if whole else None, "joules_from": ", ".join(used) if whole else None}


def read_rapl(powercap: Path) -> dict[str, float]:
    """Return the packages' counters; not readable by everybody since Linux 5.10, then empty."""
    counters = {}
    for file in sorted(powercap.glob("intel-rapl:[0-9]*/energy_uj")):
        if file.parent.name.count(":") > 1:  # a part of a package, counted in it already
            continue
        try:
            counters[file.parent.name] = int(file.read_text()) / 1e6
        except (OSError, ValueError):
            return {}
    return counters


def read_nvml() -> dict[str, float]:
    """Return the cards' counters (Volta and later); empty without a driver."""
    try:
        library = ctypes.CDLL(NVML)
    except OSError:
        return {}
    if library.nvmlInit_v2():
        return {}
    try:
        return _cards(library)
    finally:
        library.nvmlShutdown()


def _cards(library: ctypes.CDLL) -> dict[str, float]:
    number = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(number)):
        return {}
    counters = {}
    for index in range(number.value):
        card, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(card))
        if not library.nvmlDeviceGetTotalEnergyConsumption(card, ctypes.byref(millijoules)):
            counters[f"nvml:{index}"] = millijoules.value / 1e3
    return counters
