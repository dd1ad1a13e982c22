"""Files that are written whole or not at all, so that nobody reads half of one and a failed write loses no old one."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` once the body has ended without an error.

    Its name is nobody else's: processes of different containers may have the same number.

    Raises:
        OSError: the folder cannot be written; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
