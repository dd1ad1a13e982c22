"""Where a benchmark's prepared data is: named on the command line, or prepared into a temporary folder."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def with_data_root(main: Callable[[Path], None]) -> None:
    """Run a benchmark on the data root that the first argument names, or on a temporary one."""
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
