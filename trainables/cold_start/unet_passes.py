"""CSDM's U-Net without autograd: many passes of the same items, and the gradients of all of them, in one memory.

Legend: P passes, M items, D embedding size, O outer and I inner hidden size, X any of these sizes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.cold_start.unet import UNet


class _Layers(NamedTuple):
    """The layers between logistic functions: tanh(u) = 2σ(2u) − 1 put into the weights on either side of it.

    Torch computes σ four times as fast as tanh on a CPU, and tanh would be a third of the time here.
    """

    first_OD: Tensor
    second_IO: Tensor
    second_I: Tensor
    third_OI: Tensor
    third_O: Tensor
    last_DO: Tensor
    last_D: Tensor


class UNetPasses:
    """P passes of M items through a U-Net, each from an input that the caller writes to a noise that it is given.

    A pass works on views that are made once, and adds its part to the weights' gradients while its tensors are in the
    processor's cache. A round is: `start`; `noise` for each pass; after its `noise`, `before` for each pass, in any
    order; `gradients`.

    Args:
        unet: the network.
        like_MD: a tensor of the items' shape, dtype and device.
        passes: P.
        trains: whether the network's gradients are wanted.
    """

    def __init__(self, unet: UNet, like_MD: Tensor, passes: int, *, trains: bool = True) -> None:
        self.unet, self.trains = unet, trains
        self._kind = like_MD.shape, like_MD.dtype, like_MD.device
        inner, outer = unet.second.weight.shape
        come = [like_MD.new_empty(passes, len(like_MD), width) for width in (unet.size, outer, inner, outer)]
        self._come_of_pass = list(zip(*(state_PMX.unbind() for state_PMX in come), strict=True))
        self.into_PMD = [states[0] for states in self._come_of_pass]
        self._behind = [like_MD.new_empty(len(like_MD), width) for width in (outer, inner, outer, unet.size)]
        self._behind_turned = [gradient_MX.T for gradient_MX in self._behind]
        self.first_gradient_MO, self.noise_gradient_MD = self._behind[0], self._behind[-1]
        self._one_M = like_MD.new_ones(len(like_MD))
        shapes = ((outer, unet.size), (inner, outer), (outer, inner), (unet.size, outer))
        self._weights = [like_MD.new_empty(shape) for shape in shapes]
        self._biases = [like_MD.new_empty(width) for width in (inner, outer, unet.size)]

    def fit(self, like_MD: Tensor) -> bool:
        """Tell whether they are of items of this shape, dtype and device."""
        return self._kind == (like_MD.shape, like_MD.dtype, like_MD.device)

    @torch.no_grad()
    def start(self) -> None:
        """Take the U-Net's weights as they are now, and begin with no gradient."""
        for sum_ in (*self._weights, *self._biases):
            sum_.zero_()
        unet, second, third, last = self.unet, self.unet.second, self.unet.third, self.unet.last
        layers = self._layers = _Layers(
            2 * unet.first.weight[:, : unet.size],
            4 * second.weight,
            _less_sums(2.0, second),
            4 * third.weight,
            _less_sums(2.0, third),
            2 * last.weight,
            _less_sums(1.0, last),
        )
        self._first_DO, self._second_OI = layers.first_OD.T, layers.second_IO.T
        self._third_IO, self._last_OD = layers.third_OI.T, layers.last_DO.T

    def noise(self, number: int, twice_time_part: Tensor, weight: float, out_MD: Tensor) -> Tensor:
        """Write `weight` times the noise that a pass predicts for its input; `twice_time_part` is [M, O] or [O]."""
        in_MD, first_MO, second_MI, third_MO = self._come_of_pass[number]
        layers = self._layers
        torch.addmm(twice_time_part, in_MD, self._first_DO, out=first_MO).sigmoid_()
        torch.addmm(layers.second_I, first_MO, self._second_OI, out=second_MI).sigmoid_()
        torch.addmm(layers.third_O, second_MI, self._third_IO, out=third_MO).sigmoid_()
        return torch.addmm(layers.last_D, third_MO, self._last_OD, beta=weight, alpha=weight, out=out_MD)

    def before(self, number: int, out_MD: Tensor) -> Tensor:
        """Write the gradient of a pass's input, `noise_gradient_MD` being that of its noise.

        `first_gradient_MO` is then that of `twice_time_part`.
        """
        behind_first_MO, behind_second_MI, behind_third_MO, behind_last_MD = self._behind
        _, first_MO, second_MI, third_MO = self._come_of_pass[number]
        layers = self._layers
        _through(torch.mm(behind_last_MD, layers.last_DO, out=behind_third_MO), third_MO)
        _through(torch.mm(behind_third_MO, layers.third_OI, out=behind_second_MI), second_MI)
        _through(torch.mm(behind_second_MI, layers.second_IO, out=behind_first_MO), first_MO)
        if self.trains:
            for weight, turned_XM, come_MX in zip(
                self._weights, self._behind_turned, self._come_of_pass[number], strict=True
            ):
                weight.addmm_(turned_XM, come_MX)
            for bias, turned_XM in zip(self._biases, self._behind_turned[1:], strict=True):
                bias.addmv_(turned_XM, self._one_M)
        return torch.mm(behind_first_MO, layers.first_OD, out=out_MD)

    def gradients(self, twice_time_part_TO: Tensor) -> dict[Tensor, Tensor]:
        """Return the gradients of all passes, the time embedding's by that of `twice_time_part_TO`, of all steps.

        A layer computes f · (W (2σ − 1) + b), f being 2, 2 and 1.
        """
        unet = self.unet
        time_part_TO = 2 * twice_time_part_TO
        found: dict[Tensor, Tensor] = {}
        layers = (unet.second, unet.third, unet.last)
        for factor, layer, weight, bias in zip((2.0, 2.0, 1.0), layers, self._weights[1:], self._biases, strict=True):
            found[layer.bias] = factor * bias
            found[layer.weight] = torch.sub(2 * factor * weight, found[layer.bias].unsqueeze(1))
        of_z_OD = 2 * self._weights[0]
        positions_TE = unet.get_buffer("positions_TE")
        time_TE = unet.time(positions_TE)
        found[unet.first.weight] = torch.cat([of_z_OD, time_part_TO.T @ time_TE], dim=1)
        found[unet.first.bias] = time_part_TO.sum(dim=0)
        time_gradient_TE = time_part_TO @ unet.first.weight[:, unet.size :]
        found[unet.time.weight] = time_gradient_TE.T @ positions_TE
        found[unet.time.bias] = time_gradient_TE.sum(dim=0)
        return found


def _less_sums(factor: float, layer: nn.Linear) -> Tensor:
    """Return f · (b − the sums of the weights' rows)."""
    weight = layer.weight
    return torch.addmv(layer.bias, weight, weight.new_ones(weight.shape[1]), beta=factor, alpha=-factor)


def _through(gradient: Tensor, state: Tensor) -> None:
    """Turn the gradient behind a logistic function into that before it, in place."""
    torch.ops.aten.sigmoid_backward.grad_input(gradient, state, grad_input=gradient)
