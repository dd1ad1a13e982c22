from __future__ import annotations

import math

import torch
from torch import nn

from tests.trainables.ctr.plain_arithmetic import field_vectors, numbers, with_random_parameters
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.ctr.afm import AFM


@torch.no_grad()
def test_logits_are_the_attention_by_loops() -> None:
    model = with_random_parameters(AFM(FIELDS, embedding_size=4, attention_size=3))
    batch = small_rows(6).batch
    inner, projection, output = model.attention[0], model.attention[2], model.output[1]
    assert isinstance(inner, nn.Linear) and isinstance(projection, nn.Linear) and isinstance(output, nn.Linear)
    number_vectors = [numbers(batch)[:, n : n + 1] * model.number_fields.vector_ND[n] for n in range(2)]
    vectors = [*field_vectors(model, batch), *number_vectors]
    for row, logit in enumerate(model(batch).tolist()):
        products, scores = [], []
        for i in range(6):
            for j in range(i + 1, 6):
                product_D = vectors[i][row] * vectors[j][row]
                hidden_A = (inner.weight @ product_D + inner.bias).clamp(min=0)
                products.append(product_D)
                scores.append(math.exp(float(projection.weight[0] @ hidden_A)))
        pooled_D = sum((s / sum(scores) * p for s, p in zip(scores, products, strict=True)), torch.zeros(4))
        linear = float(model.linear.weight[0] @ numbers(batch)[row] + model.linear.bias)
        assert math.isclose(logit, linear + float(output.weight[0] @ pooled_D), rel_tol=1e-5, abs_tol=1e-5)


def test_without_attention_it_is_the_mean_over_pairs() -> None:
    model = with_random_parameters(AFM(FIELDS, embedding_size=4))
    with torch.no_grad():
        for parameter in (*model.attention.parameters(), *model.linear.parameters()):
            parameter.zero_()
        for parameter in model.output.parameters():
            parameter.fill_(1.0)
    batch = small_rows(6).batch
    number_vectors = [numbers(batch)[:, n : n + 1] * model.number_fields.vector_ND[n] for n in range(2)]
    fields_BFD = torch.stack([*field_vectors(model, batch), *number_vectors], dim=1)
    pairs_B = (fields_BFD.sum(1).square() - fields_BFD.square().sum(1)).sum(1) / 2
    torch.testing.assert_close(model(batch), pairs_B / 15, rtol=1e-5, atol=1e-5)
