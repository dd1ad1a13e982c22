"""The backward passes of attention from few positions against numerical gradients, with dropout."""

import torch
from torch import Tensor

from trainables.next_item.few_query_attention import attended, positioned

RATE = 0.4
LENGTH_B = torch.tensor([1, 3, 5, 2])
REAL_BL = torch.arange(5) < LENGTH_B[:, None]


def variable(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_gradients_of_embeddings_and_positions_are_those_of_the_dropped_sum() -> None:
    def seeded(embedded_BLD: Tensor, position_LD: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        return positioned(embedded_BLD, position_LD, REAL_BL, RATE, training=True)

    torch.manual_seed(0)
    embedded_BLD, position_LD = variable(4, 5, 6), variable(5, 6)
    x_BLD, last_BD = seeded(embedded_BLD, position_LD)
    assert torch.equal(last_BD, x_BLD[torch.arange(4), LENGTH_B - 1])
    assert 0 < int((last_BD == 0).sum()) < last_BD.numel(), "some of the last positions are dropped"
    assert torch.autograd.gradcheck(seeded, (embedded_BLD, position_LD))


def test_dropout_of_embeddings_draws_for_real_positions_alone() -> None:
    torch.manual_seed(0)
    ones_BLD, zeros_LD = torch.ones(4, 5, 4000), torch.zeros(5, 4000)
    x_BLD, _ = positioned(ones_BLD, zeros_LD, REAL_BL, RATE, training=True)
    assert bool((x_BLD[~REAL_BL] == 0).all())
    assert set(x_BLD[REAL_BL].unique().tolist()) == {0.0, float(x_BLD.max())}
    # A mean over 4,000 elements of 0 and 1 / 0.6 deviates by 0.013.
    torch.testing.assert_close(x_BLD[REAL_BL].mean(1), torch.ones(int(LENGTH_B.sum())), atol=0.06, rtol=0)
    following = torch.rand(1)
    torch.manual_seed(0)
    positioned(ones_BLD[:, :3], zeros_LD[:3], REAL_BL[:, :3], RATE, training=True)
    assert not torch.equal(torch.rand(1), following), "history 2 has two real positions more"
    torch.manual_seed(0)
    positioned(ones_BLD.repeat(1, 2, 1), zeros_LD.repeat(2, 1), torch.arange(10) < LENGTH_B[:, None], RATE, True)
    assert torch.equal(torch.rand(1), following), "five positions more of padding draw nothing"


def test_gradients_of_sequence_and_query_are_those_of_the_dropped_weights() -> None:
    def seeded(x_BLD: Tensor, query_BHD: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        return attended(x_BLD, query_BHD, REAL_BL, 0.7, RATE, training=True)

    torch.manual_seed(0)
    x_BLD, query_BHD = variable(4, 5, 6), variable(4, 2, 6)
    _, sum_BH = seeded(x_BLD, query_BHD)
    assert not torch.allclose(sum_BH, torch.ones_like(sum_BH)), "weights are dropped"
    assert torch.autograd.gradcheck(seeded, (x_BLD, query_BHD))
