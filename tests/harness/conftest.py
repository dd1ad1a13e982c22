"""Small tables to plan and to play, and small prepared datasets."""

from pathlib import Path

import pytest

from harness.datasets.prepared import PreparedDataset
from harness.datasets.synthetic import write_small_interactions, write_small_sequences
from tests.harness.small_table import SmallTable, small_cold_start, small_next_item


@pytest.fixture
def one_row(tmp_path: Path) -> SmallTable:
    """One row of a next-item method that is searched."""
    return small_next_item(tmp_path)


@pytest.fixture
def pair(tmp_path: Path) -> SmallTable:
    """Two rows of cold start, the second from the first."""
    return small_cold_start(tmp_path)


@pytest.fixture
def interactions(tmp_path: Path) -> PreparedDataset:
    """Rows of users, items and labels."""
    return write_small_interactions(tmp_path / "interactions")


@pytest.fixture
def sequences(tmp_path: Path) -> PreparedDataset:
    """Histories and the items that come next."""
    return write_small_sequences(tmp_path / "sequences")
