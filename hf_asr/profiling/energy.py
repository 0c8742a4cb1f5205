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
        return _cards(library)[0]
    finally:
        library.nvmlShutdown()


def _cards(library: ctypes.CDLL) -> tuple[dict[str, float], int]:
    """Return the cards' counters, and the code of the last call that failed; 0 where none did."""
    number, counters = ctypes.c_uint(), dict[str, float]()
    failed = int(library.nvmlDeviceGetCount_v2(ctypes.byref(number)))
    for index in range(0 if failed else number.value):
        card, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        code = library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(card))
        code = code or library.nvmlDeviceGetTotalEnergyConsumption(card, ctypes.byref(millijoules))
        if code:
            failed = int(code)
        else:
            counters[f"nvml:{index}"] = millijoules.value / 1e3
    return counters, failed


def counter_problems(powercap: Path = POWERCAP) -> list[str]:
    """Tell, a line each, why counters that this machine has cannot be read; nothing where it has none.

    Args:
        powercap: Folder of the RAPL counters.
    """
    return [line for line in (_rapl_problem(powercap), nvml_problem()) if line]


def nvml_problem() -> str:
    """Tell why NVML is there but gives no energy; empty when it does, or there is no driver."""
    try:
        library = ctypes.CDLL(NVML)
    except OSError:
        return ""
    code, counters = int(library.nvmlInit_v2()), dict[str, float]()
    if not code:
        counters, code = _cards(library)
        library.nvmlShutdown()
    if counters:
        return ""
    if code in (0, NOT_SUPPORTED):
        return (
            "NVML: expected an energy counter (Volta and later), found cards without one. No joules of them are told."
        )
    meaning = NVML_ERRORS.get(code, f"error {code}")
    return f"NVML: expected the cards' energy counters, found: {meaning}. No joules of the cards are told."


# nvmlReturn_t of nvml.h.
NOT_SUPPORTED = 3
NVML_ERRORS = {4: "no permission", 9: "the driver is not loaded", 18: "library and driver differ"}


def _rapl_problem(powercap: Path) -> str:
    for file in sorted(powercap.glob("intel-rapl:[0-9]*/energy_uj")):
        try:
            int(file.read_text())
        except PermissionError:
            return (
                f"RAPL: expected to read {file}, found it forbidden (root alone since Linux 5.10). "
                f"No joules of the processor are told; an administrator can allow it: chmod a+r {file}."
            )
        except (OSError, ValueError) as error:
            return f"RAPL: expected a number in {file}, found {error}. No joules of the processor are told."
    return ""
