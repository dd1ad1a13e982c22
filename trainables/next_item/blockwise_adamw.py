"""AdamW in blocks that fit the cache, over gradients that were never written as a whole.

Legend: N × K a weight, R rows of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainables.next_item.late_rows import LateRows, Rates, adamw_in_place
from trainables.next_item.matrix_weight import MatrixWeight

BLOCK_ELEMENTS = 2**22
"""Elements of a block: its gradient, 16 MiB, is read again before the last cache has dropped it. Smaller blocks, which
the first caches would hold, cost more, in products and in threads that wait for each other."""


class BlockwiseAdamW(torch.optim.Optimizer):
    """torch's AdamW in another order of work; the same up to rounding.

    A weight of matrix products gets its gradient a block of rows at a time, and each block is stepped, and copied to
    the products' precision, before the next is computed. A table's rows are stepped when touched (`LateRows`). All
    other parameters take torch's fused step.

    Args:
        parameters: all parameters, those of `matrices` and `tables` among them.
        matrices: weights whose gradients come as factors from now on.
        tables: tables whose rows are read through `LateRows` from now on; the caller hands them to their readers.
        rates: learning rate, weight decay and the rest.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        matrices: Sequence[MatrixWeight],
        tables: Sequence[LateRows],
        rates: Rates,
    ) -> None:
        super().__init__(parameters, {"lr": rates.learning_rate, "weight_decay": rates.weight_decay})
        self.matrices = list(matrices)
        self.tables = list(tables)
        self.rates = rates
        special = {id(matrix.parameter) for matrix in matrices} | {id(table.table_ID) for table in tables}
        self._others = [p for group in self.param_groups for p in group["params"] if id(p) not in special]
        self._step_of: dict[Tensor, int] = {}
        self._moments: dict[Tensor, tuple[Tensor, Tensor]] = {}
        self._buffer = torch.empty(0)
        for matrix in self.matrices:
            matrix.keeps_factors = True

    def state_dict(self) -> dict[str, Any]:
        """Return steps and moments by the parameters' places, and what the tables' rows depend on."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        stepped = {place: parameter for place, parameter in enumerate(parameters) if parameter in self._moments}
        return {
            "steps": {place: self._step_of[parameter] for place, parameter in stepped.items()},
            "moments": {place: self._moments[parameter] for place, parameter in stepped.items()},
            "tables": [table.state() for table in self.tables],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self._step_of = {parameters[place]: step for place, step in state_dict["steps"].items()}
        self._moments = {
            parameters[place]: (moment.clone(), square.clone())
            for place, (moment, square) in state_dict["moments"].items()
        }
        for table, state in zip(self.tables, state_dict["tables"], strict=True):
            table.load(state)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients, wherever they are kept."""
        super().zero_grad(set_to_none)
        for matrix in self.matrices:
            matrix.clear_factors()
        for table in self.tables:
            table.forget_reads()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Step every parameter that has a gradient, and every table."""
        assert closure is None
        for matrix in self.matrices:
            if matrix.has_gradient:
                self._step_matrix(matrix)
        for table in self.tables:
            table.apply()
        self._step_others()

    def _step_others(self) -> None:
        by_step: dict[int, list[tuple[Tensor, ...]]] = {}
        for parameter in self._others:
            if parameter.grad is not None:
                tensors = (parameter.detach(), parameter.grad, *self._state(parameter))
                by_step.setdefault(self._step_of[parameter], []).append(tensors)
        for step, rows in by_step.items():
            parameters, gradients, moments, squares = (list(column) for column in zip(*rows, strict=True))
            adamw_in_place(parameters, gradients, moments, squares, step, self.rates)

    def _state(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """Count a step of this parameter, and return its two moments."""
        self._step_of[parameter] = self._step_of.get(parameter, 0) + 1
        if parameter not in self._moments:
            self._moments[parameter] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return self._moments[parameter]

    def _step_matrix(self, matrix: MatrixWeight) -> None:
        parameter, (moment_NK, square_NK) = matrix.parameter.detach(), self._state(matrix.parameter)
        step, columns = self._step_of[matrix.parameter], parameter.shape[1]
        matrix.values()  # so that a copy which something else made stale is renewed as a whole
        count = max(1, BLOCK_ELEMENTS // columns)
        for start in range(0, len(parameter), count):
            rows = slice(start, min(start + count, len(parameter)))
            gradient_RK = self._block(rows.stop - start, columns)
            matrix.gradient(start, rows.stop, gradient_RK)
            adamw_in_place([parameter[rows]], [gradient_RK], [moment_NK[rows]], [square_NK[rows]], step, self.rates)
            matrix.renew(rows)

    def _block(self, rows: int, columns: int) -> Tensor:
        """Return room for a block's gradient, the same memory each time."""
        if self._buffer.numel() < rows * columns:
            self._buffer = torch.empty(rows * columns)
        return self._buffer[: rows * columns].view(rows, columns)
