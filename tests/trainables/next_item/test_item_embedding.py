"""How a table of item embeddings starts."""

import math

import pytest
import torch

from trainables.next_item.item_embedding import Initialization, ItemEmbedding

ITEMS, SIZE = 2000, 30
NUMBERS = ITEMS * SIZE


def made(initialization: Initialization) -> torch.Tensor:
    torch.manual_seed(0)
    return ItemEmbedding(ITEMS, SIZE, initialization=initialization).weight.detach()


def test_starts_standard_normal_to_the_bit_unless_told_otherwise() -> None:
    torch.manual_seed(0)
    weight_ID, next_draw = ItemEmbedding(ITEMS, SIZE).weight.detach(), torch.rand(())
    torch.manual_seed(0)
    assert torch.equal(weight_ID, torch.randn(ITEMS, SIZE))
    assert torch.equal(next_draw, torch.rand(()))
    assert torch.equal(weight_ID, made("standard_normal"))


@pytest.mark.parametrize(
    ("initialization", "low", "high"),
    [
        ("uniform", 0.0, 1.0),
        ("kaiming_uniform", -math.sqrt(6 / SIZE), math.sqrt(6 / SIZE)),
        ("xavier_uniform", -math.sqrt(6 / (SIZE + ITEMS)), math.sqrt(6 / (SIZE + ITEMS))),
    ],
)
def test_uniform_tables_fill_their_range_evenly(initialization: Initialization, low: float, high: float) -> None:
    """The shares of ten equal parts of the range: each is 0.1 with a standard error of 0.0012."""
    share_ID = (made(initialization) - low) / (high - low)
    assert 0 <= float(share_ID.min()) < 0.001
    assert 0.999 < float(share_ID.max()) <= 1 + 1e-6
    counted = torch.histc(share_ID, bins=10, min=0, max=1) / NUMBERS
    torch.testing.assert_close(counted, torch.full((10,), 0.1), atol=0.006, rtol=0)


@pytest.mark.parametrize(
    ("initialization", "deviation"),
    [
        ("standard_normal", 1.0),
        ("kaiming_normal", math.sqrt(2 / SIZE)),
        ("xavier_normal", math.sqrt(2 / (SIZE + ITEMS))),
    ],
)
def test_normal_tables_have_their_deviation(initialization: Initialization, deviation: float) -> None:
    """Shares within one, two and three standard deviations; five standard errors are 0.01 at most."""
    distance_ID = (made(initialization) / deviation).abs()
    for count, expected in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        assert float((distance_ID < count).float().mean()) == pytest.approx(expected, abs=0.01)
    assert abs(float(made(initialization).mean())) < 5 * deviation / math.sqrt(NUMBERS)
