"""The conformance suite of next-item methods finds what it is there to find."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trainables.base import NextItemModel, NextItemRanker, SequenceBatch, SequenceSource
from trainables.next_item import conformance
from trainables.next_item.conformance import CHECKS, RANKING_CHECKS, Build, BuildRanker
from trainables.next_item.popularity import Popularity
from trainables.next_item.sasrec import SASRec


class Faultless(SASRec):
    def __init__(self, items: int, history_length: int) -> None:
        super().__init__(items, history_length, size=8)


class SumsPadding(Faultless):
    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        return super().rank_scores(batch) + batch.history_BL.sum(1, keepdim=True)


class MixesRows(Faultless):
    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        scores_BI = super().rank_scores(batch)
        return scores_BI - scores_BI[:1]


class LooksAtTargets(Faultless):
    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        return super().rank_scores(batch).scatter_add(1, batch.target_B.long()[:, None] - 1, torch.ones(len(batch), 1))


class WritesToTheBatch(Faultless):
    def loss(self, batch: SequenceBatch) -> Tensor:
        batch.history_BL.clamp_(min=1)
        return super().loss(batch)


class IgnoresTheSeed(Faultless):
    def __init__(self, items: int, history_length: int) -> None:
        super().__init__(items, history_length)
        for number, parameter in enumerate(self.parameters()):
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(number))

    def loss(self, batch: SequenceBatch) -> Tensor:
        return sum((parameter.square().sum() for parameter in self.parameters()), torch.zeros(()))


class Unrepeatable(Faultless):
    calls = 0

    def loss(self, batch: SequenceBatch) -> Tensor:
        Unrepeatable.calls += 1
        return super().loss(batch) * Unrepeatable.calls


class HidesState(Faultless):
    def prepare(self, train: object) -> None:
        self.offset_I = torch.randn(self.embedding.weight.shape[0])

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        return super().rank_scores(batch) + getattr(self, "offset_I", 0)


class CountsOutsideItsState(Faultless):
    losses = 0

    def loss(self, batch: SequenceBatch) -> Tensor:
        self.losses += 1
        return super().loss(batch) * self.losses


class DeadParameter(Faultless):
    def __init__(self, items: int, history_length: int) -> None:
        super().__init__(items, history_length)
        self.unused = nn.Parameter(torch.randn(3))


class LossOfRows(Faultless):
    def loss(self, batch: SequenceBatch) -> Tensor:
        return super().loss(batch).repeat(len(batch))


class OneScoreTooMany(Faultless):
    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        return nn.functional.pad(super().rank_scores(batch), (1, 0))


class KnowsSeenItemsOnly(Faultless):
    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        return super().rank_scores(batch).masked_fill((batch.history_BL > conformance.SEEN).any(1)[:, None], torch.nan)


class DividesByTheStep(Faultless):
    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        return super().rank_scores(batch) * (batch.length_B - 1)[:, None] / (batch.length_B - 1)[:, None]


class StopsAtTwenty(Faultless):
    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        return super().rank_scores(batch).masked_fill((batch.length_B > 20)[:, None], torch.nan)


class WithUsers(Faultless):
    def __init__(self, items: int, history_length: int) -> None:
        super().__init__(items, history_length)
        self.user = nn.Embedding(conformance.USERS, 8)

    def users(self, batch: SequenceBatch) -> Tensor:
        assert batch.user_B is not None
        return batch.user_B.long()

    def loss(self, batch: SequenceBatch) -> Tensor:
        return super().loss(batch) + self.user(self.users(batch)).square().mean()

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        return super().rank_scores(batch) + self.user(self.users(batch)) @ self.embedding.weight.T


class TakesPlacesForUsers(WithUsers):
    def users(self, batch: SequenceBatch) -> Tensor:
        return torch.arange(len(batch))


class WritesToUsers(WithUsers):
    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        assert batch.user_B is not None
        batch.user_B.fill_(0)
        return super().rank_scores(batch)


class UsesUsersUntold(WithUsers):
    def users(self, batch: SequenceBatch) -> Tensor:
        return torch.zeros(len(batch), dtype=torch.int64) if batch.user_B is None else super().users(batch)


class RanksByTargets(Popularity):
    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        return super().rank_scores(batch) + batch.target_B[:, None]


class CountsAnew(Popularity):
    prepared = 0

    def prepare(self, train: SequenceSource) -> None:
        super().prepare(train)
        CountsAnew.prepared += 1
        self.count_I += CountsAnew.prepared


RANKING_FAULTS: list[tuple[type[NextItemRanker], Callable[[BuildRanker], None], str]] = [
    (RanksByTargets, conformance.check_that_targets_are_not_looked_at, "scores changed with the targets"),
    (CountsAnew, conformance.check_that_a_seed_decides_the_scores, "the same seed gave other scores"),
]
FAULTS: list[tuple[type[NextItemModel], Callable[[Build], None], str]] = [
    (SumsPadding, conformance.check_that_padding_does_not_leak, "scores changed with ids beyond"),
    (MixesRows, conformance.check_that_scores_follow_the_batch, "permuted histories have other scores"),
    (LooksAtTargets, conformance.check_that_targets_are_not_looked_at, "scores changed with the targets"),
    (WritesToTheBatch, conformance.check_that_targets_are_not_looked_at, "history_BL of the batch was written to"),
    (TakesPlacesForUsers, conformance.check_that_scores_follow_the_batch, "permuted histories have other scores"),
    (WritesToUsers, conformance.check_that_targets_are_not_looked_at, "user_B of the batch was written to"),
    (UsesUsersUntold, conformance.check_that_users_it_does_not_know_are_left_alone, "changed the scores"),
    (IgnoresTheSeed, conformance.check_that_a_seed_decides_the_result, "another seed gave the same"),
    (Unrepeatable, conformance.check_that_a_seed_decides_the_result, "the same seed gave another result"),
    (HidesState, conformance.check_that_a_state_holds_everything, "a loaded state gave other scores"),
    (CountsOutsideItsState, conformance.check_that_training_goes_on_from_a_state, "went on from a state gave another"),
    (DeadParameter, conformance.check_that_training_reaches_every_parameter, "left unused as it was"),
    (LossOfRows, conformance.check_that_training_reaches_every_parameter, r"loss returned \(16,\), not a scalar"),
    (OneScoreTooMany, conformance.check_that_scores_have_their_shape, r"\(1, 41\), not \(1, 40\)"),
    (KnowsSeenItemsOnly, conformance.check_that_items_not_in_training_rank, "not a number"),
    (DividesByTheStep, conformance.check_that_a_history_of_one_item_is_enough, "1 histories of one item in 1 pos"),
    (StopsAtTwenty, conformance.check_that_a_history_of_fifty_fits, "scores of histories of 50: not a number"),
]


@pytest.mark.parametrize(("cls", "check", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_faulty_method_fails(cls: type[NextItemModel], check: Callable[[Build], None], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(cls)


@pytest.mark.parametrize(("cls", "check", "message"), RANKING_FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_faulty_ranker_fails(cls: type[NextItemRanker], check: Callable[[BuildRanker], None], message: str) -> None:
    assert check in RANKING_CHECKS
    with pytest.raises(AssertionError, match=message):
        check(cls)


@pytest.mark.parametrize("check", [*CHECKS, conformance.check_that_users_it_does_not_know_are_left_alone])
def test_a_faultless_method_passes(check: Callable[[Build], None]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    check(Faultless)
    assert torch.equal(torch.rand(()), expected)  # the global generator is left alone


@pytest.mark.parametrize("check", CHECKS)
def test_a_faultless_method_with_users_passes(check: Callable[[Build], None]) -> None:
    check(WithUsers)


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_noise_is_the_same_in_every_row(rows: int) -> None:
    with conformance.SameNoiseInEveryRow():
        draws = torch.randn(rows, 5), torch.rand(rows, 4, 1), torch.randn_like(torch.zeros(rows, 3, 2))
        kept = nn.functional.dropout(torch.arange(12.0).view(3, 4), 0.5, training=False)
    for draw in draws:
        assert torch.equal(draw, draw[:1].expand_as(draw))
        assert len(draw[0].unique()) == draw[0].numel()
    with conformance.SameNoiseInEveryRow():
        assert torch.equal(torch.randn(4, 5)[0], draws[0][0])
    assert torch.equal(kept, torch.arange(12.0).view(3, 4))
