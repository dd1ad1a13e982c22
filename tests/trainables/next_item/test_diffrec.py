from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import cos, prod, sin

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.base import SequenceBatch
from trainables.next_item.appended import with_item_appended
from trainables.next_item.conformance import CHECKS, Build
from trainables.next_item.denoiser import cosine_features
from trainables.next_item.diffrec import (
    DiffRec,
    ImportantTimes,
    elbo_weights,
    linear_noise_variances,
)

ITEMS = 50


def make(size: int = 4, **parameters: object) -> DiffRec:
    torch.manual_seed(0)
    model = DiffRec(ITEMS, 6, size=size, **{"noise_scale": 5.0, **parameters})  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model.eval()


def dense(model: DiffRec, sequences: SequenceBatch) -> Tensor:
    """The rows written down [B, I]; the last occurrence of an item decides its entry."""
    row_BI = torch.zeros(len(sequences), ITEMS)
    for row, (history, length) in enumerate(
        zip(sequences.history_BL.tolist(), sequences.length_B.tolist(), strict=True)
    ):
        for place, item in enumerate(history[:length]):
            share = place / (length - 1) if length > 1 else 1.0
            row_BI[row, item - 1] = model.first_weight + (1 - model.first_weight) * share
    return row_BI


def network(model: DiffRec, x_BI: Tensor, time: int) -> Tensor:
    hidden_BD = torch.tanh(x_BI @ model.first_ID + model.time_layers(model.sinusoidal[time]))
    return hidden_BD @ model.last_ID.T + model.bias_I


def repeated() -> SequenceBatch:
    """Histories among which items come twice, one of them as the target again."""
    batch = random_batch(7)
    history_BL = batch.history_BL.clone()
    history_BL[:, 1] = torch.where(batch.length_B > 1, history_BL[:, 0], 0)
    target_B = batch.target_B.clone()
    target_B[0] = history_BL[0, 0]
    return SequenceBatch(history_BL, batch.length_B, target_B)


def test_noise_rises_evenly() -> None:
    kept_T = torch.cumprod(1 - linear_noise_variances(5, 0.1), dim=0)
    expected_T = 1 - 0.1 * torch.tensor([0.0001, 0.005075, 0.01005, 0.015025, 0.02], dtype=torch.float64)
    torch.testing.assert_close(kept_T, expected_T)
    for steps, scale in ((1, 0.1), (5, 50.0)):
        with pytest.raises(ValueError, match="use at least 2 steps, and a scale below 50"):
            linear_noise_variances(steps, scale)


def test_weights_of_the_bound() -> None:
    model = make(diffusion_steps=4)
    kept = model.diffusion.alpha_bar
    ratio = [value / (1 - value) for value in kept[1:]]
    expected = [1.0, *((before - after) / 2 for before, after in pairwise(ratio))]
    torch.testing.assert_close(elbo_weights(model.diffusion), torch.tensor(expected))
    assert torch.equal(make(weighting="none").weight_T, torch.ones(5))


@pytest.mark.parametrize("first_weight", [1.0, 0.1])
def test_rows_hold_every_item_once(first_weight: float) -> None:
    model, sequences = make(first_weight=first_weight), repeated()
    item_BL, value_BL = model._rows(sequences)
    row_BI = torch.zeros(7, ITEMS).scatter_add(1, item_BL, value_BL)
    torch.testing.assert_close(row_BI, dense(model, sequences))


