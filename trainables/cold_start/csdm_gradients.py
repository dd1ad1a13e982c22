"""CSDM's losses and all their gradients, without autograd but for the backbone.

Legend: B rows of a batch, M items, P passes through the U-Net, S size of the concatenated embeddings of an item's
fields, N its numbers, D embedding size, O outer hidden size, T diffusion steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.cold_start.generator import PreparedBatch
from trainables.cold_start.side_information import SideInformation
from trainables.cold_start.unet import UNet
from trainables.cold_start.unet_passes import UNetPasses
from trainables.diffusion.bridge import SideInformationBridge
from trainables.lookups import summed, summed_back
from trainables.rowwise_adam import has_row_gradients


class Draws(NamedTuple):
    """What is random in a batch's losses; a scale is what dropout multiplies with, 1 without it.

    `unet_scale_PMD` is of the U-Net's inputs: in the steps of the reverse process, in order, and last in L_diff.
    """

    unet_scale_PMD: Tensor
    h_scale_MD: Tensor
    t_M: Tensor
    noise_MD: Tensor


@dataclass
class GradientsByHand:
    """The losses of CSDM with σ = 0 and their gradients, equal to autograd's up to rounding.

    Args:
        side: gives the items' side information.
        encode_side: turns it into h.
        encode_embedding: turns an item-ID embedding into z_0.
        unet: predicts the noise.
        decode: turns z̃_0 and the count into an embedding.
        bridge: the diffusion.
        steps: of the reverse process, at least one.
        weights: each step's weights of z, h and the noise (`SideInformationBridge.reverse_weights`).
        rho: weight of L_diff.
        unet_trains: whether the U-Net's gradients are wanted.
    """

    side: SideInformation
    encode_side: nn.Linear
    encode_embedding: nn.Linear
    unet: UNet
    decode: nn.Linear
    bridge: SideInformationBridge
    steps: tuple[int, ...]
    weights: tuple[tuple[float, float, float], ...]
    rho: float
    unet_trains: bool

    def __post_init__(self) -> None:
        self._passes: UNetPasses | None = None
        self._found: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def __call__(
        self, prepared: PreparedBatch, count_MN: Tensor | None, draws: Draws
    ) -> tuple[dict[str, Tensor], dict[Tensor, Tensor]]:
        """Return the losses, to be added, and the gradients of their sum; the decoder gets `count_MN` beside z̃_0."""
        self._found = {}
        side_MS = summed(self.side.table, prepared.side.places).view(len(draws.t_M), -1)
        h_MD = _linear(self.encode_side, side_MS, *prepared.side.numbers)
        passes = self._started_passes(h_MD)
        twice_time_part_TO = self.unet.time_parts().mul_(2)

        z0_MD = self._reversed(passes, h_MD, twice_time_part_TO, draws)
        numbers = [] if count_MN is None else [count_MN]
        embedding_MD = _linear(self.decode, z0_MD, *numbers)
        ctr_loss, gradient_MD = _ctr_gradient(prepared, embedding_MD)
        z0_gradient_MD = self._back(self.decode, gradient_MD, z0_MD, *numbers)
        h_gradient_MD, time_gradient_SO = self._reversed_back(passes, z0_gradient_MD, draws)
        weighted_loss = self._diffused(passes, prepared, h_MD, twice_time_part_TO, draws, h_gradient_MD)

        side_gradient_MS = self._back(self.encode_side, h_gradient_MD, side_MS, *prepared.side.numbers)
        gradient_ND = side_gradient_MS.view(-1, self.side.table.shape[1])
        by_row = has_row_gradients(self.side.table)
        self._found[self.side.table] = summed_back(gradient_ND, prepared.side.places, by_row=by_row)
        if self.unet_trains:
            step_S = torch.tensor(self.steps, device=draws.t_M.device)
            time_gradient_TO = torch.zeros_like(twice_time_part_TO).index_copy_(0, step_S, time_gradient_SO)
            self._found |= passes.gradients(time_gradient_TO.index_add_(0, draws.t_M, passes.first_gradient_MO))
        return {"ctr_loss": ctr_loss, "weighted_diffusion_loss": weighted_loss}, self._found

    def _started_passes(self, h_MD: Tensor) -> UNetPasses:
        if self._passes is None or not self._passes.fit(h_MD):
            self._passes = UNetPasses(self.unet, h_MD, len(self.steps) + 1, trains=self.unet_trains)
        self._passes.start()
        return self._passes

    def _reversed(self, passes: UNetPasses, h_MD: Tensor, twice_time_part_TO: Tensor, draws: Draws) -> Tensor:
        """Return z̃_0 after z ← a z + b h + c ε(z) at each step, from z = h."""
        z_MD, states = h_MD, (torch.empty_like(h_MD), torch.empty_like(h_MD))
        for number, (t, (of_z, of_h, of_noise)) in enumerate(zip(self.steps, self.weights, strict=True)):
            torch.mul(z_MD, draws.unet_scale_PMD[number], out=passes.into_PMD[number])
            next_MD = passes.noise(number, twice_time_part_TO[t], of_noise, states[number % 2])
            z_MD = next_MD.add_(z_MD, alpha=of_z).add_(h_MD, alpha=of_h)
        return z_MD

    def _reversed_back(self, passes: UNetPasses, gradient_MD: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return the gradients of h and of each step's part of the time [S, O] from that of z̃_0."""
        h_gradient_MD, time = torch.zeros_like(gradient_MD), [torch.empty(0)] * len(self.steps)
        states = (torch.empty_like(gradient_MD), torch.empty_like(gradient_MD))
        for number in reversed(range(len(self.steps))):
            of_z, of_h, of_noise = self.weights[number]
            torch.mul(gradient_MD, of_noise, out=passes.noise_gradient_MD)
            before_MD = passes.before(number, states[number % 2]).mul_(draws.unet_scale_PMD[number])
            time[number] = passes.first_gradient_MO.sum(dim=0)
            h_gradient_MD.add_(gradient_MD, alpha=of_h)
            gradient_MD = before_MD.add_(gradient_MD, alpha=of_z)
        return h_gradient_MD.add_(gradient_MD), torch.stack(time)

    def _diffused(
        self,
        passes: UNetPasses,
        prepared: PreparedBatch,
        h_MD: Tensor,
        twice_time_part_TO: Tensor,
        draws: Draws,
        h_gradient_MD: Tensor,
    ) -> Tensor:
        """Return ρ · L_diff, add its gradient of h, and find that of the embedding's encoder."""
        of_z0_M1, of_h_M1, of_noise_M1 = self.bridge.scales(draws.t_M, h_MD).unsqueeze(2).unbind(1)
        of_h_MD = draws.h_scale_MD * of_h_M1
        z_MD = _linear(self.encode_embedding, prepared.embedding_MD).mul_(of_z0_M1)
        z_MD.addcmul_(h_MD, of_h_MD).addcmul_(draws.noise_MD, of_noise_M1)
        torch.mul(z_MD, draws.unet_scale_PMD[-1], out=passes.into_PMD[-1])
        error_MD = passes.noise(-1, twice_time_part_TO.index_select(0, draws.t_M), 1.0, z_MD).sub_(draws.noise_MD)
        weight_M1 = (prepared.weight_M * (2 * self.rho / h_MD.shape[1])).unsqueeze(1)
        gradient_MD = torch.mul(error_MD, weight_M1, out=passes.noise_gradient_MD)
        weighted_loss = torch.dot(gradient_MD.flatten(), error_MD.flatten()) / 2

        z_gradient_MD = passes.before(-1, error_MD).mul_(draws.unet_scale_PMD[-1])
        h_gradient_MD.addcmul_(z_gradient_MD, of_h_MD)
        self._weights_back(self.encode_embedding, z_gradient_MD.mul_(of_z0_M1), prepared.embedding_MD)
        return weighted_loss

    def _back(self, layer: nn.Linear, gradient_MD: Tensor, *inputs: Tensor) -> Tensor:
        """Find the layer's gradients, and return that of the first of its inputs."""
        self._weights_back(layer, gradient_MD, *inputs)
        return gradient_MD @ layer.weight[:, : inputs[0].shape[1]]

    def _weights_back(self, layer: nn.Linear, gradient_MD: Tensor, *inputs: Tensor) -> None:
        parts = [gradient_MD.T @ input_MX for input_MX in inputs]
        self._found[layer.weight] = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        self._found[layer.bias] = gradient_MD.sum(dim=0)


def _linear(layer: nn.Linear, first_MX: Tensor, *others: Tensor) -> Tensor:
    """Return what the layer gives for its inputs side by side."""
    taken = first_MX.shape[1]
    out_MD = torch.addmm(layer.bias, first_MX, layer.weight[:, :taken].T)
    for input_MX in others:
        out_MD.addmm_(input_MX, layer.weight[:, taken : taken + input_MX.shape[1]].T)
        taken += input_MX.shape[1]
    return out_MD


def _ctr_gradient(prepared: PreparedBatch, embedding_MD: Tensor) -> tuple[Tensor, Tensor]:
    """Return the CTR loss, and its gradient by the items' embeddings through the frozen backbone."""
    places = prepared.item_B
    with torch.enable_grad():
        embedding_BD = embedding_MD.index_select(0, places.index_L).requires_grad_()
        loss = prepared.ctr_loss_of_rows(embedding_BD)
        (gradient_BD,) = torch.autograd.grad(loss, embedding_BD)
    return loss.detach(), summed_back(gradient_BD, places, by_row=False)
