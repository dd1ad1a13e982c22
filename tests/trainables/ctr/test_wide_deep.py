from __future__ import annotations

import torch

from tests.trainables.ctr.plain_arithmetic import field_vectors, mlp_logits, numbers, with_random_parameters
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.ctr.wide_deep import WideDeep


def test_logits_are_the_numbers_linear_term_plus_mlp() -> None:
    model = with_random_parameters(WideDeep(FIELDS, embedding_size=4, hidden=(5, 3)))
    batch = small_rows(6).batch
    deep_B = mlp_logits(model.mlp, torch.cat(field_vectors(model, batch), dim=1))
    wide_B = numbers(batch) @ model.linear.weight[0]
    torch.testing.assert_close(model(batch), wide_B + deep_B)
