"""A table whose trials stream; files in a folder of each name the steps at which one of its workers is killed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.capacity import Capacity
from harness.datasets.synthetic import write_small_interactions
from harness.places import places as own_places
from harness.record import TrialResult
from harness.request import Request
from harness.schedule import Schedule
from harness.specs import Parameters
from harness.store import CHECKPOINTS
from harness.sweep import run_here, run_sweep
from harness.table_rows import Row
from harness.table_specs import TableSpec
from tests.harness.small_table import INTERACTIONS, SmallTable

BATCH_SIZE, EPOCHS = 512, 2


class KilledTable(SmallTable):
    """A generated dataset, an empty store, and the search spaces of the checkout with one more method."""

    @property
    def steps(self) -> int:
        """The optimizer steps of a trial: two epochs of the base rows, and a step for each warm block."""
        return EPOCHS * -(-self.dataset.schema.splits["base"].rows // BATCH_SIZE) + 3

    @property
    def rows_seen(self) -> int:
        """The rows that all workers of a trial see together."""
        splits = self.dataset.schema.splits
        return EPOCHS * splits["base"].rows + sum(splits[f"warm_{block}"].rows for block in "abc")

    def run(
        self,
        killed_at: Mapping[str, Sequence[int]],
        capacity: Capacity | None = None,
        *,
        workers: int = 1,
        parameters: Parameters | None = None,
        cut: bool = False,
        full: bool = False,
    ) -> dict[str, TrialResult]:
        """Run a trial for each name, killed at these steps; in this process, where there is no cluster.

        With `cut` the killed worker's part of the checkpoints is cut in half; with `full` none is killed, and there is
        no room for checkpoints any more.

        Returns:
            What the trials measured. Their folders are empty afterwards if each kill has happened.
        """
        rows = tuple(
            self._row(name, steps, parameters or {}, self._order(cut, full)) for name, steps in killed_at.items()
        )
        table = TableSpec(
            title="t", paper="p", kind="cells", task="cold_start", datasets=(self.dataset.name,),
            metrics=("cold/auc",), seeds=(0,), feed="stream", workers=workers, rows=rows,
        )  # fmt: skip
        request = Request(table, {self.dataset.name: self.dataset}, tuple(killed_at), (0,), "tuned")
        schedule = Schedule(request, self.catalog, self.store)
        if capacity is None:
            run_here(schedule, self.places, lambda schedule: None)
        else:
            run_sweep(schedule, self.places, capacity, lambda schedule: None)
        return {line.row.name: result for line in schedule.lines for result in line.results.values()}

    def left(self, name: str) -> list[str]:
        """Return the steps at which a trial was to be killed and was not."""
        return sorted(path.name for path in (self.places.data / name).iterdir())

    def _order(self, cut: bool, full: bool) -> str:
        return "full" if full else str(Path(self.places.store) / CHECKPOINTS) if cut else ""

    def _row(self, name: str, steps: Sequence[int], parameters: Parameters, order: str) -> Row:
        folder = self.places.data / name
        folder.mkdir(exist_ok=True)
        for step in steps:
            (folder / str(step)).write_text(order)
        own: Parameters = {"backbone": "deepfm", "batch_size": BATCH_SIZE, "epochs": EPOCHS, "folder": str(folder)}
        return Row(name=name, method="killed_at", parameters=own | parameters)


def killed_table(folder: Path) -> KilledTable:
    """Write all that a `KilledTable` needs into a folder."""
    table = KilledTable(folder, INTERACTIONS)
    shutil.copytree(own_places().search_spaces, table.places.search_spaces)
    table.add_method("killed_at", "tests.doubles:KilledAt")
    write_small_interactions(table.places.data / "prepared" / INTERACTIONS)
    return table
