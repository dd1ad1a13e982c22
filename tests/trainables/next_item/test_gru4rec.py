import pytest
import torch
from torch.nn import functional

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.next_item.gru4rec import GRU4Rec


def make(**parameters: object) -> GRU4Rec:
    torch.manual_seed(0)
    return GRU4Rec(50, 6, size=8, **parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize("output", ["shared", "own"])
def test_loss_is_the_cross_entropy_of_the_ranking_scores(output: str) -> None:
    model, batch = make(output=output).eval(), random_batch(9)
    expected = functional.cross_entropy(model.rank_scores(batch), batch.target_B.long() - 1)
    torch.testing.assert_close(model.loss(batch), expected)


def test_output_layer_of_its_own_is_what_ranks() -> None:
    model, batch = make(output="own").eval(), random_batch(9)
    assert (
        make().output is not None and len(list(make(output="own").parameters())) == len(list(make().parameters())) + 1
    )
    scores_BI = model.rank_scores(batch)
    with torch.no_grad():
        model.output.weight[16] *= 2  # item 17
    changed_BI = model.rank_scores(batch)
    torch.testing.assert_close(changed_BI[:, 16], 2 * scores_BI[:, 16])
    assert torch.equal(changed_BI[:, :16], scores_BI[:, :16])


def test_order_of_the_items_matters() -> None:
    model, batch = make().eval(), random_batch(1)
    forward_BI = model.rank_scores(type(batch)(torch.tensor([[3, 7, 9, 0, 0, 0]]), torch.tensor([3]), batch.target_B))
    backward_BI = model.rank_scores(type(batch)(torch.tensor([[9, 7, 3, 0, 0, 0]]), torch.tensor([3]), batch.target_B))
    assert not torch.allclose(forward_BI, backward_BI)


def test_learns_what_follows_what() -> None:
    torch.manual_seed(0)
    model, batch = GRU4Rec(50, 6, size=32, learning_rate=0.02), random_batch(64)
    optimizer, losses = model.optimizer(), []
    for _ in range(100):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 < 3 < losses[0]
