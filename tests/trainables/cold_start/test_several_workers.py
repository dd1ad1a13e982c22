"""Two workers that share each batch compute the loss that one worker computes of all of it, and the same embeddings.

Legend: B rows of a batch, M items, D embedding size.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from tests.trainables.small_rows import FIELDS, SmallRows, item_table, small_rows
from tests.trainables.two_processes import found_by_two
from trainables.base import CtrBatch, FieldValues
from trainables.cold_start.csdm import CSDM
from trainables.cold_start.cvar import CVAR
from trainables.cold_start.dropoutnet import DropoutNet
from trainables.cold_start.generator import BackboneMode, EmbeddingGenerator
from trainables.cold_start.meta_embedding import MetaEmbedding
from trainables.cold_start.side_information import DescribedItems, Variant
from trainables.cold_start.training import training_only
from trainables.ctr.deepfm import DeepFM
from trainables.ctr.fm import FM
from trainables.workers import backward, rank, workers

SPLIT = 10
"""Of a batch of 32 rows, the first worker has these."""

BATCHES = 10
"""Of the pretraining."""

META: tuple[tuple[Variant, BackboneMode], ...] = (
    ("paper", "evaluation"),
    ("paper", "training"),
    ("released", "evaluation"),
    ("released", "training"),
)


def part(batch: CtrBatch) -> CtrBatch:
    """Return this worker's rows of a batch."""
    if workers() == 1:
        return batch
    rows = slice(0, SPLIT) if rank() == 0 else slice(SPLIT, None)
    return CtrBatch({name: column[rows] for name, column in batch.columns.items()}, batch.label_B[rows])


class SharedRows(SmallRows):
    """Rows of which a worker gets its part of every batch."""

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        return (part(batch) for batch in super().batches(batch_size, shuffle_seed=shuffle_seed, skip=skip))


class Watched(FM):
    """Remembers of each batch whether all of its rows had one item-ID embedding."""

    def interact(self, values: FieldValues) -> Tensor:
        item_BD = values.embedded_BFD[:, values.item_field].detach()
        self.__dict__.setdefault("alike", []).append(bool((item_BD == item_BD[0]).all()))
        return super().interact(values)


def spread(method: torch.nn.Module) -> None:
    """Move all parameters away from ±0.01, where all outputs are alike, the same way at all workers."""
    torch.manual_seed(1)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


def gradients_of_cvar() -> dict[str, Tensor]:
    torch.manual_seed(0)
    method = CVAR(DeepFM(FIELDS, dropout=0.0), latent_noise=0.0, alignment_weight=0.1)
    spread(method)
    batch = part(next(small_rows(32).batches(32)))
    parameters = method._generator_parameters()
    with training_only(method, parameters):
        method._gradients(method._prepare(item_table(), batch))
        return gradients_of(method)


def gradients_of_meta_embedding(
    variant: Variant, backbone_mode: BackboneMode, inner_learning_rate: float = 20.0
) -> dict[str, Tensor]:
    torch.manual_seed(0)
    method = MetaEmbedding(DeepFM(FIELDS, dropout=0.0), variant=variant, inner_learning_rate=inner_learning_rate)
    spread(method)
    method.backbone.train(backbone_mode == "training")
    cold, warm = (part(rows.batch) for rows in small_rows(160).item_quarters(seed=0)[:2])
    parameters = list(method.generator.parameters())
    side = DescribedItems(method.backbone, method.side, item_table(), torch.arange(12))
    with training_only(method, parameters):
        losses = method._losses(side, cold, warm)
        backward(torch.stack(list(losses.values())).sum(), len(cold), parameters)
        return gradients_of(method)


def gradients_of(method: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def dropped_batches() -> list[bool]:
    """Return which batches of a pretraining took the mean embedding; each worker draws its own random numbers."""
    torch.manual_seed(0)
    method = DropoutNet(Watched(FIELDS), drop_probability=0.5, batch_size=32)
    rows = small_rows(32 * BATCHES)
    torch.manual_seed(100 + rank())
    method.pretrain(SharedRows(rows.batch, rows.items), seed=0)
    return cast(list[bool], method.backbone.__dict__["alike"])


def generated(method: type[EmbeddingGenerator], **parameters: Any) -> Tensor:
    """Return embeddings [M, D] that are drawn at random, by each worker from its own random numbers."""
    torch.manual_seed(0)
    built = method(DeepFM(FIELDS), **parameters)
    spread(built)
    torch.manual_seed(100 + rank())
    return built.generate(item_table(), torch.arange(12))


def found_here() -> dict[str, Any]:
    meta = {f"{variant}, {mode}": gradients_of_meta_embedding(variant, mode) for variant, mode in META}
    return meta | {
        "cvar": gradients_of_cvar(),
        "dropped": dropped_batches(),
        "csdm": generated(CSDM),
        "noisy cvar": generated(CVAR, latent_noise=1.0),
    }


def work(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", rank=number, world_size=2, timeout=datetime.timedelta(seconds=120)
    )
    torch.save(found_here(), f"{folder}/{number}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return found_by_two(work, tmp_path_factory.mktemp("workers"))


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return found_here()


@pytest.mark.parametrize("name", ["cvar", *(f"{variant}, {mode}" for variant, mode in META)])
def test_two_workers_gradients_are_those_of_one(of_two: list[dict[str, Any]], alone: dict[str, Any], name: str) -> None:
    for found in of_two:
        assert found[name].keys() == alone[name].keys()
        for parameter, gradient in alone[name].items():
            scale = float(gradient.abs().max())
            torch.testing.assert_close(found[name][parameter], gradient, rtol=1e-3, atol=1e-4 * scale)


def test_a_whole_batch_is_dropped_whichever_worker_has_its_rows(
    of_two: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    assert 0 < sum(alone["dropped"]) < BATCHES == len(alone["dropped"])
    assert [found["dropped"] for found in of_two] == [alone["dropped"]] * 2


@pytest.mark.parametrize("name", ["csdm", "noisy cvar"])
def test_generated_embeddings_are_the_first_worker_s(
    of_two: list[dict[str, Any]], alone: dict[str, Any], name: str
) -> None:
    for found in of_two:
        assert torch.equal(found[name], alone[name])


@pytest.mark.parametrize(("variant", "mode"), META)
def test_the_inner_step_weighs_in_the_gradients_that_are_compared(
    alone: dict[str, Any], variant: Variant, mode: BackboneMode
) -> None:
    without = gradients_of_meta_embedding(variant, mode, inner_learning_rate=0.0)
    for parameter, gradient in alone[f"{variant}, {mode}"].items():
        assert float((gradient - without[parameter]).abs().max()) > 0.05 * float(gradient.abs().max())
