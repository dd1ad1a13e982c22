from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from trainables.cold_start.unet import UNet
from trainables.diffusion.bridge import SideInformationBridge
from trainables.diffusion.schedules import csdm_schedule


def unet(dropout: float = 0.0, size: int = 16, time_size: int = 32) -> UNet:
    torch.manual_seed(0)
    return UNet(size, (7, 5), time_size, 100, dropout).double()


def bridge(beta: float = 1e-2) -> SideInformationBridge:
    """Return a bridge whose noise weighs much more than CSDM's, so that an error in the U-Net's part shows."""
    alpha, c = csdm_schedule(100, beta)
    return SideInformationBridge(alpha, c.sqrt())


def weights(steps: tuple[int, ...]) -> tuple[tuple[float, float, float], ...]:
    return tuple(bridge().reverse_weights(t, to) for t, to in pairwise((*steps, 0)))


def test_the_first_layer_split_in_two_is_the_layer_on_the_concatenation() -> None:
    network, z_MD, t_M = unet(), torch.randn(3, 16, dtype=torch.float64), torch.tensor([1, 50, 91])
    time_ME = network.time(network.get_buffer("positions_TE")[t_M])
    state = torch.cat([z_MD, time_ME], dim=1)
    for layer in (network.first, network.second, network.third):
        state = torch.tanh(layer(state))
    torch.testing.assert_close(network(z_MD, network.time_parts()[t_M]), network.last(state))


def test_position_encoding_at_known_places() -> None:
    positions_TE = unet(time_size=4).get_buffer("positions_TE")
    angles = torch.tensor([91.0, 0.91], dtype=torch.float64)
    torch.testing.assert_close(positions_TE[91], torch.cat([angles.cos(), angles.sin()]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [(91,), (96, 51, 1), tuple(range(1, 101, 10))[::-1]])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_reverse_process_by_hand_is_that_of_autograd(steps: tuple[int, ...], dropout: float) -> None:
    """Values and gradients of everything, against the plain U-Net in the bridge's plain loop with the same dropout."""
    network, h_MD = unet(dropout), torch.randn(9, 16, dtype=torch.float64, requires_grad=True)
    weight_MD = torch.randn(9, 16, dtype=torch.float64)
    network.train()
    torch.manual_seed(3)
    fast_MD = network.reverse(h_MD, network.time_parts()[list(steps)], weights(steps))
    torch.manual_seed(3)
    scales = iter(network.dropout.scale(h_MD.new_empty(len(steps), 9, 16)) if dropout else [None] * len(steps))
    plain_MD = bridge().reverse(h_MD, lambda z_MD, t: plain(network, z_MD, next(scales), t), steps)
    torch.testing.assert_close(fast_MD, plain_MD)
    wanted = [h_MD, *network.parameters()]
    gradients = [torch.autograd.grad((z0_MD * weight_MD).sum(), wanted) for z0_MD in (fast_MD, plain_MD)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def plain(network: UNet, z_MD: Tensor, scale_MD: Tensor | None, t: int) -> Tensor:
    kept_MD = z_MD if scale_MD is None else z_MD * scale_MD
    return UNet.forward(network.eval(), kept_MD, network.time_parts()[t])


def test_rows_at_steps_of_their_own_by_hand_and_by_autograd() -> None:
    network, z_MD = unet(), torch.randn(5, 16, dtype=torch.float64, requires_grad=True)
    weight_MD, t_M = torch.randn(5, 16, dtype=torch.float64), torch.tensor([3, 91, 3, 100, 1])
    wanted = [z_MD, *network.parameters()]
    by_hand_MD, plain_MD = (f(z_MD, network.time_parts()[t_M]) for f in (network.noise, network))
    torch.testing.assert_close(by_hand_MD, plain_MD)
    gradients = [torch.autograd.grad((noise_MD * weight_MD).sum(), wanted) for noise_MD in (by_hand_MD, plain_MD)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_without_a_step_h_stays() -> None:
    h_MD = torch.randn(2, 16, dtype=torch.float64)
    assert unet().reverse(h_MD, torch.empty(0, 7), ()) is h_MD


def test_frozen_weights_still_pass_the_gradient_to_h() -> None:
    network, h_MD = unet().requires_grad_(False), torch.randn(4, 16, dtype=torch.float64, requires_grad=True)
    steps = (91, 1)
    fast_MD = network.reverse(h_MD, network.time_parts()[list(steps)], weights(steps))
    plain_MD = bridge().reverse(h_MD, lambda z_MD, t: network(z_MD, network.time_parts()[t]), steps)
    gradients = [torch.autograd.grad(z0_MD.square().sum(), h_MD)[0] for z0_MD in (fast_MD, plain_MD)]
    torch.testing.assert_close(*gradients)


def test_dropout_is_drawn_anew_at_every_step() -> None:
    network = unet(0.5).train()
    h_MD = torch.ones(200, 16, dtype=torch.float64)
    scale_SMD = network.dropout.scale(h_MD.new_empty(10, 200, 16))
    assert not any(torch.equal(one, other) for one, other in pairwise(scale_SMD))
    assert scale_SMD.unique().tolist() == [0.0, 2.0]
    assert float(scale_SMD.mean()) == pytest.approx(1, abs=0.03)
