"""Items by their categories and brands.

Legend: I items, A attributes of an item, D embedding size, B histories, L positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class AttributeAttention(nn.Module):
    """Σ_a w_a · e_a of an item's attributes, w = softmax_a(u · e_a): what FDSA calls vanilla attention.

    The paper's bias is left out: it adds the same to all scores of an item, and the softmax cancels that. An item
    without attributes is the zero vector; an attribute named twice counts once. What belongs to which item is no part
    of the state.

    Source: Zhang et al. 2019, §3.2 (eq. 2–3).
    """

    def __init__(self, attribute_IA: Tensor, size: int) -> None:
        super().__init__()
        self.attribute_IA: Tensor
        self.register_buffer("attribute_IA", _each_once(attribute_IA.long()), persistent=False)
        self.embedding = nn.Parameter(torch.randn(int(attribute_IA.max()) + 1, size))
        self.score = nn.Linear(size, 1, bias=False)

    def histories(self, history_BL: Tensor) -> Tensor:
        """Return the items' vectors [B, L, D]; those of padded positions hold no meaning."""
        attribute_BLA = self.attribute_IA[(history_BL.long() - 1).clamp_(min=0)]
        embedded_BLAD = functional.embedding(attribute_BLA, self.embedding)
        real_BLA = attribute_BLA > 0
        # The smallest number in place of −∞: an item without attributes has no softmax over −∞ alone.
        score_BLA = self.score(embedded_BLAD).squeeze(-1).masked_fill(~real_BLA, torch.finfo(torch.float32).min)
        weight_BLA = torch.softmax(score_BLA, dim=-1) * real_BLA
        return (weight_BLA.unsqueeze(-2) @ embedded_BLAD).squeeze(-2)


def _each_once(attribute_IA: Tensor) -> Tensor:
    """Return the items' attributes with 0 in place of each that the item had already."""
    same_IAA = attribute_IA.unsqueeze(2) == attribute_IA.unsqueeze(1)
    return attribute_IA.masked_fill(same_IAA.tril(-1).any(2), 0)


def multi_hot(attribute_IA: Tensor) -> Tensor:
    """Return which attributes an item has, float32 [I, attributes], column j for id j + 1."""
    hot = torch.zeros(len(attribute_IA), int(attribute_IA.max()) + 1)
    return hot.scatter_(1, attribute_IA.long(), 1.0)[:, 1:]
