"""What the task `next_item` tells a method of its users, and when it tells it none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.harness.leave_one_out import USERS, favourites, leave_one_out_contents, written
from tests.harness.tasks.next_item_runs import SMALL, run, sequences
from trainables.base import SequenceBatch
from trainables.next_item.caser import Caser
from trainables.next_item.hgn import HGN
from trainables.next_item.sasrec import SASRec


class Told(SASRec):
    """Remembers what it is told of users, when it is built and by batches."""

    built: int | None
    trained: list[Tensor | None]
    ranked: list[Tensor | None]

    def __init__(self, items: int, history_length: int, users: int | None = -1, **parameters: Any) -> None:
        super().__init__(items, history_length, **parameters)
        Told.built, Told.trained, Told.ranked = users, [], []

    def loss(self, batch: SequenceBatch) -> Tensor:
        Told.trained.append(batch.user_B)
        return super().loss(batch)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        Told.ranked.append(batch.user_B)
        return super().rank_scores(batch)


@pytest.mark.parametrize("prefixes", [False, True])
def test_a_method_that_takes_users_is_told_them_where_all_are_in_training(prefixes: bool, tmp_path: Path) -> None:
    shared = written(leave_one_out_contents(), tmp_path / "small")
    run(shared, Told, SMALL[SASRec], maximum_epochs=1, prefixes=prefixes)
    assert Told.built == USERS
    trained = [user for part in Told.trained if part is not None for user in part.tolist()]
    assert set(trained) == set(range(USERS)) and (len(trained) > USERS) == prefixes
    assert [None if part is None else part.tolist() for part in Told.ranked] == [list(range(USERS))] * 3
    assert run(shared, SASRec, SMALL[SASRec], maximum_epochs=1).metrics["epochs"] == 1, "others are not given them"


def test_users_that_are_split_or_those_of_other_data_are_not_told(tmp_path: Path) -> None:
    split = sequences(tmp_path / "split")
    shared = written(leave_one_out_contents(), tmp_path / "small")
    start = SASRec(shared.schema.items, shared.schema.history_length, **SMALL[SASRec]).state_dict()
    for settings in ({"dataset": split}, {"dataset": shared, "start": start, "starts_elsewhere": True}):
        run(method=Told, parameters=SMALL[SASRec], maximum_epochs=1, train=True, **settings)  # type: ignore[arg-type]
        assert Told.built is None
        assert Told.trained and Told.ranked and not any(part is not None for part in Told.trained + Told.ranked)


@pytest.mark.parametrize("method", [Caser, HGN])
def test_what_a_user_likes_is_learned_where_users_are_told(method: type[Any], tmp_path: Path) -> None:
    """The training histories are all the same."""
    shared = written(leave_one_out_contents(favourites()), tmp_path / "small")
    parameters = {"size": 16, "learning_rate": 0.05, "dropout": 0.0}
    settings = {"maximum_epochs": 60, "validate_every": 20, "patience": 100}
    told, untold = (run(shared, method, parameters, starts_elsewhere=other, **settings) for other in (False, True))
    assert told.metrics["test/recall@5"] > 0.9
    assert untold.metrics["test/recall@5"] < 0.5
