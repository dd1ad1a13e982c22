"""LLM2BERT4Rec (Harte et al. 2023) as PreferDiff's Table 1 compares with it.

Legend: I items, E text embedding size, D embedding size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainables.next_item.bert4rec import BERT4Rec
from trainables.next_item.text import principal_components


class LLM2BERT4Rec(BERT4Rec):
    """BERT4Rec whose item embeddings start from their text's principal components, and are trained as usual.

    The components are divided by one number, so that all entries together have the unit variance that the other
    parameters start with; what they have relative to each other stays. Texts that do not differ, as that of a single
    item, have no components: all embeddings start from zero.

    Args:
        text_IE: the items' text embeddings, float32.
        size: embedding size, at most the text embeddings'.

    The other parameters are as in `BERT4Rec`.

    Source: Harte et al. 2023, §3.3; PreferDiff D.2 (PCA to 64).
    """

    def __init__(self, items: int, history_length: int, text_IE: Tensor, **shared: Any) -> None:
        super().__init__(items, history_length, **shared)
        component_ID = principal_components(text_IE, self.embedding.weight.shape[1])
        # Components of equal texts are exactly zero: their mean is a sum of float32 in float64.
        scale = component_ID.square().mean().sqrt().clamp(min=torch.finfo(torch.float32).tiny)
        with torch.no_grad():
            self.embedding.weight.copy_(component_ID / scale)