@pytest.mark.parametrize("size", [4, 20])
@pytest.mark.parametrize("first_weight", [1.0, 0.1])
@torch.no_grad()
def test_loss_is_the_squared_error_of_whole_rows(
    size: int, first_weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise arrives as given; times are all the third. Size 20 exceeds the rows and takes the other way there."""
    model, batch = make(size, first_weight=first_weight), repeated()
    noise_BI = torch.randn(7, ITEMS)
    monkeypatch.setattr(model, "_noise", lambda rows: noise_BI @ model.first_ID)
    monkeypatch.setattr(model.times, "draw", lambda rows: (torch.full((rows,), 3), torch.full((rows,), 0.5)))
    row_BI = dense(model, with_item_appended(batch, batch.target_B))
    kept = model.diffusion.alpha_bar[3]
    restored_BI = network(model, kept**0.5 * row_BI + (1 - kept) ** 0.5 * noise_BI, 3)
    expected = model.weight_T[2] * functional.mse_loss(restored_BI, row_BI) / 0.5
    torch.testing.assert_close(model.loss(batch), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_dropout_scales_the_noises_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    """As dropout of a noisy row would: what is kept of it is divided by the share that is kept."""
    model, batch = make(dropout=0.75).train(), repeated()
    seen: list[Tensor] = []
    monkeypatch.setattr(model, "_noise", lambda rows: torch.ones(rows, 4))
    monkeypatch.setattr(model, "_summed", lambda item_BL, value_BL: torch.zeros(len(item_BL), 4))
    monkeypatch.setattr(model.times, "draw", lambda rows: (torch.full((rows,), 3), torch.ones(rows)))

    def watched(hidden_BD: Tensor, item_BL: Tensor, value_BL: Tensor) -> Tensor:
        seen.append(hidden_BD)
        return torch.zeros(len(hidden_BD))

    monkeypatch.setattr(model, "_squared_error", watched)
    model.loss(batch)
    deviation = (1 - model.diffusion.alpha_bar[3]) ** 0.5 / 0.25**0.5
    expected_D = torch.tanh(deviation + model.time_layers(model.sinusoidal[3]))
    torch.testing.assert_close(seen[0], expected_D.expand(7, 4))


@pytest.mark.parametrize("size", [4, 70])
@torch.no_grad()
def test_noise_has_the_covariance_of_dense_noise(size: int) -> None:
    """Size 70 exceeds the items: the covariance is singular."""
    model = make(size)
    drawn_BD = model._noise(40_000)
    expected_DD = model.first_ID.T @ model.first_ID
    scale = float(expected_DD.diagonal().mean())
    torch.testing.assert_close(drawn_BD.T.cov() / scale, expected_DD / scale, atol=0.05, rtol=0)
    assert model._noise(3).shape == (3, size)


@pytest.mark.parametrize("steps", [2, 5])
@torch.no_grad()
def test_reverse_process_in_the_hidden_layer_is_that_of_whole_rows(steps: int) -> None:
    model, batch = make(diffusion_steps=steps, taken="ranked"), repeated()
    x_BI, kept = dense(model, batch), model.diffusion.alpha_bar
    for time in range(steps, 0, -1):
        clean_BI = network(model, x_BI, time)
        alpha = kept[time] / kept[time - 1]
        x_BI = kept[time - 1] ** 0.5 * (1 - alpha) / (1 - kept[time]) * clean_BI + (
            alpha**0.5 * (1 - kept[time - 1]) / (1 - kept[time]) * x_BI
        )
    torch.testing.assert_close(model.rank_scores(batch), x_BI, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_sampling_steps_add_noise_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make(sampling_steps=2, taken="ranked"), repeated()
    noise_BD = torch.randn(7, 4)
    monkeypatch.setattr(model, "_noise", lambda rows: noise_BD)
    kept = model.diffusion.alpha_bar[2]
    quiet = make(taken="ranked")
    start_BD = kept**0.5 * dense(model, batch) @ model.first_ID + (1 - kept) ** 0.5 * noise_BD
    expected_BI = quiet._reversed(start_BD) @ model.last_ID.T + model.bias_I
    torch.testing.assert_close(model.rank_scores(batch), expected_BI, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="6 sampling_steps of 5"):
        make(sampling_steps=6)


@torch.no_grad()
def test_items_of_the_history_are_ranked_last() -> None:
    excluded, ranked, batch = make(), make(taken="ranked"), repeated()
    excluded_BI, ranked_BI = excluded.rank_scores(batch), ranked.rank_scores(batch)
    taken_BI = dense(excluded, batch) > 0
    assert torch.equal(excluded_BI == -torch.inf, taken_BI)
    assert torch.equal(excluded_BI[~taken_BI], ranked_BI[~taken_BI])


def test_times_are_drawn_by_their_losses() -> None:
    torch.manual_seed(0)
    times = ImportantTimes(2)
    time_B, rate_B = times.draw(2000)
    assert float((time_B == 1).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert torch.equal(rate_B, torch.ones(2000))
    times.record(torch.tensor([1] * 12 + [2] * 9), torch.tensor([9.0, 9.0] + [3.0] * 10 + [1.0] * 9))
    assert torch.equal(times.draw(5)[1], torch.ones(5))  # the second has nine only
    times.record(torch.tensor([2]), torch.tensor([1.0]))
    time_B, rate_B = times.draw(4000)
    expected = 0.999 * 0.75 + 0.0005
    assert float((time_B == 1).float().mean()) == pytest.approx(expected, abs=0.03)
    assert rate_B[time_B == 1][0].item() == pytest.approx(2 * expected)
    assert rate_B[time_B == 2][0].item() == pytest.approx(2 * (1 - expected))


def test_learns_which_items_go_together() -> None:
    """Users of the first ten items take more of them; histories of unseen users rank by it."""
    torch.manual_seed(0)
    model = DiffRec(20, 4, size=16, learning_rate=0.01)
    generator = torch.Generator().manual_seed(0)
    group_B = torch.arange(128) % 2
    item_BL = torch.stack([torch.randperm(10, generator=generator)[:5] for _ in range(128)]) + 1 + 10 * group_B[:, None]
    batch = SequenceBatch(item_BL[:, :4].int(), torch.full((128,), 4, dtype=torch.int32), item_BL[:, 4].int())
    optimizer = model.optimizer()
    for _ in range(150):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    best_B = model.eval().rank_scores(batch).argmax(1) // 10
    assert float((best_B == group_B).float().mean()) > 0.95


def exact_variances(steps: int, scale: Fraction, first: Fraction | None) -> list[Fraction]:
    """The schedule without rounding; `first` replaces its β_1."""
    low, high = Fraction(1, 10_000), Fraction(2, 100)
    kept = [1, *(1 - scale * (low + (high - low) * Fraction(step, steps - 1)) for step in range(steps))]
    beta = [1 - after / before for before, after in pairwise(kept)]
    return beta if first is None else [first, *beta[1:]]


def exact_ratios(beta: list[Fraction]) -> list[Fraction]:
    kept = [prod(1 - value for value in beta[:time]) for time in range(1, len(beta) + 1)]
    return [value / (1 - value) for value in kept]


@pytest.mark.parametrize(
    ("variant", "first", "of_fall", "printed"),
    [("paper", None, Fraction(1, 2), (490_148, 4_877)), ("released", Fraction(1, 100_000), 1, (83_263, 7_604))],
)
def test_weights_of_both_variants(
    variant: str, first: Fraction | None, of_fall: Fraction, printed: tuple[int, int]
) -> None:
    model = make(noise_scale=0.01, variant=variant)
    ratio = exact_ratios(exact_variances(5, Fraction(1, 100), first))
    expected = [1.0, *(float(of_fall * (before - after)) for before, after in pairwise(ratio))]
    assert model.weight_T.tolist() == pytest.approx(expected, rel=1e-6)
    assert model.weight_T[1:3].tolist() == pytest.approx(printed, abs=0.5)


@pytest.mark.parametrize(("steps", "scale"), [(2, 1e-5), (5, 0.01), (100, 0.1)])
def test_released_schedule_has_its_own_first_variance_alone(steps: int, scale: float) -> None:
    model = make(diffusion_steps=steps, noise_scale=scale, variant="released")
    exact = exact_variances(steps, Fraction(scale), Fraction(1, 100_000))
    expected = [float(1 - prod(1 - value for value in exact[:time])) for time in range(steps + 1)]
    assert [1 - kept for kept in model.diffusion.alpha_bar] == pytest.approx(expected, rel=1e-8)


def angles(time: int) -> list[float]:
    """The program's angles, one by one; it counts times from 0."""
    return [(time - 1) / 10000 ** (index / 5) for index in range(5)]


def test_released_times_count_from_0() -> None:
    feature_TF = cosine_features(101, 10)
    assert feature_TF.shape == (101, 10)
    for time in (1, 2, 40, 100):
        expected = [*map(cos, angles(time)), *map(sin, angles(time))]
        assert feature_TF[time].tolist() == pytest.approx(expected, abs=2e-5)


def released_network(model: DiffRec, x_BI: Tensor, time: int) -> Tensor:
    feature_F = torch.tensor([*map(cos, angles(time)), *map(sin, angles(time))])
    return torch.tanh(x_BI @ model.first_ID + model.time_layers(feature_F)) @ model.last_ID.T + model.bias_I


def released_kept(steps: int) -> list[float]:
    """ᾱ_0 … ᾱ_T for s = 5."""
    beta = exact_variances(steps, Fraction(5), Fraction(1, 100_000))
    return [float(prod(1 - value for value in beta[:time])) for time in range(steps + 1)]


@torch.no_grad()
def test_released_loss_is_the_weighted_error_of_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, kept = make(variant="released"), repeated(), released_kept(5)
    noise_BI = torch.randn(7, ITEMS)
    monkeypatch.setattr(model, "_noise", lambda rows: noise_BI @ model.first_ID)
    monkeypatch.setattr(model.times, "draw", lambda rows: (torch.full((rows,), 3), torch.full((rows,), 0.5)))
    row_BI = dense(model, with_item_appended(batch, batch.target_B))
    restored_BI = released_network(model, kept[3] ** 0.5 * row_BI + (1 - kept[3]) ** 0.5 * noise_BI, 3)
    weight = kept[2] / (1 - kept[2]) - kept[3] / (1 - kept[3])
    expected = weight * functional.mse_loss(restored_BI, row_BI) / 0.5
    torch.testing.assert_close(model.loss(batch), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_released_ranking_takes_all_steps_back_by_their_means() -> None:
    model, batch, kept = make(variant="released", taken="ranked"), repeated(), released_kept(5)
    x_BI = dense(model, batch)
    for time in range(5, 0, -1):
        alpha = kept[time] / kept[time - 1]
        clean_BI = kept[time - 1] ** 0.5 * (1 - alpha) * released_network(model, x_BI, time)
        x_BI = (clean_BI + alpha**0.5 * (1 - kept[time - 1]) * x_BI) / (1 - kept[time])
    torch.testing.assert_close(model.rank_scores(batch), x_BI, atol=1e-4, rtol=1e-4)


def test_released_time_layers_start_as_the_others() -> None:
    """Xavier's deviations: the second is a part of the layer from items and time."""
    torch.manual_seed(0)
    model = DiffRec(900, 6, size=200, variant="released")
    assert model.time_layers[0].weight.std().item() == pytest.approx((2 / 20) ** 0.5, rel=0.2)
    assert model.time_layers[1].weight.std().item() == pytest.approx((2 / 1110) ** 0.5, rel=0.1)
    assert model.first_ID.std().item() == pytest.approx((2 / 1110) ** 0.5, rel=0.1)
    for layer in model.time_layers:
        assert 0 < layer.bias.abs().max().item() < 0.005


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_that_"))
def test_released_conformance(check: Callable[[Build], None]) -> None:
    check(lambda items, length: DiffRec(items, length, size=16, variant="released"))
