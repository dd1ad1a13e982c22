"""Event files: one a run, its bytes given by its content, its name by a key that tells whether it is current."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from harness.errors import StoreError

LAYOUT = 2
"""Raised whenever the same record would give other events, so that runs written before are written again."""

PREFIX = "events.out.tfevents."


def run_folder(logdir: Path, table: str, *names: str) -> Path:
    """Return the folder of a run; a table's name may have slashes, the other names become one folder each."""
    return logdir.joinpath(*(_folder_name(name) for name in (*table.split("/"), *names)))


def key_of(*content: object) -> str:
    """Return what identifies a run's content: 20 hexadecimal digits."""
    canonical = json.dumps([LAYOUT, *content], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]


def write_run(folder: Path, key: str, events: Callable[[], Iterable[Event]]) -> bool:
    """Write a run's event file in place of what the run had; return False when the one with this key is there.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        old = list(folder.glob(f"{PREFIX}*")) if folder.is_dir() else []
        if len(old) == 1 and old[0].name.endswith(f".{key}"):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        # A viewer that is open goes on to the file with the later name, so names carry the time, as TensorBoard's do.
        _write_whole(folder / f"{PREFIX}{time.time_ns() // 1_000_000:014d}.{key}", events())
        for path in old:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: event file cannot be written ({error.strerror or error})") from None
    return True


def remove_run(folder: Path) -> None:
    """Delete a run's event files, and its folder when nothing else is in it.

    Raises:
        StoreError: a file cannot be deleted.
    """
    try:
        for path in folder.glob(f"{PREFIX}*"):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: event file cannot be deleted ({error.strerror or error})") from None
    with contextlib.suppress(OSError):
        folder.rmdir()


def scalar(tag: str, value: float, *, step: int = 0, seconds: float = 0.0) -> Event:
    """Return one point of a scalar; `seconds` since the trial's start stand for the time of day."""
    return Event(step=step, wall_time=seconds, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))


def text(tag: str, markdown: str) -> Event:
    """Return a text that TensorBoard renders as Markdown."""
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    tensor = TensorProto(dtype=DT_STRING, string_val=[markdown.encode()])
    return Event(summary=Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]))


def image(tag: str, figure: Figure) -> Event:
    """Return a figure as an image, PNG at the figure's own size and resolution."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
    png = buffer.getvalue()
    width, height = struct.unpack(">II", png[16:24])
    picture = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
    return Event(summary=Summary(value=[Summary.Value(tag=tag, image=picture)]))


def plugin_event(tag: str, metadata: Any, tensor: Any) -> Event:
    """Return an event that carries a plugin's metadata."""
    return Event(summary=Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]))


def markdown_list(facts: Iterable[tuple[str, object]]) -> str:
    """Return facts as a Markdown list; empty ones are left out."""
    return "\n".join(f"- {name}: `{value}`" for name, value in facts if value not in ("", None))


def _write_whole(path: Path, events: Iterable[Event]) -> None:
    partial = path.with_name(f".partial-{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            writer = RecordWriter(stream)
            writer.write(Event(file_version="brain.Event:2").SerializeToString(deterministic=True))
            for event in events:
                writer.write(event.SerializeToString(deterministic=True))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _folder_name(name: str) -> str:
    """Return a name as one folder's, different names as different folders."""
    for forbidden in "%/\\\0":
        name = name.replace(forbidden, f"%{ord(forbidden):02X}")
    return name.replace(".", "%2E") if not name.strip(".") else name
