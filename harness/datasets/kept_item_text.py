"""The known file of item text, kept inside a prepared dataset, so that its trials need no folder of raw files.

It lies in the prepared folder's `raw/`, as it was beside the raw files. It is no part of the dataset's hash: its own is
known. A dataset without it looks for it where raw files are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.datasets.item_descriptions import COLUMNS
from harness.datasets.prepared import PreparedDataset
from harness.datasets.raw import ItemTextFile, KnownFile, RawFile, Say, read_raw
from harness.errors import DataError
from harness.whole_files import whole_file

RAW = "raw"


def kept_item_text(prepared: PreparedDataset, wanted: ItemTextFile) -> RawFile | None:
    """Return a prepared dataset's own copy of the known file, or None where it has none."""
    file = _read(prepared.folder / RAW, wanted)
    return file if file is not None and file.sha256 == wanted.sha256 else None


def keep_item_text(prepared: PreparedDataset, wanted: ItemTextFile, places: Sequence[Path], say: Say) -> None:
    """Take the known file along from the first of these folders that has it, unless that is done.

    Args:
        prepared: the dataset.
        wanted: the known file.
        places: where it may be; the first is where its absence is told of.
        say: told in one line when none of them has it.

    Raises:
        DataError: a file of its name cannot be read, or the copy cannot be written.
    """
    if kept_item_text(prepared, wanted) is not None:
        return
    others = []
    for place in places:
        file = _read(place, wanted)
        if file is not None and file.sha256 == wanted.sha256:
            _write(prepared.folder / RAW / wanted.name, file.data)
            return
        others += [] if file is None else [f"{place / wanted.name} has sha256 {file.sha256[:12]}"]
    columns = ", ".join((wanted.id_column, *COLUMNS))
    found = others[0] if others else f"no {wanted.name} in {places[0]}"
    say(
        f"{prepared.name}: {found}: methods that read item text need the known {wanted.name} (sha256"
        f" {wanted.sha256[:12]}; columns {columns}); put it there and prepare again, other methods go without"
    )


def kept_problems(prepared: PreparedDataset, wanted: ItemTextFile) -> list[str]:
    """Return one line if a prepared dataset keeps another file than the known one."""
    path = prepared.folder / RAW / wanted.name
    if not path.is_file() or kept_item_text(prepared, wanted) is not None:
        return []
    return [f"{prepared.name}: {path} differs from the known file; delete it and prepare again"]


def _read(folder: Path, wanted: ItemTextFile) -> RawFile | None:
    return read_raw(folder, {wanted.name: KnownFile(0)})[wanted.name] if (folder / wanted.name).is_file() else None


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}: cannot be written ({reason}); the dataset is prepared without it") from None
