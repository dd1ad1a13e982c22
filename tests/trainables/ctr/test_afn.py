from __future__ import annotations

import math

import pytest
import torch

from tests.trainables.ctr.plain_arithmetic import (
    field_vectors,
    mlp_logits,
    normalized,
    numbers,
    with_random_parameters,
)
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.ctr.afn import AFN, LogarithmicNeurons, ReleasedLogarithmicNeurons


def _untouched(layer: LogarithmicNeurons) -> LogarithmicNeurons:
    """Let both normalizations of a layer in evaluation mode pass what they get."""
    for normalization in (layer.normalize_fields, layer.normalize_neurons):
        normalization.eps = 0.0
    return layer.eval()


def test_a_neuron_is_a_product_of_powers() -> None:
    layer = _untouched(LogarithmicNeurons(2, 2))
    with torch.no_grad():
        layer.weight_HF.copy_(torch.tensor([[1.0, 1.0], [0.5, -2.0]]))
    given = layer(torch.tensor([[[-4.0], [2.0]]]))
    torch.testing.assert_close(given, torch.tensor([[[4.0 * 2.0], [4.0**0.5 / 2.0**2]]]))


def test_zeros_have_a_finite_logarithm() -> None:
    layer = _untouched(LogarithmicNeurons(1, 1))
    with torch.no_grad():
        layer.weight_HF.fill_(1.0)
    torch.testing.assert_close(layer(torch.tensor([[[0.0], [-1e-9]]]).view(2, 1, 1)).flatten(), torch.full((2,), 1e-4))


def test_training_normalizes_fields_and_neurons() -> None:
    torch.manual_seed(0)  # some draws have neurons that hardly vary
    layer = LogarithmicNeurons(3, 5)
    with torch.no_grad():
        layer.weight_HF.normal_(std=0.3)
    outputs_BHD = layer(torch.randn(200, 3, 4))
    torch.testing.assert_close(outputs_BHD.mean(dim=(0, 2)), torch.zeros(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(outputs_BHD.std(dim=(0, 2)), torch.ones(5), rtol=0, atol=1e-2)


def test_logits_are_written_out() -> None:
    model = with_random_parameters(AFN(FIELDS, embedding_size=4, neurons=3, hidden=(5,)))
    batch = small_rows(6).batch
    layer = model.logarithmic
    assert isinstance(layer, LogarithmicNeurons)
    logarithms = torch.stack([vector.abs().clamp(min=1e-4).log() for vector in field_vectors(model, batch)], dim=2)
    scaled_BDF = normalized(layer.normalize_fields, logarithms)
    neurons_BDH = torch.stack([(scaled_BDF * weight_F).sum(2).exp() for weight_F in layer.weight_HF], dim=2)
    outputs_BDH = normalized(layer.normalize_neurons, neurons_BDH)
    deep_B = mlp_logits(model.mlp, outputs_BDH.transpose(1, 2).flatten(1))
    expected_B = numbers(batch) @ model.linear.weight[0] + deep_B
    torch.testing.assert_close(model(batch), expected_B, rtol=1e-4, atol=1e-4)


def test_the_released_neuron_by_hand() -> None:
    layer = ReleasedLogarithmicNeurons(2, 2)
    with torch.no_grad():
        layer.weight_HF.copy_(torch.tensor([[0.5, 1.0], [-1.0, 0.0]]))
    given = layer(torch.tensor([[[-3.0], [1.0]]])).flatten().tolist()
    assert given == pytest.approx([math.sqrt(4.0) * 2.0 - 1.0, 0.0])
    assert isinstance(AFN(FIELDS, neurons=3, variant="released").logarithmic, ReleasedLogarithmicNeurons)
