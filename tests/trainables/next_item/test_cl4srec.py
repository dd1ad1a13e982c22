import math
from collections import Counter
from collections.abc import Callable
from itertools import permutations, product
from typing import Any

import pytest
import torch

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.base import SequenceBatch
from trainables.next_item.cl4srec import CL4SRec
from trainables.next_item.conformance import CHECKS, Build
from trainables.next_item.sasrec import SASRec

EACH_VARIANT = pytest.mark.parametrize("variant", ["paper", "released"])


def make(**parameters: Any) -> CL4SRec:
    torch.manual_seed(0)
    return CL4SRec(50, 6, size=8, **parameters)


@EACH_VARIANT
@torch.no_grad()
def test_loss_is_sasrecs_and_the_contrast_of_two_views(variant: str) -> None:
    """Eq. 3 and 9 in double loops, on the views that the same random numbers draw."""
    model, batch = make(contrast=0.5, temperature=2.0, variant=variant).eval(), random_batch(4)
    sasrec = SASRec(50, 6, size=8).eval()
    sasrec.load_state_dict({name: value for name, value in model.state_dict().items() if name != "mask_D"})
    torch.manual_seed(1)
    views = model._encoded(model._views(batch))
    terms = []
    for one, anchor in enumerate(views):
        similar = [math.exp(float(anchor @ other) / 2) for number, other in enumerate(views) if number != one]
        twin = math.exp(float(anchor @ views[(one + 4) % 8]) / 2)
        terms.append(-math.log(twin / sum(similar)))
    torch.manual_seed(1)
    expected = sasrec.loss(batch).item() + 0.5 * sum(terms) / 8
    assert model.loss(batch).item() == pytest.approx(expected, rel=1e-4)


@EACH_VARIANT
def test_without_contrast_it_is_sasrec(variant: str) -> None:
    model, batch = make(contrast=0.0, variant=variant).eval(), random_batch(9)
    sasrec = SASRec(50, 6, size=8).eval()
    sasrec.load_state_dict({name: value for name, value in model.state_dict().items() if name != "mask_D"})
    assert torch.equal(model.loss(batch), sasrec.loss(batch))
    assert torch.equal(model.rank_scores(batch), sasrec.rank_scores(batch))


def drawn(variant: str, rows: int = 900) -> list[list[list[int]]]:
    """Both views of histories 1 … 6; crops keep three items, masks hide three, new orders are of all six."""
    model = make(crop_share=0.5, mask_share=0.5, reorder_share=1.0, variant=variant)
    history_BL = torch.arange(1, 7, dtype=torch.int32).repeat(rows, 1)
    views = model._views(SequenceBatch(history_BL, torch.full((rows,), 6), torch.ones(rows, dtype=torch.int32)))
    items = [row[:length] for row, length in zip(views.history_BL.tolist(), views.length_B.tolist(), strict=True)]
    return [list(pair) for pair in zip(items[:rows], items[rows:], strict=True)]


def kind(before: list[int], after: list[int]) -> str:
    """Which change made the one out of the other, every part of it checked."""
    if len(after) < len(before):
        assert after in [before[start : start + 3] for start in range(4)]
        return "crop"
    if after.count(0) > before.count(0):
        assert all(new in (0, old) for old, new in zip(before, after, strict=True))
        return "mask"
    assert sorted(after) == sorted(before)
    return "reorder"


KINDS = "crop", "mask", "reorder"


def test_each_view_draws_its_change_from_the_history() -> None:
    history = list(range(1, 7))
    found = Counter(tuple(kind(history, view) for view in views) for views in drawn("paper"))
    assert set(found) == set(product(KINDS, repeat=2))
    assert min(found.values()) > 60 and max(found.values()) < 140  # 100 are expected


def test_released_views_differ_in_kind_and_the_second_starts_from_what_the_first_left() -> None:
    history, found = list(range(1, 7)), Counter[tuple[str, str]]()
    for first, second in drawn("released"):
        made = kind(history, first)
        left = history if made == "crop" else first
        found[made, kind(left, second)] += 1
    assert set(found) == set(permutations(KINDS, 2))
    assert min(found.values()) > 110 and max(found.values()) < 190  # 150 are expected


@EACH_VARIANT
def test_shares_are_those_of_the_program_and_leave_one_item_alone(variant: str) -> None:
    model = make(variant=variant)
    assert (*model.shares, model.temperature, model.contrast) == (0.6, 0.3, 0.6, 1.0, 0.1)
    batch = random_batch(200)
    one = SequenceBatch(batch.history_BL * (torch.arange(6) < 1).int(), torch.ones_like(batch.length_B), batch.target_B)
    views = model._views(one)
    assert torch.equal(views.history_BL, one.history_BL.repeat(2, 1))
    assert torch.equal(views.length_B, one.length_B.repeat(2))


def test_released_items_that_are_scored_are_trained() -> None:
    model, batch = make(variant="released"), random_batch(9)
    model.loss(batch).backward()
    seen = {*batch.history_BL.flatten().tolist(), *batch.target_B.tolist()}
    unseen = [item - 1 for item in range(1, 51) if item not in seen]
    assert unseen and model.embedding.weight.grad is not None
    assert bool(model.embedding.weight.grad.to_dense()[unseen].any(1).all())


def test_masked_items_are_the_learned_vector_and_padding_is_nothing() -> None:
    model, batch = make().eval(), random_batch(2)
    masked = type(batch)(torch.tensor([[3, 0, 5, 0, 0, 0]]), torch.tensor([3]), batch.target_B[:1])
    before_BD = model._encoded(masked)
    with torch.no_grad():
        model.mask_D += 1
    assert not torch.allclose(model._encoded(masked), before_BD)
    whole = type(batch)(torch.tensor([[3, 4, 5, 0, 0, 0]]), torch.tensor([3]), batch.target_B[:1])
    torch.testing.assert_close(model._encoded(whole), model.encoder(model.embedding.histories(whole), whole.length_B))


@EACH_VARIANT
def test_one_history_has_nothing_to_contrast_with(variant: str) -> None:
    model, batch = make(contrast=3.0, variant=variant).eval(), random_batch(1)
    assert model._contrastive_loss(batch).item() == 0


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_that_"))
def test_released_conformance(check: Callable[[Build], None]) -> None:
    check(lambda items, length: CL4SRec(items, length, size=16, variant="released"))
