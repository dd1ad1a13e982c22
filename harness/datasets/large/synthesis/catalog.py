"""The datasets that can be generated, by name, and the true probabilities of what was generated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.datasets.large.synthesis import cikm, taobao
from harness.datasets.large.synthesis.writing import Synthesis, write_synthetic
from harness.datasets.large.tasks import ray_for_data
from harness.datasets.raw import Say
from harness.datasets.taobao import ADS, ROWS, USERS
from harness.errors import InputError, did_you_mean

SYNTHESES: Mapping[str, Synthesis] = {
    "taobao": Synthesis(
        rows=taobao.ROWS,
        row_file=taobao.ROW_FILE,
        headers={lines.file: f"{lines.header}\n" for lines in (ROWS, ADS.lines, USERS.lines)},
        world=taobao.taobao_world,
        lines=taobao.taobao_rows,
        profiles=taobao.taobao_profiles,
    ),
    "cikm": Synthesis(
        rows=cikm.ROWS,
        row_file=cikm.ROW_FILE,
        headers={},
        world=cikm.cikm_world,
        lines=cikm.cikm_rows,
        profiles=cikm.cikm_profiles,
    ),
}
_OBJECT_STORE_BYTES, _ROW_BYTES = 512 << 20, 12


def synthesize(
    name: str,
    folder: Path,
    say: Say,
    *,
    rows: int | None = None,
    seed: int = 0,
    world_rows: int | None = None,
    address: str | None = None,
) -> dict[str, Any]:
    """Write generated files of a dataset into a folder; as many rows as the official one has by default.

    Users, items and categories are as many as the official files have in `world_rows`, by default in `rows`.

    Raises:
        InputError: this dataset cannot be generated, or has too few rows, or its world has too few or more than these.
        DataError: the folder cannot be written.
    """
    if name not in SYNTHESES:
        raise InputError(f"{name!r} cannot be generated{did_you_mean(name, SYNTHESES)}")
    synthesis = SYNTHESES[name]
    rows = synthesis.rows if rows is None else rows
    with ray_for_data(address, _OBJECT_STORE_BYTES + _ROW_BYTES * rows):
        return write_synthetic(folder, name, synthesis, rows, seed, say, world_rows=world_rows or rows)
