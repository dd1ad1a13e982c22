import pytest
import torch

from trainables.next_item.dropout import LEVELS, dropout, kept_elements


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    dropped = dropout(torch.ones(1001, 333), rate, training=True)
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=0.005)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - rate)], rel=1e-3)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("rate", [1 - 1e-5, 1 - 1 / 2**17, 1 - 1e-6, 1 - 2**-53])
def test_rates_next_to_1_keep_a_65536th(rate: float) -> None:
    torch.manual_seed(0)
    dropped = dropout(torch.ones(2000, 2000), rate, training=True)
    assert dropped.unique().tolist() == [0, 2**16]
    assert (dropped > 0).sum().item() == pytest.approx(4e6 / 2**16, abs=5 * (4e6 / 2**16) ** 0.5)


def test_other_rates_are_rounded_to_the_next_65536th() -> None:
    x = torch.ones(64)
    for rate in [number / 1000 for number in range(1, 1000)] + [1 - 1 / 2**16]:
        torch.manual_seed(0)
        kept, scale = kept_elements(x, rate)
        torch.manual_seed(0)
        bits = torch.empty(16, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        assert kept is not None
        assert torch.equal(kept, bits.int() + 2**15 >= round(rate * LEVELS))
        assert scale == 2**16 / (2**16 - round(rate * 2**16))


def test_elements_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(4000, 100), 0.3, training=True) > 0).float()
    correlation = torch.corrcoef(kept[:, :8].T) - torch.eye(8)
    assert correlation.abs().max().item() < 0.08
    assert not torch.equal(kept[:, 0], kept[:, 4])


def test_the_gradient_has_the_same_mask() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 7, requires_grad=True)
    dropped = dropout(x, 0.4, training=True)
    dropped.sum().backward()
    torch.testing.assert_close(x.grad * x, dropped)


def test_nothing_is_dropped_in_evaluation_or_at_rate_0() -> None:
    x = torch.randn(3)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x


def test_draws_follow_the_global_generator() -> None:
    def draw() -> torch.Tensor:
        torch.manual_seed(5)
        return dropout(torch.ones(9, 3), 0.5, training=True)

    assert torch.equal(draw(), draw())
