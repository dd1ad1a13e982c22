from __future__ import annotations

import pytest
import torch

from tests.trainables.ctr.plain_arithmetic import field_vectors, mlp_logits, with_random_parameters
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.base import CtrBatch
from trainables.ctr.dcn import DCN, CrossNetwork


def test_a_cross_layer_by_hand() -> None:
    # x_1 = (1, 2)·(1·3 + 2·(−1)) + (0.5, −1) + (1, 2) = (2.5, 3); 2·2.5 + 10·3 = 35
    network = CrossNetwork(2, 1)
    with torch.no_grad():
        network.weight_LX.copy_(torch.tensor([[3.0, -1.0]]))
        network.bias_LX.copy_(torch.tensor([[0.5, -1.0]]))
        network.output_X.copy_(torch.tensor([2.0, 10.0]))
    assert network(torch.tensor([[1.0, 2.0]])).tolist() == [35.0]


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_cross_layers_are_those_of_the_equation(layers: int) -> None:
    torch.manual_seed(0)
    network = CrossNetwork(6, layers).double()
    torch.nn.init.normal_(network.bias_LX)
    inputs_BX = torch.randn(4, 6, dtype=torch.float64)
    x_BX = inputs_BX
    for w_X, b_X in zip(network.weight_LX, network.bias_LX, strict=True):
        x_BX = (
            torch.stack([torch.outer(x0_X, x_X) @ w_X for x0_X, x_X in zip(inputs_BX, x_BX, strict=True)]) + b_X + x_BX
        )
    expected_B = x_BX @ network.output_X
    torch.testing.assert_close(network(inputs_BX), expected_B)
    ours = torch.autograd.grad(network(inputs_BX).sum(), list(network.parameters()))
    theirs = torch.autograd.grad(expected_B.sum(), list(network.parameters()))
    torch.testing.assert_close(ours, theirs)


def test_logits_are_cross_network_plus_mlp() -> None:
    model = with_random_parameters(DCN(FIELDS, embedding_size=4, hidden=(5, 3)))
    batch = small_rows(6).batch
    inputs_BX = torch.cat(field_vectors(model, batch), dim=1)
    x_BX = inputs_BX
    for w_X, b_X in zip(model.cross.weight_LX, model.cross.bias_LX, strict=True):
        x_BX = inputs_BX * (x_BX @ w_X).unsqueeze(1) + b_X + x_BX
    expected_B = x_BX @ model.cross.output_X + mlp_logits(model.mlp, inputs_BX)
    torch.testing.assert_close(model(batch), expected_B, rtol=1e-5, atol=1e-4)


def test_numbers_are_left_out() -> None:
    model = with_random_parameters(DCN(FIELDS))
    batch = small_rows(6).batch
    other = CtrBatch({**batch.columns, "timestamp": batch.columns["timestamp"] + 1}, batch.label_B)
    assert torch.equal(model(batch), model(other))
