import math

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from harness.metrics import ranking
from harness.metrics.ranking import ndcg_at, ndcg_by_user, ranks, recall_at, recall_by_user

NAN = float("nan")


def rank_by_double_loop(scores, target):
    own = scores[target - 1]
    before = 0
    for item, score in enumerate(scores, start=1):
        before += item != target and (math.isnan(own) or math.isnan(score) or score >= own)
    return before + 1


def test_by_hand():
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]])
    assert ranks(scores, torch.tensor([2, 3])).tolist() == [1, 3]


def test_ties_rank_before_the_target():
    assert ranks(torch.zeros(1, 5), torch.tensor([1])).tolist() == [5]
    assert ranks(torch.tensor([[2.0, 1.0, 1.0, 0.0]]), torch.tensor([2])).tolist() == [3]


def test_nan_never_helps():
    assert ranks(torch.tensor([[NAN, 5.0, 1.0]]), torch.tensor([2])).tolist() == [2]
    assert ranks(torch.tensor([[NAN, 5.0, 1.0]]), torch.tensor([1])).tolist() == [3]


def test_matches_a_double_loop():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 6, (40, 13), generator=generator).float()
    scores[torch.rand(40, 13, generator=generator) < 0.1] = NAN
    target = torch.randint(1, 14, (40,), generator=generator)
    expected = [rank_by_double_loop(row.tolist(), int(t)) for row, t in zip(scores, target, strict=True)]
    result = ranks(scores, target)
    assert result.dtype == torch.int64
    assert result.tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_many_rows_are_counted_in_parts(monkeypatch, dtype):
    monkeypatch.setattr(ranking, "BUFFER_ELEMENTS", 50)
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(23, 17, generator=generator).to(dtype)
    target = torch.randint(1, 18, (23,), generator=generator)
    order = scores.sort(dim=1, descending=True).indices + 1
    first = (order == target.unsqueeze(1)).int().argmax(dim=1) + 1
    tied = (scores == scores.gather(1, target.unsqueeze(1) - 1)).sum(dim=1)
    result = ranks(scores, target)
    assert (result[tied == 1] == first[tied == 1]).all()
    assert (tied == 1).sum() > 10


def test_scores_that_take_gradients_can_be_ranked():
    scores = torch.tensor([[0.1, 0.9, 0.5]], requires_grad=True)
    assert ranks(scores, torch.tensor([3])).tolist() == [2]


def test_int32_targets_and_no_histories():
    assert ranks(torch.tensor([[1.0, 2.0]]), torch.tensor([1], dtype=torch.int32)).tolist() == [2]
    assert ranks(torch.empty(0, 4), torch.empty(0, dtype=torch.int64)).shape == (0,)


@pytest.mark.parametrize("target", [0, 4, -1])
def test_a_target_that_is_no_item_is_refused(target):
    with pytest.raises(ValueError, match="item ids from 1 to 3"):
        ranks(torch.zeros(2, 3), torch.tensor([1, target]))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"must be \[B, I\] and \[B\]"):
        ranks(torch.zeros(2, 3), torch.tensor([1]))


def test_recall_and_ndcg_by_hand():
    rank = torch.tensor([1, 2, 3, 7])
    assert recall_at(rank, 2) == 0.5
    assert recall_by_user(rank, 3).tolist() == [1, 1, 1, 0]
    # 1 / log2(2) = 1 and 1 / log2(4) = 1/2.
    assert ndcg_by_user(torch.tensor([1, 3, 4]), 3).tolist() == [1, 0.5, 0]
    assert ndcg_at(rank, 2) == pytest.approx((1 + 1 / math.log2(3)) / 4)


def test_ndcg_matches_scikit_learn():
    rng = np.random.default_rng(0)
    scores, target = rng.standard_normal((50, 20)), rng.integers(1, 21, 50)
    relevant = np.zeros_like(scores)
    relevant[np.arange(50), target - 1] = 1
    rank = ranks(torch.from_numpy(scores), torch.from_numpy(target))
    for k in (1, 5, 10):
        assert ndcg_at(rank, k) == pytest.approx(ndcg_score(relevant, scores, k=k))


def test_no_users_is_not_defined():
    empty = torch.empty(0, dtype=torch.int64)
    assert math.isnan(recall_at(empty, 5))
    assert math.isnan(ndcg_at(empty, 5))


@pytest.mark.parametrize("metric", [recall_at, ndcg_at])
def test_k_starts_at_one(metric):
    with pytest.raises(ValueError, match="at least 1"):
        metric(torch.tensor([1]), 0)
