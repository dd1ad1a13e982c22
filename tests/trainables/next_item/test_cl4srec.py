import math

import pytest
import torch

from tests.trainables.next_item.sequence_batches import random_batch, select
from trainables.next_item.cl4srec import CL4SRec
from trainables.next_item.sasrec import SASRec


def make(**parameters: object) -> CL4SRec:
    torch.manual_seed(0)
    return CL4SRec(50, 6, size=8, **parameters)  # type: ignore[arg-type]


@torch.no_grad()
def test_loss_is_sasrecs_and_the_contrast_of_two_views() -> None:
    """Eq. 3 and 9 in double loops, on the views that the same random numbers draw."""
    model, batch = make(contrast=0.5, temperature=2.0).eval(), random_batch(4)
    sasrec = SASRec(50, 6, size=8).eval()
    sasrec.load_state_dict({name: value for name, value in model.state_dict().items() if name != "mask_D"})
    torch.manual_seed(1)
    first, second = (model._encoded(model._view(batch)) for _ in range(2))
    views = [*first, *second]
    terms = []
    for one, anchor in enumerate(views):
        similar = [math.exp(float(anchor @ other) / 2) for number, other in enumerate(views) if number != one]
        twin = math.exp(float(anchor @ views[(one + 4) % 8]) / 2)
        terms.append(-math.log(twin / sum(similar)))
    torch.manual_seed(1)
    expected = sasrec.loss(batch).item() + 0.5 * sum(terms) / 8
    assert model.loss(batch).item() == pytest.approx(expected, rel=1e-4)


def test_without_contrast_it_is_sasrec() -> None:
    model, batch = make(contrast=0.0).eval(), random_batch(9)
    sasrec = SASRec(50, 6, size=8).eval()
    sasrec.load_state_dict({name: value for name, value in model.state_dict().items() if name != "mask_D"})
    assert torch.equal(model.loss(batch), sasrec.loss(batch))
    assert torch.equal(model.rank_scores(batch), sasrec.rank_scores(batch))


def test_all_three_changes_are_drawn() -> None:
    model, batch = make(crop_share=0.5, mask_share=0.5, reorder_share=1.0), random_batch(1, seed=3)
    batch = select(batch, torch.zeros(300, dtype=torch.int64))
    batch = type(batch)(torch.tensor([[1, 2, 3, 4, 5, 6]]).repeat(300, 1), torch.full((300,), 6), batch.target_B)
    torch.manual_seed(0)
    views = model._view(batch)
    cropped_B = views.length_B == 3
    masked_B = ~cropped_B & (views.history_BL == 0).any(1)
    for kind_B in (cropped_B, masked_B, ~cropped_B & ~masked_B):
        assert float(kind_B.float().mean()) == pytest.approx(1 / 3, abs=0.1)


def test_masked_items_are_the_learned_vector_and_padding_is_nothing() -> None:
    model, batch = make().eval(), random_batch(2)
    masked = type(batch)(torch.tensor([[3, 0, 5, 0, 0, 0]]), torch.tensor([3]), batch.target_B[:1])
    before_BD = model._encoded(masked)
    with torch.no_grad():
        model.mask_D += 1
    assert not torch.allclose(model._encoded(masked), before_BD)
    whole = type(batch)(torch.tensor([[3, 4, 5, 0, 0, 0]]), torch.tensor([3]), batch.target_B[:1])
    torch.testing.assert_close(model._encoded(whole), model.encoder(model.embedding.histories(whole), whole.length_B))


def test_one_history_has_nothing_to_contrast_with() -> None:
    model, batch = make(contrast=3.0).eval(), random_batch(1)
    assert model._contrastive_loss(batch).item() == 0
