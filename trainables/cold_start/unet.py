"""CSDM's "U-Net", in its plain form and along the whole reverse process with a gradient written by hand.

Legend: M items, D embedding size, O outer and I inner hidden size, E size of the time embedding, T diffusion steps,
S steps of the reverse process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainables.layers import Dropout


class UNet(nn.Module):
    """Dropout on z_t, the time embedding beside it, two layers in and two layers out with tanh.

    The time embedding is the position encoding of t (Vaswani et al. 2017) through one linear layer.
    """

    def __init__(self, size: int, hidden: tuple[int, int], time_size: int, steps: int, dropout: float) -> None:
        super().__init__()
        outer, inner = hidden
        self.size = size
        self.dropout = Dropout(dropout)
        self.time = nn.Linear(time_size, time_size)
        self.first = nn.Linear(size + time_size, outer)
        self.second = nn.Linear(outer, inner)
        self.third = nn.Linear(inner, outer)
        self.last = nn.Linear(outer, size)
        self.register_buffer("positions_TE", _positions(steps + 1, time_size), persistent=False)

    def time_parts(self) -> Tensor:
        """Return what the first layer adds at each step 0 … T, its bias included [T + 1, O]."""
        time_TE = self.time(self.get_buffer("positions_TE"))
        return F.linear(time_TE, self.first.weight[:, self.size :], self.first.bias)

    def forward(self, z_MD: Tensor, time_part: Tensor) -> Tensor:
        """Return the predicted noise [M, D]; `time_part` is [M, O], or [O] for rows at the same step.

        This is the plain form, which the two functions below are equal to, up to rounding.
        """
        first_MO = torch.tanh(F.linear(self.dropout(z_MD), self.first.weight[:, : self.size]) + time_part)
        noise_MD: Tensor = self.last(torch.tanh(self.third(torch.tanh(self.second(first_MO)))))
        return noise_MD

    def noise(self, z_MD: Tensor, time_part_MO: Tensor) -> Tensor:
        """Return the predicted noise [M, D] of rows that stand at steps of their own, with a gradient by hand."""
        return self._steps(z_MD, time_part_MO.unsqueeze(0), ((0.0, 0.0, 1.0),))

    def reverse(self, h_MD: Tensor, time_part_SO: Tensor, weights: tuple[tuple[float, float, float], ...]) -> Tensor:
        """Return z̃_0 [M, D] after S steps from z = h: at each, z ← a z + b h + c ε(z), (a, b, c) being its weights.

        It cannot be differentiated twice.
        """
        return self._steps(h_MD, time_part_SO, weights) if weights else h_MD

    def _steps(self, h_MD: Tensor, time_part: Tensor, weights: tuple[tuple[float, float, float], ...]) -> Tensor:
        shape = (len(weights), *h_MD.shape)
        scale_SMD = self.dropout.scale(h_MD.new_empty(shape)) if self.training and self.dropout.p else None
        layers = (self.first.weight[:, : self.size], self.second, self.third, self.last)
        flat = [layers[0], *(tensor for layer in layers[1:] for tensor in (layer.weight, layer.bias))]
        z0_MD: Tensor = _Steps.apply(weights, scale_SMD, h_MD, time_part, *flat)  # type: ignore[no-untyped-call]
        return z0_MD


class _Weights(NamedTuple):
    """The layers between logistic functions: tanh(u) = 2σ(2u) − 1 put into the weights on either side of it.

    Torch computes σ eight times as fast as tanh on a CPU, and tanh would be half of the time here.
    """

    first_OD: Tensor
    second_IO: Tensor
    second_I: Tensor
    third_OI: Tensor
    third_O: Tensor
    last_DO: Tensor
    last_D: Tensor


def _logistic(w1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor, b3: Tensor, w4: Tensor, b4: Tensor) -> _Weights:
    second_I, third_O, last_D = (b - w.sum(dim=1) for w, b in ((w2, b2), (w3, b3), (w4, b4)))
    return _Weights(2 * w1, 4 * w2, 2 * second_I, 4 * w3, 2 * third_O, 2 * w4, last_D)


class _Steps(torch.autograd.Function):
    """Steps z ← a z + b h + c ε(z) from z = h, each layer's states of all steps in one tensor."""

    @staticmethod
    def forward(
        ctx: Any,
        weights: tuple[tuple[float, float, float], ...],
        scale_SMD: Tensor | None,
        h_MD: Tensor,
        time_part: Tensor,
        *layers: Tensor,
    ) -> Tensor:
        w = _logistic(*layers)
        steps, items = len(weights), len(h_MD)
        in_SMD = h_MD.new_empty(steps, items, h_MD.shape[1])
        first_SMO, third_SMO = h_MD.new_empty(2, steps, items, len(w.first_OD))
        second_SMI = h_MD.new_empty(steps, items, len(w.second_IO))
        states = zip(in_SMD, first_SMO, second_SMI, third_SMO, 2 * time_part, weights, strict=True)
        z_MD = h_MD
        for s, (in_MD, first_MO, second_MI, third_MO, part, (of_z, of_h, of_noise)) in enumerate(states):
            if scale_SMD is None:
                in_MD.copy_(z_MD)
            else:
                torch.mul(z_MD, scale_SMD[s], out=in_MD)
            torch.addmm(part, in_MD, w.first_OD.T, out=first_MO).sigmoid_()
            torch.addmm(w.second_I, first_MO, w.second_IO.T, out=second_MI).sigmoid_()
            torch.addmm(w.third_O, second_MI, w.third_OI.T, out=third_MO).sigmoid_()
            before_MD = z_MD
            z_MD = torch.addmm(w.last_D, third_MO, w.last_DO.T, beta=of_noise, alpha=of_noise)
            z_MD.add_(before_MD, alpha=of_z).add_(h_MD, alpha=of_h)
        ctx.weights, ctx.by_row = weights, time_part.dim() == 3
        ctx.save_for_backward(scale_SMD, in_SMD, first_SMO, second_SMI, third_SMO, *w)
        return z_MD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor | None, ...]:
        scale_SMD, *states_SM, w1, w2, b2, w3, b3, w4, b4 = ctx.saved_tensors
        _, first_SMO, second_SMI, third_SMO = states_SM
        gradients = _Gradients((w1, w2, w3, w4), (b2, b3, b4), wanted=any(ctx.needs_input_grad[3:]))
        h_MD, time_part = torch.zeros_like(grad_MD), []
        for s, (of_z, of_h, of_noise) in reversed(tuple(enumerate(ctx.weights))):
            noise_MD = grad_MD * of_noise
            third_MO = _through(noise_MD @ w4, third_SMO[s])
            second_MI = _through(third_MO @ w3, second_SMI[s])
            first_MO = _through(second_MI @ w2, first_SMO[s])
            before_MD = first_MO @ w1
            gradients.add((first_MO, second_MI, third_MO, noise_MD), [state_SM[s] for state_SM in states_SM])
            time_part.append(first_MO if ctx.by_row else first_MO.sum(dim=0))
            if scale_SMD is not None:
                before_MD.mul_(scale_SMD[s])
            h_MD.add_(grad_MD, alpha=of_h)
            grad_MD = before_MD.add_(grad_MD, alpha=of_z)
        return None, None, h_MD.add_(grad_MD), 2 * torch.stack(time_part[::-1]), *gradients.of_layers()


