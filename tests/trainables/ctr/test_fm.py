from __future__ import annotations

import torch

from tests.trainables.ctr.plain_arithmetic import field_vectors, numbers, with_random_parameters
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.ctr.fm import FM


def test_logits_are_the_double_loop_over_pairs() -> None:
    model = with_random_parameters(FM(FIELDS, embedding_size=4))
    batch = small_rows(6).batch
    number_vectors = [numbers(batch)[:, n : n + 1] * model.number_fields.vector_ND[n] for n in range(2)]
    vectors = [*field_vectors(model, batch), *number_vectors]
    for row, logit in enumerate(model(batch)):
        expected = model.linear.bias[0] + sum(model.linear.weight[0, n] * numbers(batch)[row, n] for n in range(2))
        for i in range(len(vectors)):
            for j in range(i + 1, len(vectors)):
                expected = expected + sum(vectors[i][row, d] * vectors[j][row, d] for d in range(4))
        torch.testing.assert_close(logit, expected, rtol=1e-5, atol=1e-5)
