"""Small tables to plan and to play."""

from pathlib import Path

import pytest

from tests.harness.small_table import SmallTable, small_cold_start, small_next_item


@pytest.fixture
def one_row(tmp_path: Path) -> SmallTable:
    """One row of a next-item method that is searched."""
    return small_next_item(tmp_path)


@pytest.fixture
def pair(tmp_path: Path) -> SmallTable:
    """Two rows of cold start, the second from the first."""
    return small_cold_start(tmp_path)
