"""The grid's own file, ``samples.jsonl``: one line a sample, so that a grid that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_asr.errors import UserError

SAMPLES = "samples.jsonl"


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that share a loaded model.

    Attributes:
        model: As it was given.
        variant: Key of ``VARIANTS``.
        device: ``cpu`` or ``cuda``.
        dtype: Type of its weights.
    """

    model: str
    variant: str
    device: str
    dtype: str

    @property
    def key(self) -> str:
        """Its name in the file."""
        return "|".join((self.model, self.variant, self.device, self.dtype))


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the grid.

    Attributes:
        group: Its model as loaded.
        duration: Seconds of each clip.
        batch_size: Clips run together.
    """

    group: Group
    duration: float
    batch_size: int

    @property
    def key(self) -> str:
        """Its name in the file."""
        return f"{self.group.key}|{self.duration:g}s|{self.batch_size}"


class GridLog:
    """Records of a grid, appended and flushed one by one.

    Args:
        folder: Where the file is, or will be.
        settings: What must be the same for samples to belong together.

    Raises:
        UserError: The folder holds another grid's samples.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / SAMPLES
        self.records: list[dict[str, Any]] = _read(self.path) if self.path.is_file() else []
        wanted = json.loads(json.dumps(settings))
        if not self.records:
            folder.mkdir(parents=True, exist_ok=True)
            self.append("settings", "", settings=wanted)
        found = self.records[0].get("settings", {})
        changed = sorted(name for name in wanted if found.get(name) != wanted[name])
        if changed:
            told = ", ".join(f"{name} {found.get(name)} there, {wanted[name]} now" for name in changed)
            raise UserError(
                f"--output-dir: expected a new folder, or one whose grid had the same settings, found {told} in "
                f"{self.path}. Choose another folder, or delete that file."
            )

    def append(self, kind: str, key: str, **values: Any) -> None:
        """Write a record.

        Args:
            kind: ``plan``, ``sample``, ``facts``, ``quality``, ``operators``, ``train``, ``roof`` or ``settings``.
            key: Of a cell, a group, or a device and a type.
            values: What it says.
        """
        record = {"kind": kind, "key": key, **values}
        self.records.append(record)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def of(self, kind: str, key: str) -> list[dict[str, Any]]:
        """Return the records of a kind and a key, in their order."""
        return [record for record in self.records if record["kind"] == kind and record["key"] == key]

    def last(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return the latest of them; None where there is none."""
        found = self.of(kind, key)
        return found[-1] if found else None


def _read(path: Path) -> list[dict[str, Any]]:
    """Return a file's records; a last line that was cut off by a crash is left out, and cut off the file."""
    text = path.read_text(encoding="utf-8")
    whole, _, rest = text.rpartition("\n")
    if rest:
        path.write_text(whole + "\n" if whole else "", encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines() if line]
