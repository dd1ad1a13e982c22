"""AdamW for a table of which a batch touches few rows.

Legend: I rows of the table, R rows that a batch touches, C rows of a chunk, D columns, T steps taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

CHUNK_ELEMENTS = 2**18
"""Elements of a chunk, 1 MiB each of parameter, gradient and moments: they stay in cache between operations."""

REMEMBERED_STEPS = 256
"""Steps after which a row's momentum, 0.9²⁵⁶ ≈ 2·10⁻¹² of what it was, moves it no more."""


_STATE = ("moment_ID", "square_ID", "current_I", "_plain_T", "_scaled_T")


class Rates(NamedTuple):
    """AdamW's hyperparameters."""

    learning_rate: float
    weight_decay: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


def adamw_in_place(
    parameters: list[Tensor],
    gradients: list[Tensor],
    moments: list[Tensor],
    squares: list[Tensor],
    step: int,
    rates: Rates,
) -> None:
    """Take AdamW's step number `step` (from 1 on) on contiguous tensors."""
    adamw(
        parameters,
        gradients,
        moments,
        squares,
        [],
        [torch.tensor(float(step - 1)) for _ in parameters],
        fused=True,
        amsgrad=False,
        beta1=rates.beta1,
        beta2=rates.beta2,
        lr=rates.learning_rate,
        weight_decay=rates.weight_decay,
        eps=rates.eps,
        maximize=False,
    )


