"""How the task `next_item` trains: epochs, what they log, and when they end."""

import pytest
import torch
from torch import Tensor, nn

from harness.datasets.prepared import PreparedDataset
from tests.harness.tasks.next_item_runs import SMALL, run, sequences
from trainables.base import NextItemModel, SequenceBatch
from trainables.next_item.sasrec import SASRec


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return sequences(tmp_path_factory.mktemp("data"))


class Scripted(NextItemModel):
    """Puts the target among the first five in a given share of the rows, one share an epoch."""

    shares: tuple[float, ...] = (0.2, 0.6, 0.4, 0.6, 0.1, 0.1, 0.9)

    def __init__(self, items: int, history_length: int) -> None:
        super().__init__()
        self.items = items
        self.epoch = nn.Parameter(torch.tensor(-1.0))

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def loss(self, batch: SequenceBatch) -> Tensor:
        return -self.epoch  # each step raises the epoch by one

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        share = self.shares[int(self.epoch.item())]
        hit_B = torch.arange(len(batch)) < share * len(batch)
        scores_BI = torch.zeros(len(batch), self.items)
        return scores_BI.scatter_(1, batch.target_B.long()[:, None] - 1, torch.where(hit_B, 1.0, -1.0)[:, None])


def test_early_stopping_returns_to_the_first_best_epoch(dataset: PreparedDataset) -> None:
    """Recall 0.2, 0.6, 0.4, 0.6, 0.1: an equal value is no improvement, and patience 3 ends before the 0.9."""
    outcome = run(dataset, Scripted, batch_size=1000, maximum_epochs=7, patience=3)
    assert (outcome.metrics["epochs"], outcome.metrics["best_epoch"]) == (5, 2)
    assert outcome.metrics["validation/recall@5"] == pytest.approx(0.6)
    assert outcome.metrics["test/recall@5"] == pytest.approx(0.6)
    assert outcome.checkpoint == {"epoch": torch.tensor(1.0)}


class Noted(Scripted):
    """Remembers in what mode it was trained, a draw of torch's generator, and the order of the targets."""

    taken: list[tuple[bool, float, list[int]]]

    def loss(self, batch: SequenceBatch) -> Tensor:
        Noted.taken.append((self.training, float(torch.rand(())), batch.target_B.tolist()))
        return super().loss(batch)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        assert not self.training
        return super().rank_scores(batch)


def test_every_epoch_trains_in_training_mode_in_an_order_and_with_noise_of_its_own(dataset: PreparedDataset) -> None:
    Noted.taken = []
    run(dataset, Noted, batch_size=1000, maximum_epochs=3)
    modes, draws, orders = zip(*Noted.taken, strict=True)
    assert modes == (True, True, True)
    assert len(set(draws)) == 3
    assert len({tuple(order) for order in orders}) == 3
    assert len({tuple(sorted(order)) for order in orders}) == 1


def test_an_epochs_loss_is_the_mean_over_its_examples(dataset: PreparedDataset) -> None:
    """Batches of 100, 100 and 40 rows have losses of 1, 0 and -1."""
    losses: list[float] = []

    def log(name: str, value: float, step: int) -> None:
        if name == "train/loss":
            losses.append(value)

    run(dataset, Scripted, batch_size=100, maximum_epochs=1, log=log)
    assert losses == [pytest.approx((100 - 40) / 240)]


def test_maximum_epochs_end_training(dataset: PreparedDataset) -> None:
    outcome = run(dataset, Scripted, batch_size=1000, maximum_epochs=7, patience=100)
    assert (outcome.metrics["epochs"], outcome.metrics["best_epoch"]) == (7, 7)
    outcome = run(dataset, Scripted, batch_size=1000, maximum_epochs=3, patience=100, validate_every=2)
    assert (outcome.metrics["epochs"], outcome.metrics["best_epoch"]) == (3, 2)


def test_curves(dataset: PreparedDataset) -> None:
    points: list[tuple[str, int]] = []
    run(dataset, SASRec, SMALL[SASRec], maximum_epochs=2, log=lambda name, value, step: points.append((name, step)))
    names = ["train/loss", "train/learning_rate", "train/examples_per_second"]
    names += [f"validation/{metric}@{k}" for k in (5, 10) for metric in ("recall", "ndcg")]
    whole = [(name, step) for step in (4, 8) for name in names]  # 240 examples in batches of 64
    assert points == [*whole, ("test/inference_s", 0)]


class Exploding(SASRec):
    def loss(self, batch: SequenceBatch) -> Tensor:
        return super().loss(batch) * torch.inf


def test_a_loss_that_is_not_finite_ends_the_trial(dataset: PreparedDataset) -> None:
    with pytest.raises(FloatingPointError, match=r"training loss is inf in epoch 1, step 1; lower learning_rate"):
        run(dataset, Exploding, SMALL[SASRec])
