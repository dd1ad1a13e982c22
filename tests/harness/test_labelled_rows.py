"""Rows of which a share has known labels, of datasets in both layouts.

Legend: S rows of a split.
"""

from __future__ import annotations

import pytest
import torch

from harness.datasets.prepared import PreparedDataset
from harness.datasets.synthetic import write_small_interactions
from harness.errors import InputError
from harness.feed import ResidentRows
from harness.feeds import Feed
from harness.labelled_rows import LabelledRows
from harness.streamed_tables import in_parts
from trainables.base import CtrBatch, RowSource


@pytest.fixture(scope="module", params=["tables", "parts"])
def rows(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> ResidentRows:
    dataset: PreparedDataset = write_small_interactions(tmp_path_factory.mktemp("prepared") / "small")
    rows = Feed().open(dataset if request.param == "tables" else in_parts(dataset), "base", "repeat")
    assert isinstance(rows, ResidentRows)
    return rows


def only(rows: RowSource, seed: int | None = None) -> CtrBatch:
    (batch,) = rows.batches(10**6, shuffle_seed=seed)
    return batch


@pytest.mark.parametrize("seed", [None, 3])
def test_batches_are_the_plain_rows_but_for_hidden_labels(rows: ResidentRows, seed: int | None) -> None:
    labelled = LabelledRows(rows, 0.3, 5)
    batches = list(labelled.batches(64, shuffle_seed=seed, skip=2))
    plain = list(rows.batches(64, shuffle_seed=seed, skip=2))
    assert len(labelled) == len(rows) and len(batches) == len(plain)
    for batch, expected in zip(batches, plain, strict=True):
        known_B = ~batch.label_B.isnan()
        assert torch.equal(batch.label_B[known_B], expected.label_B[known_B])
        assert list(batch.columns) == list(expected.columns)
        assert all(torch.equal(batch.columns[name], column) for name, column in expected.columns.items())
    assert only(labelled).label_B.isnan().float().mean().item() == pytest.approx(0.7, abs=0.05)
    assert torch.equal(labelled.distinct_items(), rows.distinct_items()) and labelled.items is rows.items


def test_the_labelled_rows_alone_are_those_whose_labels_are_known(rows: ResidentRows) -> None:
    labelled = LabelledRows(rows, 0.3, 5)
    whole, known = only(labelled), only(labelled.labelled())
    known_S = ~whole.label_B.isnan()
    assert torch.equal(known.label_B, whole.label_B[known_S])
    for name, column in whole.columns.items():
        assert torch.equal(known.columns[name], column[known_S])
    shuffled = only(labelled.labelled(), seed=1)
    assert len(labelled.labelled()) == len(shuffled) and not bool(shuffled.label_B.isnan().any())


def test_quarters_would_show_hidden_labels(rows: ResidentRows) -> None:
    with pytest.raises(InputError, match="have no quarters; set labelled_share: 1"):
        LabelledRows(rows, 0.3, 5).item_quarters(0)