class LateRows:
    """Dense AdamW of a table [I, D], computed late: a row moves when it is next read, not at every step.

    Dense AdamW also moves rows without a gradient, by what is left of their momentum; for a row that is seldom
    touched that is most of the way that it goes. After k steps without gradient its moments are β₁ᵏ·m and β₂ᵏ·v, and
    its way is m·Σⱼ cⱼ / (aⱼ·√v + ε), j = 1 … k, where cⱼ and aⱼ depend on the steps alone. So a step reads and writes
    the R touched rows and nothing else, and `read` brings a row up to date first.

    The sum is taken as m·C / (A·√v + ε) with C = Σ cⱼ and A = C / Σ (cⱼ/aⱼ): exact where ε is small beside aⱼ·√v and
    exact where it is large. Between them it is off by a share of the momentum's way, some 10⁻⁵ after a few hundred
    steps, up to a few percent of one step in the first hundred. Nothing else differs from torch's AdamW.
    """

    def __init__(self, table_ID: nn.Parameter, rates: Rates) -> None:
        self.table_ID = table_ID
        self.rates = rates
        self.step = 0
        self.moment_ID = torch.zeros_like(table_ID, requires_grad=False)
        self.square_ID = torch.zeros_like(table_ID, requires_grad=False)
        self.current_I = torch.zeros(len(table_ID), dtype=torch.int64)  # the step up to which a row has moved
        self._buffer = torch.empty(0)
        self._rows = torch.empty(0, table_ID.shape[1])
        self._reads: list[tuple[Tensor, Tensor]] = []
        self._plain_T = torch.zeros(4096, dtype=torch.float64)  # Σ cⱼ of a row current up to step t, weights decayed
        self._scaled_T = torch.zeros(4096, dtype=torch.float64)  # Σ cⱼ / aⱼ

    def read(self, row_R: Tensor) -> Tensor:
        """Return these rows [R, D], up to date, as a leaf whose gradient the next `apply` takes.

        `row_R` is int64 and has no row twice.
        """
        rows_RD = self._up_to_date(row_R).requires_grad_()
        self._reads.append((row_R, rows_RD))
        return rows_RD

    def forget_reads(self) -> None:
        """Drop the gradients that were left in rows read."""
        self._reads.clear()

    @torch.no_grad()
    def apply(self) -> None:
        """Take a step."""
        step = self.step + 1
        row_R, rows_RD, gradient_RD = self._touched()
        for part in _chunks(*rows_RD.shape):
            moment_CD, square_CD = self._moments(row_R[part])
            adamw_in_place([rows_RD[part]], [gradient_RD[part]], [moment_CD], [square_CD], step, self.rates)
            self._write(row_R[part], rows_RD[part], moment_CD, square_CD)
        self.current_I[row_R] = step
        self.step = step
        self._remember(step)
        self._reads.clear()

    def state(self) -> dict[str, int | Tensor]:
        """Return all that the next steps depend on beside the table, which has to be up to date."""
        return {"step": self.step} | {name: getattr(self, name) for name in _STATE}

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.step = int(state["step"])
        for name in _STATE:
            setattr(self, name, state[name].clone())
        self._reads.clear()

    @torch.inference_mode(False)
    @torch.no_grad()
    def finish(self) -> None:
        """Bring all rows up to date, under inference mode too: room made for it is taken again by the next step."""
        row_R = (self.current_I < self.step).nonzero().squeeze(1)
        for part in _chunks(len(row_R), self.table_ID.shape[1]):
            row_C = row_R[part]
            self._write(row_C, self._up_to_date(row_C), *self._moments(row_C))
        self.current_I[row_R] = self.step

    def _touched(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows read that have a gradient: their numbers [R], values and gradients [R, D]."""
        reads = [(row_R, rows_RD, rows_RD.grad) for row_R, rows_RD in self._reads]
        with_gradient = [(row_R, rows_RD.detach(), grad) for row_R, rows_RD, grad in reads if grad is not None]
        if len(with_gradient) == 1:
            return with_gradient[0]
        row_R = torch.cat([row for row, _, _ in with_gradient] or [self.current_I[:0]]).unique()
        gradient_RD = self.table_ID.new_zeros(len(row_R), self.table_ID.shape[1], requires_grad=False)
        for row, _, gradient in with_gradient:
            gradient_RD.index_add_(0, torch.searchsorted(row_R, row), gradient)
        return row_R, self._up_to_date(row_R), gradient_RD

    @torch.no_grad()
    def _up_to_date(self, row_R: Tensor) -> Tensor:
        """Return a copy of these rows, moved by the steps that they missed [R, D]."""
        rates, current_R = self.rates, self.current_I[row_R]
        rows_RD = torch.index_select(self.table_ID.detach(), 0, row_R, out=self._room_of_rows(len(row_R)))
        way_R, scaled_R = self._plain_T[current_R], self._scaled_T[current_R]
        # m·C / (C/S·√v + ε) = m / (√v/S + ε/C); a row that missed nothing has C = S = 0 and must not move.
        slope_R1 = scaled_R.reciprocal().nan_to_num(posinf=0.0).float().unsqueeze(1)
        offset_R1 = (rates.eps / way_R).float().unsqueeze(1)
        decay_R1 = ((1 - rates.learning_rate * rates.weight_decay) ** (self.step - current_R)[:, None].double()).float()
        for part in _chunks(*rows_RD.shape):
            moment_CD, square_CD = self._room(len(row_R[part]))
            torch.index_select(self.moment_ID, 0, row_R[part], out=moment_CD)
            torch.index_select(self.square_ID, 0, row_R[part], out=square_CD)
            divisor_CD = square_CD.sqrt_().mul_(slope_R1[part]).add_(offset_R1[part])
            if rates.weight_decay:
                rows_RD[part].mul_(decay_R1[part])
            rows_RD[part].addcdiv_(moment_CD, divisor_CD, value=-1)
        return rows_RD

    def _moments(self, row_C: Tensor) -> tuple[Tensor, Tensor]:
        """Return a chunk's moments after the steps that it missed, in memory that the next chunk takes again."""
        gap_C1 = (self.step - self.current_I[row_C])[:, None]
        moment_CD, square_CD = self._room(len(row_C))
        torch.index_select(self.moment_ID, 0, row_C, out=moment_CD).mul_(self.rates.beta1**gap_C1)
        torch.index_select(self.square_ID, 0, row_C, out=square_CD).mul_(self.rates.beta2**gap_C1)
        return moment_CD, square_CD

    def _room_of_rows(self, rows: int) -> Tensor:
        """Return room for rows, the same memory at every step: fresh memory costs more than what is done in it."""
        if self._reads:
            return self.table_ID.new_empty(rows, self.table_ID.shape[1], requires_grad=False)
        if len(self._rows) < rows:
            self._rows = self.table_ID.new_empty(rows + rows // 8, self.table_ID.shape[1], requires_grad=False)
        return self._rows[:rows].detach()

    def _room(self, rows: int) -> tuple[Tensor, Tensor]:
        columns = self.table_ID.shape[1]
        if self._buffer.numel() < 2 * rows * columns:
            self._buffer = torch.empty(2 * rows * columns)
        first, second = self._buffer[: 2 * rows * columns].view(2, rows, columns)
        return first, second

    def _write(self, row_C: Tensor, values_CD: Tensor, moment_CD: Tensor, square_CD: Tensor) -> None:
        self.table_ID.detach().index_copy_(0, row_C, values_CD)
        self.moment_ID.index_copy_(0, row_C, moment_CD)
        self.square_ID.index_copy_(0, row_C, square_CD)

    def _remember(self, step: int) -> None:
        """Add this step to the ways of rows that missed it."""
        rates = self.rates
        if step >= len(self._plain_T):
            self._plain_T = torch.cat([self._plain_T, torch.zeros_like(self._plain_T)])
            self._scaled_T = torch.cat([self._scaled_T, torch.zeros_like(self._scaled_T)])
        if rates.weight_decay:
            for sums_T in (self._plain_T, self._scaled_T):
                sums_T[:step] *= 1 - rates.learning_rate * rates.weight_decay
        first = max(0, step - REMEMBERED_STEPS)
        missed = torch.arange(step - first, 0, -1, dtype=torch.float64)
        way = rates.learning_rate / (1 - rates.beta1**step) * rates.beta1**missed
        self._plain_T[first:step] += way
        self._scaled_T[first:step] += way * (1 - rates.beta2**step) ** 0.5 / rates.beta2 ** (missed / 2)


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    count = max(1, CHUNK_ELEMENTS // columns)
    return (slice(start, start + count) for start in range(0, rows, count))
