"""Random histories for the tests of next-item models."""

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.base import SequenceBatch


def random_batch(
    rows: int, items: int = 50, history_length: int = 6, seed: int = 0, *, users: int | None = None
) -> SequenceBatch:
    generator = torch.Generator().manual_seed(seed)
    length_B = torch.randint(1, history_length + 1, (rows,), generator=generator, dtype=torch.int32)
    history_BL = torch.randint(1, items + 1, (rows, history_length), generator=generator, dtype=torch.int32)
    history_BL = history_BL * (torch.arange(history_length) < length_B[:, None]).int()
    target_B = torch.randint(1, items + 1, (rows,), generator=generator, dtype=torch.int32)
    user_B = None if users is None else torch.randint(users, (rows,), generator=generator, dtype=torch.int32)
    return SequenceBatch(history_BL, length_B, target_B, user_B)


def select(batch: SequenceBatch, index: torch.Tensor) -> SequenceBatch:
    user_B = None if batch.user_B is None else batch.user_B[index]
    return SequenceBatch(batch.history_BL[index], batch.length_B[index], batch.target_B[index], user_B)


def of_each_history(batch: SequenceBatch, value: Callable[..., Tensor]) -> Tensor:
    """Return the values of a function of one history without padding, and of its user where the batch tells one."""
    history = [items[:length] for items, length in zip(batch.history_BL.tolist(), batch.length_B, strict=True)]
    users = [] if batch.user_B is None else [batch.user_B.tolist()]
    return torch.stack([value(*row) for row in zip(history, *users, strict=True)])
