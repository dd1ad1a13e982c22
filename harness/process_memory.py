"""The memory of the process that a trial runs in: given back to the system, and its peak."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from pathlib import Path


def release_memory() -> None:
    """Give back the memory of earlier trials in this process, that of objects in reference cycles too."""
    gc.collect()
    trim_memory()


def trim_memory() -> None:
    """Give freed memory back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def reset_peak_memory() -> None:
    """Let the kernel's high-water mark start anew: workers run many trials, and each has its own peak."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory() -> int:
    """Return the highest resident set size in bytes since the last reset, or of the process where there is none."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    scale = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
