"""TensorBoard traces that may be published: their numbers, without the texts, which hold paths and settings."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter


def scalar_events(path: Path) -> bytes:
    """Return an event file with its scalars alone; empty where it has none.

    The Trainer writes its arguments (with local paths) and the model's configuration as texts into the same file.
    """
    buffer, found = BytesIO(), False
    writer = RecordWriter(buffer)
    for event in LegacyEventFileLoader(str(path)).Load():
        if event.HasField("file_version"):
            writer.write(Event(wall_time=event.wall_time, file_version=event.file_version).SerializeToString())
        scalars = [value for value in event.summary.value if value.HasField("simple_value")]
        if scalars:
            kept = Event(wall_time=event.wall_time, step=event.step)
            kept.summary.value.extend(scalars)
            writer.write(kept.SerializeToString())
            found = True
    return buffer.getvalue() if found else b""
