"""Item-KNN and the nearest text against sums over pairs of items, one after the other."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.next_item.sequence_batches import random_batch, select
from tests.trainables.next_item.text_models import random_text
from trainables.base import SequenceBatch
from trainables.next_item.conformance import SequencesInMemory
from trainables.next_item.item_knn import ItemKNN
from trainables.next_item.nearest_items import NearestItems
from trainables.next_item.nearest_text import NearestText

TRAIN = random_batch(9000, seed=1)
RANKERS: dict[str, Any] = {
    "item_knn": ItemKNN,
    "nearest_text": lambda items, length, **given: NearestText(items, length, random_text(items), **given),
}


def ranker(name: str, *, items: int = 50, length: int = 6, train: SequenceBatch = TRAIN, **given: Any) -> NearestItems:
    made: NearestItems = RANKERS[name](items, length, **given)
    made.prepare(SequencesInMemory(train))
    return made.eval()


def taken(batch: SequenceBatch, row: int) -> list[int]:
    return [int(item) for item in batch.history_BL[row, : int(batch.length_B[row])]]


def similarity_of_users(train: SequenceBatch, items: int) -> Tensor:
    users: list[set[int]] = [set() for _ in range(items + 1)]
    for row in range(len(train)):
        for item in [*taken(train, row), int(train.target_B[row])]:
            users[item].add(row)
    similarity = torch.zeros(items + 1, items + 1)
    for one in range(1, items + 1):
        for other in range(1, items + 1):
            if users[one] and users[other]:
                shared = len(users[one] & users[other])
                similarity[one, other] = shared / math.sqrt(len(users[one]) * len(users[other]))
    return similarity


def similarity_of_text(items: int) -> Tensor:
    similarity, text_IE = torch.zeros(items + 1, items + 1), random_text(items)
    similarity[1:, 1:] = torch.nn.functional.cosine_similarity(text_IE[:, None], text_IE[None], dim=-1)
    return similarity


@torch.inference_mode()
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", RANKERS)
def test_scores_are_weighted_sums_of_similarities(name: str, decay: float) -> None:
    train, batch = random_batch(60, seed=1), random_batch(8)
    similarity = similarity_of_users(train, 50) if name == "item_knn" else similarity_of_text(50)
    scores_BI = ranker(name, train=train, decay=decay).rank_scores(batch)
    for row in range(len(batch)):
        history = taken(batch, row)
        for item in range(1, 51):
            found = float(scores_BI[row, item - 1])
            if item in history:
                assert found == -math.inf
                continue
            weights = [decay ** (len(history) - 1 - position) for position in range(len(history))]
            expected = sum(w * float(similarity[item, other]) for w, other in zip(weights, history, strict=True))
            assert found == pytest.approx(expected, abs=1e-5)


def test_whitened_text_ranks_otherwise() -> None:
    batch = random_batch(8)
    plain, white = (
        ranker("nearest_text", whitening=whitening).rank_scores(batch).argsort() for whitening in ("none", "zca")
    )
    assert not torch.equal(plain, white)


@pytest.mark.parametrize("name", RANKERS)
def test_padding_targets_and_other_rows_have_no_influence(name: str) -> None:
    model, batch = ranker(name), random_batch(9)
    padded_BL = torch.arange(6) >= batch.length_B[:, None]
    other = SequenceBatch(torch.where(padded_BL, 7, batch.history_BL), batch.length_B, batch.target_B.flip(0))
    scores_BI = model.rank_scores(batch)
    torch.testing.assert_close(model.rank_scores(other), scores_BI)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.rank_scores(select(batch, order)), scores_BI[order])
    torch.testing.assert_close(model.rank_scores(select(batch, order[:1])), scores_BI[order[:1]])


@pytest.mark.parametrize("length", [1, 50])
@pytest.mark.parametrize("name", RANKERS)
def test_any_history_and_items_not_in_training_rank(name: str, length: int) -> None:
    model = ranker(name, items=60, length=length)
    scores_BI = model.rank_scores(random_batch(4, items=60, history_length=length))
    assert scores_BI.shape == (4, 60)
    assert not bool(scores_BI.isnan().any())
    unseen = torch.tensor([[55] * length], dtype=torch.int32)
    only = SequenceBatch(unseen, torch.tensor([length], dtype=torch.int32), torch.tensor([1], dtype=torch.int32))
    assert bool(model.rank_scores(only)[0, 54] == -torch.inf)
