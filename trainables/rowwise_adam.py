"""Adam that touches the rows of a batch alone, for embedding tables of millions of rows.

Legend: V rows of a table, W rows that a batch touches, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

EmbeddingUpdates = Literal["all_rows", "touched_rows"]
"""Whether a step of the optimizer updates every row of an embedding table, or those that stand in its batch."""


class RowwiseAdam(torch.optim.Adam):
    """Adam (Kingma & Ba 2015) that updates only those rows of a table that its sparse gradient has.

    A row keeps its moments while it is absent, and takes no step; the bias corrections go by the optimizer's steps, as
    in torch.optim.SparseAdam. Weight decay is an L2 gradient, here of the touched rows alone. Dense gradients are
    treated as Adam does. The state takes twice the memory of the parameters: of a million rows with D = 16, 128 MB
    beside the 64 MB of the rows themselves, and no gradient of that size ever exists.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, fused=True)
        # Before Adam's own step, which takes dense gradients only; so a step counts once for whoever watches steps.
        self.register_step_pre_hook(_step_rows)

    @torch.no_grad()
    def step_rows(self) -> None:
        """Update the rows of every sparse gradient, and take it away."""
        for group in self.param_groups:
            for table_VD in group["params"]:
                if table_VD.grad is not None and table_VD.grad.is_sparse:
                    self._step_table(table_VD, *rows_of(table_VD.grad), group)
                    table_VD.grad = None

    def _step_table(self, table_VD: Tensor, row_W: Tensor, grad_WD: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table_VD]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=table_VD.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table_VD), torch.zeros_like(table_VD)
        state["step"] += 1
        step, (beta1, beta2) = float(state["step"]), group["betas"]
        rows_WD = table_VD.index_select(0, row_W)
        if group["weight_decay"]:
            grad_WD = grad_WD.add(rows_WD, alpha=group["weight_decay"])
        mean_WD = state["exp_avg"].index_select(0, row_W).lerp_(grad_WD, 1 - beta1)
        square_WD = state["exp_avg_sq"].index_select(0, row_W).mul_(beta2).addcmul_(grad_WD, grad_WD, value=1 - beta2)
        deviation_WD = square_WD.sqrt().div_((1 - beta2**step) ** 0.5).add_(group["eps"])
        rows_WD.addcdiv_(mean_WD, deviation_WD, value=-float(group["lr"]) / (1 - beta1**step))
        for kept_VD, new_WD in ((table_VD, rows_WD), (state["exp_avg"], mean_WD), (state["exp_avg_sq"], square_WD)):
            kept_VD.index_copy_(0, row_W, new_WD)


def _step_rows(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    assert isinstance(optimizer, RowwiseAdam)
    optimizer.step_rows()


def adam_of(
    module: nn.Module,
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float,
    embedding_updates: EmbeddingUpdates,
) -> torch.optim.Optimizer:
    """Return a fresh Adam of these parameters of a module.

    With `touched_rows`, the embedding tables of the module get gradients of the batch's rows from now on.
    """
    if embedding_updates == "all_rows":
        return torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)
    for part in module.modules():
        for name in getattr(part, "row_tables", ()):
            getattr(part, name).has_row_gradients = True
    return RowwiseAdam(parameters, lr=learning_rate, weight_decay=weight_decay)


def has_row_gradients(table_VD: Tensor) -> bool:
    """Tell whether a table is one whose gradients are of the batch's rows."""
    return bool(getattr(table_VD, "has_row_gradients", False))


def row_gradient(row_W: Tensor, grad_WD: Tensor, rows: int) -> Tensor:
    """Return the sparse gradient of a table of so many rows; `row_W` ascends and has no row twice."""
    size = (rows, grad_WD.shape[1])
    return torch.sparse_coo_tensor(row_W.unsqueeze(0), grad_WD, size, is_coalesced=True, check_invariants=False)


def rows_of(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of a sparse gradient, ascending, int64 [W], and their values [W, D]."""
    row_W = gradient._indices()[0]
    if bool((row_W[1:] > row_W[:-1]).all()):  # as `row_gradient` made it; autograd forgets to say so
        return row_W, gradient._values()
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()
