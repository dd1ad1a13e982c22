"""What a process keeps of a finished trial's memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cluster import ALLOCATION

WAITS = """
import sys
from pathlib import Path
from harness.trial import finish_trial
from tests.harness.small_table import small_next_item
from tests.harness.test_trial import spec_of

def finish(size):
    result = finish_trial(
        spec_of(small, parameters={"size": size}), small.dataset, small.catalog, small.store, keep_checkpoint=False
    )
    lines = Path("/proc/self/status").read_text().splitlines()
    return result.peak_memory_bytes, next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

small = small_next_item(Path(sys.argv[1]))
_, before = finish(4)
peak, after = finish(400_000)
print((peak - before) >> 20, (after - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps memory as it is told")
def test_a_process_that_waits_for_its_next_trial_holds_little_of_the_last(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITS, str(tmp_path)],
        check=True,
        env=os.environ | ALLOCATION,
        capture_output=True,
        text=True,
        timeout=300,
    )
    peak, after = map(int, done.stdout.split())
    assert peak > 400, "40 × 400,000 parameters, their gradients, moments and the best epoch's copy, in MiB"
    assert after < 100
