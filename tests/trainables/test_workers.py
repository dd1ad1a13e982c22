"""Two workers that share each batch against one that has all of it.

Legend: B rows of a batch, N rows of one worker, H channels.
"""

from __future__ import annotations

import datetime

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from tests.trainables.small_rows import FIELDS, small_rows
from tests.trainables.two_processes import found_by_two
from trainables.base import CtrBatch
from trainables.cold_start.bare import BareBackbone
from trainables.cold_start.meta_embedding import MetaEmbedding
from trainables.ctr.deepfm import DeepFM
from trainables.rowwise_adam import EmbeddingUpdates
from trainables.workers import BatchNorm, backward, from_first, gathered, rank, summed, workers

STEPS, SPLIT = 4, 10
"""Batches of 32 rows, of which the first worker has 10."""

UPDATES: tuple[EmbeddingUpdates, ...] = ("all_rows", "touched_rows")


def part(batch: CtrBatch) -> CtrBatch:
    """Return this worker's rows of a batch."""
    if workers() == 1:
        return batch
    rows = slice(0, SPLIT) if rank() == 0 else slice(SPLIT, None)
    return CtrBatch({name: column[rows] for name, column in batch.columns.items()}, batch.label_B[rows])


def trained(updates: EmbeddingUpdates) -> dict[str, Tensor]:
    torch.manual_seed(0)
    method = BareBackbone(DeepFM(FIELDS, dropout=0.0), embedding_updates=updates)
    method.train()
    parameters = list(method.backbone.parameters())
    optimizer = method.optimizer(parameters, 1e-2)
    for batch in small_rows(32 * STEPS).batches(32, shuffle_seed=1):
        optimizer.zero_grad()
        own = part(batch)
        backward(method.ctr_loss(own)["loss"], len(own), parameters)
        optimizer.step()
    # Biases before a BatchNorm have no gradient but rounding, of which Adam makes steps; batch means follow them.
    kept = ("embeddings", "weight", "linear", "vector", "running_var")
    state = method.state_dict()
    return {name: value.clone() for name, value in state.items() if any(part in name for part in kept)}


def second_derivative() -> Tensor:
    """Return the gradient of a loss that is itself made of gradients, through BatchNorm."""
    torch.manual_seed(0)
    method = MetaEmbedding(DeepFM(FIELDS, dropout=0.0), variant="released", cold_loss_weight=0.5)
    method.train()
    batch = part(next(small_rows(32).batches(32)))
    item_BD = method.backbone.item_embedding.detach()[batch.columns["item_id"].long()].requires_grad_()
    (gradient_BD,) = torch.autograd.grad(method._loss(batch, item_BD).sum(), item_BD, create_graph=True)
    (found_BD,) = torch.autograd.grad(gradient_BD.square().sum(), item_BD)
    return gathered(found_BD)


def some_absent() -> list[list[float] | None]:
    """Return the summed gradients of three parameters: of both workers, of the first alone, and of none."""
    both, first, none = (nn.Parameter(torch.ones(2)) for _ in range(3))
    loss = both.sum() + (first.sum() if rank() == 0 else 0.0)
    backward(loss, 1, [both, first, none])
    return [None if one.grad is None else one.grad.tolist() for one in (both, first, none)]


def work(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", rank=number, world_size=2, timeout=datetime.timedelta(seconds=120)
    )
    found = {updates: trained(updates) for updates in UPDATES}
    rows_N = torch.arange(3.0 + number) + 10 * number
    more = {
        "second": second_derivative(),
        "absent": some_absent(),
        "gathered": gathered(rows_N).tolist(),
        "empty": gathered(rows_N[:0]).tolist(),
        "summed": float(summed(torch.tensor(1.0 + number))),
        "first": from_first(7 + number),
    }
    torch.save({**found, **more}, f"{folder}/{number}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    return found_by_two(work, tmp_path_factory.mktemp("workers"))


@pytest.mark.parametrize("updates", UPDATES)
def test_two_workers_learn_what_one_learns(of_two: list[dict[str, object]], updates: EmbeddingUpdates) -> None:
    alone = trained(updates)
    for found in of_two:
        state = found[updates]
        assert isinstance(state, dict)
        for name, value in alone.items():
            torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("updates", UPDATES)
def test_workers_hold_the_same_parameters_bit_for_bit(
    of_two: list[dict[str, object]], updates: EmbeddingUpdates
) -> None:
    first, second = (found[updates] for found in of_two)
    assert isinstance(first, dict) and isinstance(second, dict)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_gradients_of_gradients_go_through_the_common_statistics(of_two: list[dict[str, object]]) -> None:
    second = of_two[0]["second"]
    assert isinstance(second, Tensor)
    torch.testing.assert_close(second, second_derivative(), rtol=1e-3, atol=1e-6)


def test_rows_of_all_workers_are_put_together(of_two: list[dict[str, object]]) -> None:
    for found in of_two:
        assert found["gathered"] == [0.0, 1.0, 2.0, 10.0, 11.0, 12.0, 13.0]
        assert found["empty"] == []
        assert found["summed"] == 3.0
        assert found["first"] == 7


def test_a_gradient_that_no_worker_has_stays_absent(of_two: list[dict[str, object]]) -> None:
    for found in of_two:
        assert found["absent"] == [[1.0, 1.0], [0.5, 0.5], None]


def test_a_single_worker_computes_as_torch_does() -> None:
    x_BH = torch.randn(16, 5, generator=torch.Generator().manual_seed(3))
    own, torchs = BatchNorm(5), nn.BatchNorm1d(5)
    assert torch.equal(own(x_BH), torchs(x_BH))
    assert all(torch.equal(value, torchs.state_dict()[name]) for name, value in own.state_dict().items())
    assert (workers(), rank(), from_first(4)) == (1, 0, 4)
    assert gathered(x_BH) is x_BH and summed(x_BH) is x_BH
