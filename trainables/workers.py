"""What the workers of one training do together; without a process group of torch.distributed, nothing.

All workers hold the same parameters. Each computes the gradient of its part of a batch; summed, with every row weighing
the same, these are the gradient of the whole batch.

Legend: N rows of one worker, W rows of a table that a worker's batch touches, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainables.rowwise_adam import has_row_gradients, rows_of


def workers() -> int:
    """Return the number of workers: 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return which of the workers this is, from 0."""
    return dist.get_rank() if workers() > 1 else 0


def backward(loss: Tensor, rows: int, parameters: Iterable[nn.Parameter]) -> None:
    """Compute the gradients of a loss that is a mean over rows; of several workers, of the mean over all their rows."""
    if workers() == 1:
        loss.backward()
        return
    all_rows = summed(torch.tensor(float(rows), dtype=torch.float64))
    (loss * (rows / float(all_rows))).backward()
    sum_gradients(parameters)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over all workers; one that no worker has stays absent."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    dense = [parameter for parameter in trained if not has_row_gradients(parameter)]
    present = torch.tensor([float(parameter.grad is not None) for parameter in trained])
    flat = torch.cat([present, *(_dense_gradient(parameter).flatten() for parameter in dense)])
    dist.all_reduce(flat)
    present, *sums = flat.split([len(trained), *(parameter.numel() for parameter in dense)])
    found = dict(zip(map(id, dense), sums, strict=True))
    for parameter, count in zip(trained, present.tolist(), strict=True):
        if not count:
            continue
        if id(parameter) in found:
            parameter.grad = found[id(parameter)].view_as(parameter).clone()
        else:
            parameter.grad = _sum_of_rows(parameter)


def summed(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all workers; gradients flow through it, as often as one differentiates."""
    return cast(Tensor, _Summed.apply(tensor)) if workers() > 1 else tensor  # type: ignore[no-untyped-call]


def gathered(tensor_N: Tensor) -> Tensor:
    """Return the rows of all workers, those of the first worker first; their numbers may differ."""
    if workers() == 1:
        return tensor_N
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(workers())]
    dist.all_gather(lengths, torch.tensor([len(tensor_N)]))
    longest = max(int(length) for length in lengths)
    padded = tensor_N.new_zeros(longest, *tensor_N.shape[1:])
    padded[: len(tensor_N)] = tensor_N
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])


def of_first_worker(tensor_N: Tensor) -> Tensor:
    """Return the first worker's rows at all of them, as many as each has: what each draws by itself would differ."""
    return gathered(tensor_N)[: len(tensor_N)]


def from_first(value: int) -> int:
    """Return the first worker's value at all of them."""
    if workers() == 1:
        return value
    shared = torch.tensor([value])
    dist.broadcast(shared, 0)
    return int(shared)


class _Summed(torch.autograd.Function):
    """The sum's gradient is the sum of the workers' gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return cast(Tensor, _Summed.apply(grad.contiguous()))  # type: ignore[no-untyped-call]


def _dense_gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _sum_of_rows(table_VD: nn.Parameter) -> Tensor:
    """Return the sum of the workers' row gradients: the rows of each, one after the other."""
    if table_VD.grad is None:
        row_W, grad_WD = torch.empty(0, dtype=torch.int64), table_VD.new_empty(0, table_VD.shape[1])
    else:
        row_W, grad_WD = rows_of(table_VD.grad)
    rows, values = gathered(row_W), gathered(grad_WD)
    return torch.sparse_coo_tensor(rows.unsqueeze(0), values, table_VD.shape, check_invariants=False).coalesce()


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization whose statistics are of all workers' rows; torch's synchronized one is for GPUs alone.

    Of a single worker, it is torch's own. Sums are in float64, so that the variance keeps float32's digits.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each of the H channels of [B, H] or [B, H, D]."""
        if workers() == 1 or not self.training:
            return super().forward(x)
        others = [dimension for dimension in range(x.ndim) if dimension != 1]
        wide, channels = x.double(), x.shape[1]
        count = torch.tensor([x.numel() / channels], dtype=torch.float64)
        total = summed(torch.cat([wide.sum(dim=others), wide.square().sum(dim=others), count]))
        sum_H, square_H, count = total.split([channels, channels, 1])
        mean_H = sum_H / count
        variance_H = square_H / count - mean_H.square()
        self._remember(mean_H.detach().float(), (variance_H * count / (count - 1)).detach().float())
        scale_H = (variance_H + self.eps).rsqrt().float()
        shape = (1, channels, *(1 for _ in x.shape[2:]))
        normal = (x - mean_H.float().view(shape)) * scale_H.view(shape)
        normalized: Tensor = normal * self.weight.view(shape) + self.bias.view(shape)
        return normalized

    @torch.no_grad()
    def _remember(self, mean_H: Tensor, variance_H: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean_H, self.momentum)
        self.running_var.lerp_(variance_H, self.momentum)
        self.num_batches_tracked += 1
