from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.trainables.ctr.plain_arithmetic import field_vectors, mlp_logits, with_random_parameters
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.ctr.pnn import PNN, InnerProducts, OuterProducts, pairs_with

PAIRS = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def _products(model: PNN, vectors: list[Tensor]) -> Tensor:
    columns = []
    for pair, (i, j) in enumerate(PAIRS):
        column_B = torch.zeros(len(vectors[0]))
        for d in range(4):
            if isinstance(model.products, InnerProducts):
                column_B = column_B + vectors[i][:, d] * vectors[j][:, d]
            else:
                for e in range(4):
                    weight = model.products.weight_PDE[pair, d, e]
                    column_B = column_B + vectors[i][:, d] * vectors[j][:, e] * weight
        columns.append(column_B)
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("product", ["inner", "outer"])
def test_logits_are_an_mlp_over_embeddings_and_products_by_loops(product: str) -> None:
    model = with_random_parameters(PNN(FIELDS, embedding_size=4, hidden=(5,), product=product))  # type: ignore[arg-type]
    batch = small_rows(6).batch
    vectors = field_vectors(model, batch)
    inputs_BX = torch.cat([*vectors, _products(model, vectors)], dim=1)
    torch.testing.assert_close(model(batch), mlp_logits(model.mlp, inputs_BX), rtol=1e-5, atol=1e-4)


def test_the_identity_turns_outer_products_into_inner_ones() -> None:
    outer, fields_BFD = OuterProducts(4, 3), torch.randn(5, 4, 3)
    with torch.no_grad():
        outer.weight_PDE.copy_(torch.eye(3))
    torch.testing.assert_close(outer(fields_BFD), InnerProducts()(fields_BFD))


@pytest.mark.parametrize("products", [InnerProducts(), OuterProducts(4, 3)])
@pytest.mark.parametrize("field", range(4))
def test_factors_give_the_products_of_a_fields_pairs(products: InnerProducts | OuterProducts, field: int) -> None:
    fields_BFD = torch.randn(5, 4, 3)
    given = (products.factors(fields_BFD, field) * fields_BFD[:, field : field + 1]).sum(dim=2)
    positions = [pair for pair, members in enumerate(PAIRS) if field in members]
    assert pairs_with(field, 4).tolist() == positions
    torch.testing.assert_close(given, products(fields_BFD)[:, positions])
