"""The discrete forward process against matrix products, Monte Carlo and Bayes' rule.

Legend: T steps, B rows, K values, S states.
"""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from trainables.diffusion.discrete import (
    SCHEDULES,
    Corruption,
    DiscreteDiffusion,
    KeepingSchedule,
    kept_by_cosine,
    kept_linearly,
)

VALUES, STEPS = 4, 6
PROCESSES = pytest.mark.parametrize(
    "process",
    [
        pytest.param(DiscreteDiffusion(SCHEDULES[schedule](STEPS), corruption), id=f"{corruption}-{schedule}")
        for corruption in get_args(Corruption)
        for schedule in get_args(KeepingSchedule)
    ],
)


def one_step(process: DiscreteDiffusion, time: int) -> Tensor:
    """Return one step's matrix, written out: stay with α_t, else draw from π."""
    states = process.states(VALUES)
    alpha = float(process.kept_T1[time] / process.kept_T1[time - 1])
    matrix_SS = torch.zeros(states, states, dtype=torch.float64)
    for state in range(states):
        for to in range(states):
            uniform = process.corruption == "uniform"
            share = (1 / VALUES) if uniform else float(to == VALUES)
            matrix_SS[state, to] = alpha * (state == to) + (1 - alpha) * share
    return matrix_SS


def test_the_linear_schedule_loses_as_many_in_each_step() -> None:
    torch.testing.assert_close(kept_linearly(4), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))
    kept = kept_linearly(10)
    rates = [1 - float(kept[t] / kept[t - 1]) for t in range(1, 11)]
    assert rates == pytest.approx([1 / (10 - t + 1) for t in range(1, 11)])


def test_the_cosine_schedule_by_hand() -> None:
    kept = kept_by_cosine(2)
    start = math.cos(math.pi / 2 * 0.008 / 1.008)
    expected = [1.0, math.cos(math.pi / 2 * 0.508 / 1.008) / start, 0.0]
    assert kept.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kept", [[0.9, 0.5], [1.0, 0.5, 0.6], [1.0, -0.1], [1.0]])
def test_schedules_that_cannot_be(kept: list[float]) -> None:
    with pytest.raises(ValueError, match="must fall from 1"):
        DiscreteDiffusion(torch.tensor(kept), "mask")


def test_no_steps() -> None:
    for schedule in SCHEDULES.values():
        with pytest.raises(ValueError, match="0 steps; give at least one"):
            schedule(0)


@PROCESSES
def test_marginals_are_the_product_of_the_steps(process: DiscreteDiffusion) -> None:
    product_SS = torch.eye(process.states(VALUES), dtype=torch.float64)
    for time in range(1, STEPS + 1):
        product_SS = product_SS @ one_step(process, time)
        torch.testing.assert_close(process.transition(VALUES, time, 0), product_SS)
        marginal = process.marginal(torch.arange(VALUES), torch.full((VALUES,), time), VALUES)
        torch.testing.assert_close(marginal, product_SS[:VALUES])


@PROCESSES
def test_draws_have_the_marginals(process: DiscreteDiffusion) -> None:
    rows = 40_000
    torch.manual_seed(0)
    clean_B = torch.arange(rows) % VALUES
    time_B = torch.full((rows,), 2)
    noisy_B = process.corrupted(clean_B, process.lost(time_B, 1)[:, 0], VALUES)
    for value in range(VALUES):
        drawn = noisy_B[clean_B == value]
        share_S = torch.bincount(drawn, minlength=process.states(VALUES)).double() / len(drawn)
        expected_S = process.marginal(torch.tensor([value]), torch.tensor([2]), VALUES)[0]
        # five standard errors of a share over 10,000 draws
        assert float((share_S - expected_S).abs().max()) < 5 * 0.5 / math.sqrt(len(drawn))


@PROCESSES
def test_chains_of_a_row_are_independent(process: DiscreteDiffusion) -> None:
    torch.manual_seed(0)
    lost_B2 = process.lost(torch.full((40_000,), 3), 2).double()
    assert abs(float(torch.corrcoef(lost_B2.T)[0, 1])) < 5 / math.sqrt(40_000)


@PROCESSES
@pytest.mark.parametrize(("time", "before"), [(1, 0), (3, 2), (5, 2), (6, 5)])
def test_the_posterior_is_bayes_rule(process: DiscreteDiffusion, time: int, before: int) -> None:
    states = process.states(VALUES)
    step_SS = torch.eye(states, dtype=torch.float64)
    for step in range(before + 1, time + 1):
        step_SS = step_SS @ one_step(process, step)
    earlier_SS = torch.eye(states, dtype=torch.float64)
    for step in range(1, before + 1):
        earlier_SS = earlier_SS @ one_step(process, step)
    for clean in range(VALUES):
        for noisy in range(states):
            joint_S = torch.tensor([float(earlier_SS[clean, s] * step_SS[s, noisy]) for s in range(states)])
            if float(joint_S.sum()) == 0:
                continue
            given = process.posterior(*(torch.tensor([n]) for n in (noisy, clean, time, before)), VALUES)
            torch.testing.assert_close(given[0], (joint_S / joint_S.sum()).double(), rtol=1e-6, atol=1e-7)


@PROCESSES
def test_a_prediction_mixes_the_posteriors(process: DiscreteDiffusion) -> None:
    torch.manual_seed(1)
    noisy = process.states(VALUES) - 1  # the mask, or a value that every clean one may lead to
    predicted_K = torch.softmax(torch.randn(VALUES, dtype=torch.float64), dim=0)
    time, before = torch.tensor([4]), torch.tensor([3])
    mixed_S = process.posterior_of_prediction(torch.tensor([noisy]), predicted_K[None], time, before)[0]
    by_hand_S = sum(
        predicted_K[clean] * process.posterior(torch.tensor([noisy]), torch.tensor([clean]), time, before, VALUES)[0]
        for clean in range(VALUES)
    )
    torch.testing.assert_close(mixed_S, by_hand_S)
    assert float(mixed_S.sum()) == pytest.approx(1)


@pytest.mark.parametrize("time", [1, 3, 6])
def test_a_mask_is_restored_as_often_as_its_posterior_says(time: int) -> None:
    process = DiscreteDiffusion(kept_linearly(STEPS), "mask")
    posterior = process.posterior(*(torch.tensor([n]) for n in (VALUES, 2, time, time - 1)), VALUES)[0]
    assert process.restored(time) == pytest.approx(float(posterior[2]))
    assert process.restored(time) == pytest.approx(1 / time)


def test_a_mask_keeps_a_sequence_in_shape() -> None:
    ids_BL = torch.tensor([[1, 2], [3, 0]])
    lost_BL = torch.tensor([[True, True], [False, False]])
    masked = DiscreteDiffusion(kept_linearly(2), "mask").corrupted(ids_BL, lost_BL, VALUES)
    assert masked.tolist() == [[4, 4], [3, 0]]
