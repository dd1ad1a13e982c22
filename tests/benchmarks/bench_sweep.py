"""What a sweep costs beside its trials: 40 trials of ten seconds on two CPUs, start-up included.

`python -m tests.benchmarks.bench_sweep [trials] [seconds]`
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.estimate import known_trials
from harness.store import Store
from tests.harness.small_table import TABLE, small_next_item

CPUS = 2


def main(trials: int = 40, seconds: float = 10.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        row = {"name": "Sleeps", "method": "sleeps", "parameters": {"seconds": seconds, "maximum_epochs": 1}}
        small = small_next_item(Path(folder), rows=[row], seeds=list(range(trials)))
        small.add_method("sleeps", "tests.doubles:Sleeps", published=[{"datasets": ["*"], "source": "chosen here"}])
        (small.places.results / TABLE / "published.csv").write_text("dataset,row,metric,value,flag\n")
        command = [sys.executable, "-m", "harness", "run", TABLE, "--published", "--cpus", str(CPUS)]
        started = time.perf_counter()
        subprocess.run(command, check=True, env=small.environment, capture_output=True)
        wall = time.perf_counter() - started
        spent = sum(record.wall_seconds for record in known_trials(Store(Path(folder) / "runs")))
    print(
        f"sweep of {trials} trials of {seconds:g} s on {CPUS} CPUs: wall {wall:.1f} s, trials {spent:.1f} s;", end=" "
    )
    print(f"wall x {CPUS} / trials = {wall * CPUS / spent:.3f}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
