"""Where things are: the checkout with its tables and search spaces, and the folder for data and trials.

`DIFFBENCH_HOME` (default: `.diffbench` in the checkout) holds prepared data and the store; `DIFFBENCH_STORE` puts the
store elsewhere, for example at `s3://bucket/runs`; `DIFFBENCH_DATA` names a folder of raw files, `DIFFBENCH_RESULTS` a
copy of `results/` that takes the tables.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import StoreError

SEARCH_SPACES = "search_spaces"


def _here() -> Path:
    return Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Places:
    """The folders of one installation; `store` may be a URI, and `checkout` is where this program lies."""

    results: Path
    search_spaces: Path
    data: Path
    store: str
    tensorboard: Path
    checkout: Path = field(default_factory=_here)

    def in_worker(self) -> Places:
        """Return the places of a process that may be on another node, where the checkout that came with the run lies.

        Search spaces that are not the checkout's own are where they were said to be, on every node.
        """
        if self.search_spaces != self.checkout / SEARCH_SPACES:
            return self
        return replace(self, search_spaces=_here() / SEARCH_SPACES)


def places(store: str | None = None) -> Places:
    """Return the places that the environment and the checkout give; `store` overrides the store's.

    Raises:
        StoreError: the store's location looks like a URI that lacks a slash.
    """
    checkout = _here()
    home = Path(os.environ.get("DIFFBENCH_HOME") or checkout / ".diffbench").absolute()
    return Places(
        results=Path(os.environ.get("DIFFBENCH_RESULTS") or checkout / "results").absolute(),
        search_spaces=Path(os.environ.get("DIFFBENCH_SEARCH_SPACES") or checkout / SEARCH_SPACES).absolute(),
        data=home / "data",
        store=_from_anywhere(store or os.environ.get("DIFFBENCH_STORE") or str(home / "runs")),
        tensorboard=home / "tensorboard",
    )


def _from_anywhere(store: str) -> str:
    """Return a store's location as processes that run in other folders, as Ray's do, have to name it."""
    if "://" in store:
        return store
    mistyped = re.match(r"([A-Za-z][\w.+-]*):/", store)
    if mistyped:
        uri = f"{mistyped[1]}://{store[mistyped.end() :]}"
        raise StoreError(f"store {store}: not a URI; write {uri}, or ./{store} for a folder of that name")
    try:
        return str(Path(store).expanduser().absolute())
    except RuntimeError:  # ~ of nobody, which the store reports
        return store
