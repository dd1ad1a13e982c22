"""Where things are: the checkout with its tables and search spaces, and the folder for data and trials.

`DIFFBENCH_HOME` (default: `.diffbench` in the checkout) holds prepared data and the store; `DIFFBENCH_STORE` puts the
store elsewhere, for example at `s3://bucket/runs`; `DIFFBENCH_DATA` names a folder of raw files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """The folders of one installation; `store` may be a URI."""

    results: Path
    search_spaces: Path
    data: Path
    store: str
    tensorboard: Path

    @property
    def checkout(self) -> Path:
        """The folder that holds results and search spaces."""
        return self.results.parent


def places(store: str | None = None) -> Places:
    """Return the places that the environment and the checkout give; `store` overrides the store's."""
    checkout = Path(__file__).resolve().parent.parent
    home = Path(os.environ.get("DIFFBENCH_HOME") or checkout / ".diffbench").absolute()
    return Places(
        results=Path(os.environ.get("DIFFBENCH_RESULTS") or checkout / "results").absolute(),
        search_spaces=Path(os.environ.get("DIFFBENCH_SEARCH_SPACES") or checkout / "search_spaces").absolute(),
        data=home / "data",
        store=store or os.environ.get("DIFFBENCH_STORE") or str(home / "runs"),
        tensorboard=home / "tensorboard",
    )
