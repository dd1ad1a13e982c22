"""Two workers that share each batch prepare and start DGenCTR as one that has all of it.

Legend: B rows of a batch, N numeric fields, V values of a field.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from tests.trainables.small_rows import FIELDS, USERS, small_rows
from tests.trainables.two_processes import found_by_two
from trainables.base import CtrBatch, no_log
from trainables.cold_start.conformance import RowsInMemory
from trainables.cold_start.dgenctr import DGenCTRBackbone
from trainables.ctr.deepfm import DeepFM
from trainables.ctr.denoiser import FieldDenoiser
from trainables.ctr.dgenctr import DGenCTRPretraining
from trainables.ctr.field_rows import number_bins
from trainables.workers import rank, workers

NUMBERS = tuple(field for field in FIELDS if field.kind == "number")


@dataclass(frozen=True)
class SharedRows(RowsInMemory):
    """Of each shuffled batch the first worker has a quarter; in stored order, it has the first users' rows."""

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        """Yield this worker's part of every batch."""
        for batch in super().batches(batch_size, shuffle_seed=shuffle_seed, skip=skip):
            if workers() == 1:
                yield batch
                continue
            first_B = torch.arange(len(batch)) < len(batch) // 4
            if shuffle_seed is None:
                first_B = batch.columns["user_id"] < USERS // 2
            yield self._of(batch, first_B if rank() == 0 else ~first_B)

    @staticmethod
    def _of(batch: CtrBatch, chosen_B: Tensor) -> CtrBatch:
        return CtrBatch({name: column[chosen_B] for name, column in batch.columns.items()}, batch.label_B[chosen_B])


class Remembering(DGenCTRBackbone):
    """Keeps hold of the denoiser."""

    seen: tuple[FieldDenoiser, ...] = ()

    def _built_denoiser(self) -> FieldDenoiser:
        self.seen = (super()._built_denoiser(),)
        return self.seen[0]


def rows(number: int = 240) -> SharedRows:
    whole = small_rows(number)
    return SharedRows(whole.batch, whole.items)


def prepared() -> dict[str, Tensor]:
    """Return bins and frequencies of a pre-training that needs both, and the losses on its way."""
    torch.manual_seed(0)
    method = DGenCTRPretraining(
        DeepFM(FIELDS, dropout=0.0), full_below=0, frequency_correction=True, batch_size=60, epochs=1
    )
    losses: list[float] = []
    torch.manual_seed(10 + rank())
    method.fit(rows(), lambda: 0.0, seed=0, log=lambda name, value, step: losses.append(value))
    state = {name: value.clone() for name, value in method.denoiser.named_buffers() if name.startswith(("edge", "sha"))}
    return state | {"losses": torch.tensor(losses)}


def sampled_bins() -> Tensor:
    """Return the edges of a sample that ends with the second of three batches."""
    return number_bins(NUMBERS, rows(20_000), 5, seed=3, sample=9_000)


def restored() -> dict[str, Tensor]:
    """Return the denoiser of the cold-start method after a stage of which each worker has its own generator."""
    torch.manual_seed(0)
    method = Remembering(DeepFM(FIELDS, dropout=0.0), batch_size=60)
    torch.manual_seed(10 + rank())
    method._restore(rows(), seed=0, log=no_log)
    return {name: value.clone() for name, value in method.seen[0].named_parameters()}


def work(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", rank=number, world_size=2, timeout=datetime.timedelta(seconds=120)
    )
    torch.save({"prepared": prepared(), "sampled": sampled_bins(), "restored": restored()}, f"{folder}/{number}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    return found_by_two(work, tmp_path_factory.mktemp("workers"))


def test_bins_and_frequencies_are_those_of_all_rows(of_two: list[dict[str, dict[str, Tensor]]]) -> None:
    alone = prepared()
    assert len(alone) == 1 + 1 + len([field for field in FIELDS if field.kind != "number"])
    for found in of_two:
        for name, value in found["prepared"].items():
            assert bool(value.isfinite().all()), name
            assert name == "losses" or torch.equal(value, alone[name]), name


def test_a_sample_of_rows_is_the_one_of_a_worker_alone(of_two: list[dict[str, Tensor]]) -> None:
    assert all(torch.equal(found["sampled"], sampled_bins()) for found in of_two)


def test_workers_restore_with_the_same_denoiser(of_two: list[dict[str, dict[str, Tensor]]]) -> None:
    first, second = (found["restored"] for found in of_two)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
