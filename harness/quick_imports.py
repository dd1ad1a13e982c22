"""Importing large libraries without the garbage collector."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Keep the garbage collector off, and what is made meanwhile out of its sight for good.

    Importing torch and Ray makes a million objects that stay to the end; to search them again and again is a third
    of the time that it takes.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
