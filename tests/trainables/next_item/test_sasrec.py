import pytest
import torch
from torch.nn import functional

from tests.trainables.next_item.sequence_batches import random_batch, select
from trainables.next_item.sasrec import SASRec


def make(**parameters: object) -> SASRec:
    torch.manual_seed(0)
    return SASRec(50, 6, size=8, **parameters)  # type: ignore[arg-type]


def test_loss_is_the_cross_entropy_of_the_ranking_scores() -> None:
    model, batch = make().eval(), random_batch(9)
    expected = functional.cross_entropy(model.rank_scores(batch), batch.target_B.long() - 1)
    torch.testing.assert_close(model.loss(batch), expected)


def test_scores_are_of_items_from_1_and_follow_the_batch() -> None:
    model, batch = make().eval(), random_batch(9)
    scores_BI = model.rank_scores(batch)
    assert scores_BI.shape == (9, 50)
    order_B = torch.randperm(9)
    torch.testing.assert_close(model.rank_scores(select(batch, order_B)), scores_BI[order_B])
    with torch.no_grad():
        model.embedding.weight[16] *= 2  # item 17
    changed_BI = model.rank_scores(batch)
    unseen_B = ~(batch.history_BL == 17).any(dim=1)
    torch.testing.assert_close(changed_BI[unseen_B, 16], 2 * scores_BI[unseen_B, 16])


def test_released_variant_holds_the_scored_items_constant() -> None:
    paper, released, batch = make(), make(variant="released"), random_batch(9)
    paper.eval()
    released.eval()
    torch.testing.assert_close(paper.loss(batch), released.loss(batch))
    paper.loss(batch).backward()
    released.loss(batch).backward()
    assert paper.embedding.weight.grad is not None
    assert released.embedding.weight.grad is not None
    seen = set(batch.history_BL.unique().tolist()) - {0}
    touched = {row + 1 for row in range(50) if bool(released.embedding.weight.grad[row].any())}
    assert touched == seen
    assert bool(paper.embedding.weight.grad.any(dim=1).all())


def test_learns_what_follows_what() -> None:
    torch.manual_seed(0)
    model, batch = SASRec(50, 6, size=32, learning_rate=0.01), random_batch(64)
    optimizer, losses = model.optimizer(), []
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 < 3 < losses[0]


def test_item_embeddings_start_standard_normal() -> None:
    torch.manual_seed(0)
    weight_ID = SASRec(2000, 6).embedding.weight
    assert weight_ID.shape == (2000, 64)
    assert weight_ID.mean().item() == pytest.approx(0, abs=0.02)
    assert weight_ID.std().item() == pytest.approx(1, abs=0.02)
