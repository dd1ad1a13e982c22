"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Small tensors gain nothing from more threads, and on a busy machine the threads wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leave no test the threads that an earlier one's trial asked for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process waits for another one's last file."""
    items.sort(key=lambda item: item.get_closest_marker("starts_ray") is None)


@pytest.fixture(scope="session")
def raw_data() -> Path:
    """The folder of real raw files."""
    folder = os.environ.get("DIFFBENCH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no real files: DIFFBENCH_DATA does not name a folder of raw data")
    return Path(folder)
