"""Cross-entropy over all items whose scores have a bias each.

Legend: B histories, I items, D embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.next_item.full_softmax import full_softmax_loss


def biased_softmax_loss(state_BD: Tensor, item_ID: Tensor, bias_I: Tensor, target_B: Tensor) -> Tensor:
    """Return the mean cross-entropy of the targets (rows of `item_ID`) under softmax(state · itemᵀ + bias), a scalar.

    The bias is one more dimension of the items, where every state has a one.
    """
    state_BD = torch.cat([state_BD, state_BD.new_ones(len(state_BD), 1)], dim=1)
    return full_softmax_loss(state_BD, torch.cat([item_ID, bias_I.unsqueeze(1)], dim=1), target_B)
