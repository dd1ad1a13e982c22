"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Small tensors gain nothing from more threads, and on a busy machine the threads wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def raw_data() -> Path:
    """The folder of real raw files."""
    folder = os.environ.get("DIFFBENCH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no real files: DIFFBENCH_DATA does not name a folder of raw data")
    return Path(folder)
