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
from tests.small_checkout import TABLE, process_environment, write_checkout

CPUS = 2


def main(trials: int = 40, seconds: float = 10.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        row = {"name": "Sleeping", "method": "sleeping", "parameters": {"seconds": seconds, "maximum_epochs": 1}}
        variables = write_checkout(Path(folder), [row], table={"seeds": list(range(trials))})
        environment = process_environment(variables)
        command = [sys.executable, "-m", "harness", "run", TABLE, "--published", "--cpus", str(CPUS)]
        started = time.perf_counter()
        subprocess.run(command, check=True, env=environment, capture_output=True)
        wall = time.perf_counter() - started
        spent = sum(record.wall_seconds for record in known_trials(Store(Path(folder) / "runs")))
    print(
        f"sweep of {trials} trials of {seconds:g} s on {CPUS} CPUs: wall {wall:.1f} s, trials {spent:.1f} s;", end=" "
    )
    print(f"wall x {CPUS} / trials = {wall * CPUS / spent:.3f}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
