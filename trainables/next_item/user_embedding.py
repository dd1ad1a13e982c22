"""The user embeddings of methods that have some.

Legend: B histories, D embedding size, U users.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.base import SequenceBatch


class UserEmbedding(nn.Module):
    """A table [U, D], row u for user u, that starts normal with deviation 1/D.

    Source: the start from the programs of Tang & Wang 2018 and of Ma et al. 2019.
    """

    def __init__(self, users: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(users, size) / size)

    def forward(self, batch: SequenceBatch) -> Tensor:
        """Return the embeddings of a batch's users [B, D]."""
        return functional.embedding(users_of(batch), self.weight)


def users_of(batch: SequenceBatch) -> Tensor:
    """Return the users of a batch, int64 [B].

    Raises:
        ValueError: it does not tell them.
    """
    if batch.user_B is None:
        raise ValueError("the batch tells no users, the method was built with some; build it with users=None")
    return batch.user_B.long()
