"""Memory as the processes have it that train."""

import os
import sys

from harness.cluster import ALLOCATION


def allocate_as_workers_do() -> None:
    """Start this program again with the workers' settings, where the environment has none of its own.

    An empty one, `GLIBC_TUNABLES= python -m …`, measures without.
    """
    if not set(ALLOCATION) <= set(os.environ):
        os.execve(sys.executable, sys.orig_argv, os.environ | ALLOCATION)
