"""What `hf-asr doctor` finds out about the machine: room, devices, threads, libraries, the way to the Hub."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from hf_asr.data.checks import Check

GIB = 2**30
# whisper-tiny's training step peaks at 2.3 GB above the loaded model (batch 8), beside about 1 GB for the libraries.
MIN_MEMORY = 4 * GIB
# One checkpoint of whisper-tiny in float32 with AdamW's states is 0.45 GB; three are kept at once, beside the features.
MIN_DISK = 2 * GIB


def check_machine(
    folder: Path, *, dtype: str = "float32", on_cpu: bool = False, num_workers: int = 0
) -> Iterator[Check]:
    """Yield every check that needs neither model nor corpus.

    Args:
        folder: Where runs will be written; its disk is looked at.
        dtype: What training will compute in.
        on_cpu: Whether it is told to leave an accelerator alone.
        num_workers: Loader workers of one process.
    """
    yield check_disk(folder)
    yield check_memory()
    yield check_device(dtype, on_cpu=on_cpu)
    yield check_threads(num_workers)
    yield check_offline()
    yield check_versions()


def nearest_folder(path: Path) -> Path:
    """Return the folder itself, or the nearest one above it that is there already."""
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.is_dir())


def check_disk(folder: Path, needed: int = MIN_DISK, what: str = "runs") -> Check:
    """Compare the free space of the disk under a folder with what is needed there."""
    there = nearest_folder(folder)
    free = shutil.disk_usage(there).free
    file = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.is_file()), None)
    fault = f", and {file} is a file" if file else "" if os.access(there, os.W_OK) else ", and the folder is read-only"
    return Check(
        f"disk for {what}",
        ok=free >= needed and not fault,
        found=f"{free / GIB:.1f} GiB free{fault}",
        expected=f"{needed / GIB:.2f} GiB in a folder that can be written",
        do="Free space, or choose another disk (experiment.output_dir, features.cache_dir).",
    )


def free_memory(on_cpu: bool) -> tuple[str, int, int]:
    """Return (whose, free bytes, all bytes) of the memory that a model trains in."""
    import torch

    if torch.cuda.is_available() and not on_cpu:
        return torch.cuda.get_device_name(), *torch.cuda.mem_get_info()
    memory = psutil.virtual_memory()
    return "this machine", memory.available, memory.total


def check_memory(needed: int = MIN_MEMORY, what: str = "the libraries and a batch", *, on_cpu: bool = True) -> Check:
    """Compare the memory that is free now with what is needed."""
    whose, free, total = free_memory(on_cpu)
    return Check(
        f"memory for {what}",
        ok=free >= needed,
        found=f"{free / GIB:.1f} of {total / GIB:.1f} GiB free ({whose})",
        expected=f"{needed / GIB:.2f} GiB or more",
        do="Close other programs, or take a smaller model, a smaller batch, or peft.method: lora.",
    )


def supported_dtypes(on_cpu: bool = False) -> tuple[str, list[str]]:
    """Return the device that training will use, and the dtypes it trains in."""
    import torch

    if on_cpu:
        return "CPU", ["float32", "bfloat16"]
    if torch.cuda.is_available():
        bf16 = ["bfloat16"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
        return torch.cuda.get_device_name(), ["float32", "float16", *bf16]
    if torch.backends.mps.is_available():
        return "Apple GPU", ["float32", "float16"]
    return "CPU", ["float32", "bfloat16"]


def check_device(wanted: str = "float32", *, on_cpu: bool = False) -> Check:
    """Compare the dtype a run asks for with what the device trains in."""
    device, dtypes = supported_dtypes(on_cpu)
    return Check(
        "dtype",
        ok=wanted in dtypes,
        found=f"{device}: {', '.join(dtypes)}",
        expected=f"a device that trains in {wanted}",
        do="Set training.bf16 or training.fp16 to what the device has; T4 and P100 have float16, not bfloat16.",
    )


def usable_cores() -> int:
    """Return the cores this process may use; elsewhere than on Linux all of them."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def check_threads(num_workers: int = 0) -> Check:
    """Compare threads times processes, and loader workers, with the cores.

    Args:
        num_workers: Loader workers of one process.
    """
    import torch

    cores, threads, processes = usable_cores(), torch.get_num_threads(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    busy = processes * max(threads, num_workers)
    return Check(
        "threads",
        ok=busy <= cores,
        found=f"{processes} process(es) x {threads} thread(s), {num_workers} loader worker(s) each, {cores} core(s)",
        expected="no more threads or workers than cores: twice as many were 10 to 20 times slower",
        do=f"Set OMP_NUM_THREADS={max(1, cores // processes)}, or lower data.num_workers.",
    )


def is_offline() -> bool:
    """Tell whether the Hub's client is told to stay offline."""
    from huggingface_hub import is_offline_mode

    return bool(is_offline_mode())


def check_offline() -> Check:
    """Say whether names on the Hub can be fetched; being offline is no fault in itself."""
    state = "HF_HUB_OFFLINE is set: only what is in the local cache can be named" if is_offline() else "online"
    return Check("Hub", ok=True, found=state)


def check_model_reachable(name: str, revision: str | None) -> Check:
    """See that the model is a folder, ``config:NAME``, in the local cache, or that the Hub may be asked for it."""
    state, ok = where_model_is(name, revision)
    return Check(
        "where the model is",
        ok=ok,
        found=f"{name}: {state}",
        expected="a folder, config:NAME, or a name that the Hub or its local cache has",
        do="Check the name; or unset HF_HUB_OFFLINE, or fetch it first with `hf download`.",
    )


def where_model_is(name: str, revision: str | None) -> tuple[str, bool]:
    """Return where a model's files are, in words, and whether it can be had."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if name.startswith("config:") or Path(name).is_dir():
        return "local", True
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        return "no folder, and no name that the Hub could have", False
    if isinstance(cached, str):
        return "in the local cache", True
    return "on the Hub, if anywhere" + (", and HF_HUB_OFFLINE is set" if is_offline() else ""), not is_offline()


def check_versions() -> Check:
    """Compare the installed libraries with the ranges that the package asks for."""
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires("hf_asr") or []]
        core = [item for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})]
        versions = {item: importlib.metadata.version(item.name) for item in core}
        outside = {item: version for item, version in versions.items() if not item.specifier.contains(version, True)}
        wrong = [f"{item.name} {version} (not {item.specifier})" for item, version in outside.items()]
    except importlib.metadata.PackageNotFoundError as error:
        wrong = [f"{error.name} is not installed"]
    return Check(
        "libraries",
        ok=not wrong,
        found=", ".join(wrong) or "all in their ranges",
        expected="the versions that hf_asr was tested with",
        do="Install again: `make venv`, or `pip install -e .` in the project.",
    )
