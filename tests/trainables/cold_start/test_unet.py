from __future__ import annotations

import torch

from trainables.cold_start.unet import UNet
from trainables.cold_start.unet_passes import UNetPasses


def unet(dropout: float = 0.0, size: int = 16, time_size: int = 32) -> UNet:
    torch.manual_seed(0)
    return UNet(size, (7, 5), time_size, 100, dropout).double()


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


def test_dropout_can_be_drawn_before() -> None:
    network, z_MD = unet(0.5), torch.randn(3, 16, dtype=torch.float64)
    scale_MD = torch.tensor([0.0, 2.0], dtype=torch.float64).repeat(3, 8)
    time_part_O = network.time_parts()[5]
    torch.testing.assert_close(
        network.train()(z_MD, time_part_O, scale_MD), network.eval()(z_MD * scale_MD, time_part_O)
    )


def test_passes_by_hand_are_the_network_and_its_gradients() -> None:
    """Three passes, the last with rows at steps of their own: noise, and gradients of inputs and parameters."""
    network, z_PMD = unet(), torch.randn(3, 5, 16, dtype=torch.float64, requires_grad=True)
    t_PM = torch.tensor([[91] * 5, [1] * 5, [3, 91, 3, 100, 1]])
    noise_PMD = torch.stack([network(z_MD, network.time_parts()[t_M]) for z_MD, t_M in zip(z_PMD, t_PM, strict=True)])
    weight_P, gradient_PMD = (0.7, -2.0, 1.0), torch.randn(3, 5, 16, dtype=torch.float64)
    wanted = torch.autograd.grad((noise_PMD * gradient_PMD).sum(), [z_PMD, *network.parameters()])
    with torch.no_grad():
        passes = UNetPasses(network, z_PMD[0], 3)
        for _ in range(2):  # the second round finds the memory of the first
            passes.start()
            twice_TO = 2 * network.time_parts()
            for number in range(3):
                passes.into_PMD[number].copy_(z_PMD[number])
                out_MD = torch.empty(5, 16, dtype=torch.float64)
                passes.noise(number, twice_TO[t_PM[number]], weight_P[number], out_MD)
                torch.testing.assert_close(out_MD, weight_P[number] * noise_PMD[number])
            time_gradient_TO = torch.zeros_like(twice_TO)
            for number in (2, 0, 1):
                passes.noise_gradient_MD.copy_(gradient_PMD[number])
                torch.testing.assert_close(passes.before(number, out_MD), wanted[0][number])
                time_gradient_TO.index_add_(0, t_PM[number], passes.first_gradient_MO)
            found = passes.gradients(time_gradient_TO)
            for parameter, gradient in zip(network.parameters(), wanted[1:], strict=True):
                torch.testing.assert_close(found[parameter], gradient)


def test_passes_fit_items_of_their_shape_only() -> None:
    passes = UNetPasses(unet(), torch.empty(5, 16, dtype=torch.float64), 2)
    assert passes.fit(torch.empty(5, 16, dtype=torch.float64))
    assert not passes.fit(torch.empty(6, 16, dtype=torch.float64))
    assert not passes.fit(torch.empty(5, 16))
