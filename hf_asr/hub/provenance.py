"""Where a model comes from, for its card: data and filters, seeds, command, versions, hardware, energy if counted."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_asr.config.arguments import Arguments
from hf_asr.hub.privacy import cut_paths, last_part, public_value

JOULES_A_KWH = 3.6e6


def provenance_rows(
    run_dir: Path, arguments: Arguments, command: Sequence[str] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of what one needs to make the model again; no local path, host or user name.

    Args:
        run_dir: The run folder, for ``environment.json`` and ``resources.json``; what is not there is left out.
        arguments: The whole configuration.
        command: The words of the command; None for this process's.
    """
    yield "command", f"`{public_command(sys.argv if command is None else command)}`"
    yield "seed", str(arguments.experiment.seed)
    yield "filters", ", ".join(_filters(arguments))
    environment = _read(run_dir / "environment.json")
    if environment:
        packages = {"hf_asr": importlib.metadata.version("hf_asr"), **environment["packages"]}
        versions = ", ".join(f"{name} {version}" for name, version in packages.items())
        yield "versions", f"Python {environment['python']}, {versions}"
        devices = ", ".join(environment["accelerators"]) or "no accelerator"
        yield "hardware", f"{environment['system']}, {environment['cores']} cores, {devices}"
        yield "processes", f"{environment['processes']} on {environment['device']}"
    yield from _resources(_read(run_dir / "resources.json"))


def public_command(words: Sequence[str]) -> str:
    """Return a command line whose paths are cut to names."""
    program, *rest = words
    return shlex.join([last_part(program), *(cut_paths(word) for word in rest)])


def _filters(arguments: Arguments) -> Iterator[str]:
    data = arguments.data
    yield f"{data.min_seconds:g} to {data.max_seconds:g} s"
    yield f"votes {'filtered' if data.filter_votes else 'not filtered'}"
    yield f"text pipeline {data.text_pipeline}"
    if data.splits:
        yield f"splits {json.dumps(public_value(data.splits), ensure_ascii=False, default=str)}"
    if data.drop_suspicious is not None:
        yield f"drop_suspicious {data.drop_suspicious}"


def _resources(resources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if resources:
        yield "training time", f"{resources['train_seconds'] / 3600:.2f} h for {resources['steps']:,} steps"
    if resources.get("joules") is not None:
        kwh = resources["joules"] / JOULES_A_KWH
        yield "energy", f"{kwh:.3g} kWh of training, counted by {resources['joules_from']}"


def _read(path: Path) -> dict[str, Any]:
    """Return a run's own JSON file; empty when it has none."""
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
