"""The item embeddings that next-item models share.

Legend: B histories, L positions, D embedding size, I items.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from trainables.base import SequenceBatch
from trainables.next_item.late_rows import LateRows

Initialization = Literal[
    "standard_normal", "uniform", "kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal"
]

INITIALIZATIONS: dict[Initialization, Callable[[Tensor], Tensor]] = {
    "standard_normal": nn.init.normal_,
    "uniform": nn.init.uniform_,
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
}


class ItemEmbedding(nn.Module):
    """A table [I, D], row i for item id i + 1; an id of 0, padding, has no row.

    The table starts as PreferDiff's Table 17 names it. The paper gives the names alone; here they are torch's functions
    with torch's defaults, which take a table's fan-in for its columns D and its fan-out for its rows I:

    - `standard_normal`: mean 0, standard deviation 1 (D.2: what all models have);
    - `uniform`: from 0 to 1;
    - `kaiming_uniform`: within ±√(6 / D), `kaiming_normal`: mean 0, standard deviation √(2 / D);
    - `xavier_uniform`: within ±√(6 / (D + I)), `xavier_normal`: mean 0, standard deviation √(2 / (D + I)).

    With `late_rows` set (by a model whose optimizer steps them) training reads rows through it, and leaving training
    mode or taking the state brings the whole table up to date first.

    Args:
        items: I.
        size: D.
        scored_in_loss: whether the loss scores all items with the table, so that its gradient is dense anyway; the
            rows looked up then add to that one, in place of a dense gradient of their own.
        initialization: what the table is drawn from.
    """

    def __init__(
        self,
        items: int,
        size: int,
        *,
        scored_in_loss: bool = False,
        initialization: Initialization = "standard_normal",
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(INITIALIZATIONS[initialization](torch.empty(items, size)))
        self.scored_in_loss = scored_in_loss
        self.late_rows: LateRows | None = None
        self.register_state_dict_pre_hook(_finish_late_rows)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode."""
        if not mode:
            _finish_late_rows(self)
        return super().train(mode)

    def histories(self, batch: SequenceBatch) -> Tensor:
        """Return the histories' embeddings [B, L, D]; padded positions hold no meaning, the encoder zeroes them."""
        return self._looked_up(batch.history_BL)[0]

    def histories_and_targets(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Return the histories' embeddings [B, L, D] and the targets' [B, D].

        Both come from one gather, so that the gradient of the table is allocated and filled once.
        """
        return self._looked_up(batch.history_BL, batch.target_B)

    def scores(self, query_BD: Tensor) -> Tensor:
        """Return the dot products of queries with all items [B, I]."""
        return functional.linear(query_BD, self.weight)

    def _looked_up(self, history_BL: Tensor, target_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        count, target_B = len(history_BL), history_BL[:0, 0] if target_B is None else target_B
        index_N = (torch.cat([history_BL.flatten(), target_B]).long() - 1).clamp_(min=0)
        table_ID: Tensor = self.weight
        if self.late_rows is not None and self.training and torch.is_grad_enabled():
            row_R, index_N = index_N.unique(return_inverse=True)
            table_ID = self.late_rows.read(row_R)
        history_N, target_B = index_N.split([history_BL.numel(), len(target_B)])
        rows: tuple[Tensor, Tensor] = _LookUp.apply(  # type: ignore[no-untyped-call]
            table_ID, history_N.view(count, -1), target_B, self.scored_in_loss
        )
        return rows


class _LookUp(torch.autograd.Function):
    """Rows of a table for histories and for targets, whose gradient is filled once."""

    @staticmethod
    def forward(
        ctx: Any, table_ID: Tensor, history_BL: Tensor, target_B: Tensor, sparse: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(history_BL, target_B)
        ctx.items, ctx.sparse = len(table_ID), sparse
        history_BLD = table_ID.index_select(0, history_BL.flatten()).view(*history_BL.shape, -1)
        return history_BLD, table_ID.index_select(0, target_B)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BLD: Tensor, grad_BD: Tensor) -> tuple[Tensor, None, None, None]:
        history_BL, target_B = ctx.saved_tensors
        if ctx.sparse:
            row_N = torch.cat([history_BL.flatten(), target_B])
            grad_ND = torch.cat([grad_BLD.flatten(0, 1), grad_BD])
            size = (ctx.items, grad_ND.shape[1])
            return torch.sparse_coo_tensor(row_N.unsqueeze(0), grad_ND, size, check_invariants=False), None, None, None
        grad_ID = torch.ops.aten.embedding_dense_backward(grad_BLD, history_BL, ctx.items, -1, False)
        return grad_ID.index_add_(0, target_B, grad_BD), None, None, None


def _finish_late_rows(embedding: nn.Module, *_: Any) -> None:
    if isinstance(embedding, ItemEmbedding) and embedding.late_rows is not None:
        embedding.late_rows.finish()
