"""AUC of 10 M float32 scores against one argsort of them: `python -m tests.benchmarks.bench_auc`."""

import time
from collections.abc import Callable

import numpy as np

from harness.metrics.auc import auc, auc_standard_error

ROWS = 10_000_000
REPEATS = 3


def seconds(work: Callable[[], object]) -> float:
    """Return the shortest of a few runs: the one that was disturbed least."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    """Print the ratio for balanced and for rare positives, with and without ties."""
    rng = np.random.default_rng(0)
    for share in (0.5, 0.05):
        for ties in (False, True):
            label = rng.random(ROWS) < share
            score = (rng.standard_normal(ROWS) + label).astype(np.float32)
            if ties:
                score = np.round(score, 2)
            argsort = seconds(lambda score=score: np.argsort(score))
            area = seconds(lambda score=score, label=label: auc(score, label))
            error = seconds(lambda score=score, label=label: auc_standard_error(score, label))
            print(
                f"{share:4.0%} positive, {'ties' if ties else 'no ties':7}: argsort {argsort:.2f} s, "
                f"AUC {area:.2f} s = {area / argsort:.2f} x argsort, standard error {error:.2f} s"
            )


if __name__ == "__main__":
    main()
