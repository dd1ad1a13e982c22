"""Generated datasets by name: `taobao-ctr-synthetic-3m`, or `…-synthetic-3m-world-100k` in a world of fewer rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.datasets.large.description import LargeDataset
from harness.datasets.large.synthesis.about import read_synthetic
from harness.datasets.raw import Say
from harness.errors import DataError
from harness.specs import STANDS_IN

SEED = 0
UNASKED_ROWS = 3_000_000
"""A run generates more rows than these only where their dataset is named, since that takes minutes."""
_UNITS = {"k": 1_000, "m": 1_000_000}
_NUMBER = "[1-9][0-9]*[km]"
_NAME = re.compile(f"(?P<official>[a-z-]+){STANDS_IN}(?P<rows>{_NUMBER}|all)(-world-(?P<world>{_NUMBER}))?")


@dataclass(frozen=True, kw_only=True)
class GeneratedDataset(LargeDataset):
    """A stand-in for a dataset whose files are generated where they are not there.

    Attributes:
        stands_for: the name of what is generated.
        generated_rows: how many.
        world_rows: users, items and categories are as many as the official files have in so many rows.
    """

    stands_for: str
    generated_rows: int
    world_rows: int

    @property
    def download(self) -> Callable[[Path, Say], None]:
        """Return what puts the files into a folder: it generates them."""
        return self.generate

    def generate(self, folder: Path, say: Say) -> None:
        """Generate the files.

        Raises:
            DataError: the folder cannot be written.
        """
        from harness.datasets.large.synthesis.catalog import synthesize  # Ray is imported where it is needed only

        say(f"{self.name}: generating {self.generated_rows:,} rows in {folder}")
        synthesize(self.stands_for, folder, say, rows=self.generated_rows, seed=SEED, world_rows=self.world_rows)

    def check_files(self, folder: Path) -> None:
        """Check that a folder holds these files, whole.

        Raises:
            DataError: it holds others, or what an interrupted generation left.
        """
        about = read_synthetic(folder) or {}
        wanted: dict[str, Any] = {
            "dataset": self.stands_for,
            "rows": self.generated_rows,
            "world_rows": self.world_rows,
            "seed": SEED,
        }
        if {name: about.get(name) for name in wanted} != wanted:
            raise DataError(f"{folder}: not the files of {self.name}, or not whole; delete it, they are generated anew")


def generated_dataset(name: str, official: Mapping[str, object]) -> GeneratedDataset | None:
    """Return the generated dataset of a name, or None where it is none's.

    Args:
        name: the official dataset's, `-synthetic-` and the number of rows (or `all`, as many as the official one has),
            with or without `-world-` and a number.
        official: the datasets by name.
    """
    found = _NAME.fullmatch(name)
    dataset = official.get(found["official"]) if found else None
    if not found or not isinstance(dataset, LargeDataset):
        return None
    rows = dataset.facts["rows"] if found["rows"] == "all" else _number(found["rows"])
    world_rows = _number(found["world"]) if found["world"] else rows
    within = f" in a world of {world_rows:,}" if found["world"] else ""
    return GeneratedDataset(
        **vars(dataset)
        | {
            "name": name,
            "title": f"{dataset.title}: {rows:,} generated rows{within}",
            "folder": f"{dataset.folder}{STANDS_IN}{name.partition(STANDS_IN)[2]}",
            "source": f"what `diffbench data synthesize {dataset.folder}` makes",
            "facts": {},
        },
        stands_for=dataset.folder,
        generated_rows=rows,
        world_rows=world_rows,
    )


def _number(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]]
