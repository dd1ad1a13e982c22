from __future__ import annotations

import math

import pytest
import torch

from trainables.diffusion.schedules import csdm_schedule


def test_equations_11_and_12_as_printed() -> None:
    steps, beta = 7, 0.03
    alpha_by_hand = [(1 - beta) ** t for t in range(steps + 1)]

    def c(t: int) -> float:
        above = sum(math.sqrt(alpha_by_hand[t] / alpha_by_hand[k]) for k in range(1, t + 1))
        return above / sum(math.sqrt(alpha_by_hand[t] / alpha_by_hand[k]) for k in range(1, steps + 1))

    alpha, side = csdm_schedule(steps, beta)
    torch.testing.assert_close(alpha, torch.tensor(alpha_by_hand, dtype=torch.float64))
    torch.testing.assert_close(side, torch.tensor([c(t) for t in range(steps + 1)], dtype=torch.float64))


def test_the_papers_setting() -> None:
    alpha, c = csdm_schedule()
    assert alpha.shape == c.shape == (101,)
    assert float(c[0]) == 0
    assert float(c[100]) == pytest.approx(1)
    assert float(c[91]) == pytest.approx(0.91, abs=1e-3)
    assert bool((alpha.diff() < 0).all()) and bool((c.diff() > 0).all())


@pytest.mark.parametrize(("steps", "beta"), [(0, 1e-5), (10, 0.0), (10, 1.0)])
def test_impossible_schedules_are_refused(steps: int, beta: float) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        csdm_schedule(steps, beta)
