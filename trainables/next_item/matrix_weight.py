"""Weights of matrix products: float32 masters, copies in the products' precision, and gradients kept as factors.

Legend: B rows of a batch, N × K a weight, R rows of a weight, P and Q inputs and outputs of a product.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Precision = Literal["float32", "bfloat16"]
"""What matrix products multiply: bfloat16 needs a processor that has it (AVX512-BF16, AMX, NEON) to be fast."""


class Region(NamedTuple):
    """A part of a weight: rows and columns from … to."""

    rows: tuple[int, int]
    columns: tuple[int, int]


class Factors(NamedTuple):
    """The gradient of a region, leftᵀ · right: what backward has at hand, many times smaller than the product."""

    left_BR: Tensor
    right_BK: Tensor


class _Joined(NamedTuple):
    """The same as one product, whose left side has the rows of the gradient."""

    left_RB: Tensor
    right_BK: Tensor


class MatrixWeight:
    """A weight [N, K] as matrix products see it.

    The parameter itself stays float32, whatever the precision. In bfloat16 a copy is kept beside it: the optimizer
    renews the copy while it writes the parameter, and any other change is noticed by the parameter's version.

    Until an optimizer sets `keeps_factors`, backward leaves the gradient in `parameter.grad` as usual. From then on it
    leaves the gradient's factors here, and the optimizer multiplies them block by block: a gradient of the weight's
    size is never written to memory.
    """

    def __init__(self, parameter: Tensor, precision: Precision = "float32") -> None:
        self.parameter = parameter
        self.keeps_factors = False
        self._factors: dict[Region, list[Factors]] = {}
        self._joined_factors: dict[Region, _Joined] = {}
        self._copy: Tensor | None = None
        if precision == "bfloat16":
            self._copy = torch.empty(parameter.shape, dtype=torch.bfloat16)
        self._version = -1

    def values(self) -> Tensor:
        """Return the weight [N, K] in the products' precision."""
        if self._copy is None:
            return self.parameter.detach()
        if self._version != self.parameter._version:
            self._copy.copy_(self.parameter.detach())
            self._version = self.parameter._version
        return self._copy

    def renew(self, rows: slice) -> None:
        """Copy these rows of the parameter, which the optimizer has just written."""
        if self._copy is not None:
            self._copy[rows].copy_(self.parameter.detach()[rows])

    @property
    def whole(self) -> Region:
        """The region that is the whole weight."""
        return Region((0, self.parameter.shape[0]), (0, self.parameter.shape[1]))

    def add_factors(self, region: Region, factors: Factors) -> None:
        """Add to the gradient; regions are either the same or do not overlap."""
        self._factors.setdefault(region, []).append(factors)
        self._joined_factors.pop(region, None)

    def clear_factors(self) -> None:
        """Make the gradient zero."""
        self._factors.clear()
        self._joined_factors.clear()

    @property
    def has_gradient(self) -> bool:
        """Whether backward has left a gradient here."""
        return bool(self._factors)

    def gradient(self, start: int, end: int, out_RK: Tensor) -> None:
        """Write the gradient of the rows start … end − 1 to `out_RK`, float32."""
        covered = 0
        for (first, last), (left, right) in self._factors:
            covered += max(0, min(end, last) - max(start, first)) * (right - left)
        if covered < out_RK.numel():
            out_RK.zero_()
        for region in self._factors:
            first, last = max(start, region.rows[0]), min(end, region.rows[1])
            if first < last:
                left_RB, right_BK = self._joined(region)
                rows = slice(first - region.rows[0], last - region.rows[0])
                part_RK = out_RK[first - start : last - start, slice(*region.columns)]
                if left_RB.dtype == part_RK.dtype:
                    torch.mm(left_RB[rows], right_BK, out=part_RK)
                else:
                    part_RK.copy_(left_RB[rows] @ right_BK)

    def _joined(self, region: Region) -> _Joined:
        """Return a region's gradient as one product: more rows in one cost less than more of them."""
        if region not in self._joined_factors:
            left, right = zip(*self._factors[region], strict=True)
            left_BR, right_BK = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (left, right))
            # Turned once, and not again by the product of every block.
            self._joined_factors[region] = _Joined(left_BR.T.contiguous(), right_BK)
        return self._joined_factors[region]


class _Multiplied(torch.autograd.Function):
    """x · Wᵀ, or x · W, of a weight's region."""

    @staticmethod
    def forward(
        ctx: Any, x_BP: Tensor, parameter: Tensor, weight: MatrixWeight, region: Region, transposed: bool
    ) -> Tensor:
        values = weight.values()[slice(*region.rows), slice(*region.columns)]
        low_BP = x_BP.to(values.dtype)
        ctx.save_for_backward(low_BP)
        ctx.weight, ctx.region, ctx.transposed = weight, region, transposed
        return (low_BP @ (values.T if transposed else values)).to(x_BP.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BQ: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        weight, region = ctx.weight, ctx.region
        (x_BP,) = ctx.saved_tensors
        values = weight.values()[slice(*region.rows), slice(*region.columns)]
        low_BQ = grad_BQ.to(values.dtype)
        grad_BP, grad_NK = None, None
        if ctx.needs_input_grad[0]:
            grad_BP = (low_BQ @ (values if ctx.transposed else values.T)).to(grad_BQ.dtype)
        if ctx.needs_input_grad[1]:
            factors = Factors(low_BQ, x_BP) if ctx.transposed else Factors(x_BP, low_BQ)
            if weight.keeps_factors:
                weight.add_factors(region, factors)
            else:
                grad_NK = torch.zeros_like(weight.parameter)
                part = grad_NK[slice(*region.rows), slice(*region.columns)]
                part.copy_(factors.left_BR.T @ factors.right_BK)
        return grad_BP, grad_NK, None, None, None


def times_transposed(x: Tensor, weight: MatrixWeight, region: Region | None = None) -> Tensor:
    """Return x · Wᵀ for a weight or a region of it: [..., K] → [..., N] in x's type."""
    return _product(x, weight, region, transposed=True)


def times(x: Tensor, weight: MatrixWeight, region: Region | None = None) -> Tensor:
    """Return x · W for a weight or a region of it: [..., N] → [..., K] in x's type."""
    return _product(x, weight, region, transposed=False)


def _product(x: Tensor, weight: MatrixWeight, region: Region | None, transposed: bool) -> Tensor:
    chosen = region or weight.whole
    product: Tensor = _Multiplied.apply(  # type: ignore[no-untyped-call]
        x.reshape(-1, x.shape[-1]), weight.parameter, weight, chosen, transposed
    )
    return product.view(*x.shape[:-1], product.shape[-1])