class _Gradients:
    """Adds up the gradients of the layers, step by step, while a step's tensors are in the cache."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor], *, wanted: bool) -> None:
        self.wanted = wanted
        self.weights = [torch.zeros_like(weight) for weight in weights]
        self.biases = [torch.zeros_like(bias) for bias in biases]

    def add(self, after: Sequence[Tensor], before: Sequence[Tensor]) -> None:
        """Take a step: the gradients behind each layer, and what came into it."""
        if not self.wanted:
            return
        for weight, out, come in zip(self.weights, after, before, strict=True):
            weight.addmm_(out.T, come)
        for bias, out in zip(self.biases, after[1:], strict=True):
            bias.add_(out.sum(dim=0))

    def of_layers(self) -> list[Tensor | None]:
        """Return the gradients of what `_logistic` was given; a layer computes f · (W (2σ − 1) + b), f = 2, 2, 1."""
        if not self.wanted:
            return [None] * 7
        found: list[Tensor | None] = [2 * self.weights[0]]
        for factor, weight, bias in zip((2.0, 2.0, 1.0), self.weights[1:], self.biases, strict=True):
            found += [2 * factor * weight - factor * bias.unsqueeze(1), factor * bias]
        return found


def _through(grad: Tensor, state: Tensor) -> Tensor:
    """Turn the gradient behind a logistic function into that before it, in place."""
    torch.ops.aten.sigmoid_backward.grad_input(grad, state, grad_input=grad)
    return grad


def _positions(steps: int, size: int) -> Tensor:
    half = size // 2
    frequency_E = torch.exp(-math.log(10_000) * torch.arange(half) / max(half, 1))
    angle_TE = torch.arange(steps).unsqueeze(1) * frequency_E
    return F.pad(torch.cat([angle_TE.cos(), angle_TE.sin()], dim=1), (0, size - 2 * half))
