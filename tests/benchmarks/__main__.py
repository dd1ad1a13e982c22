"""All benchmarks, one after the other: `python -m tests.benchmarks [data root]`.

The data root is that of `diffbench data prepare`; what it lacks is prepared there. They print ratios and rates, and
assert nothing: absolute times differ between machines, ratios within a run hold.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.datasets import catalog
from harness.places import places
from tests.benchmarks import (
    bench_auc,
    bench_csdm,
    bench_deepfm,
    bench_dgenctr,
    bench_feed,
    bench_field_sums,
    bench_item_knn,
    bench_kills,
    bench_memory,
    bench_next_item,
    bench_nodes,
    bench_row_sums,
    bench_stream,
    bench_sweep,
    bench_synthesis,
    bench_tiger,
)
from tests.benchmarks.allocation import allocate_as_workers_do


def main(data_root: Path) -> None:
    for name in ("ml-1m", "amazon-beauty"):
        catalog.prepare(name, data_root)
    bench_auc.main()
    bench_feed.main(data_root)
    bench_memory.main(str(data_root / "prepared" / "ml-1m"))
    bench_deepfm.main(data_root)
    bench_csdm.main(data_root)
    bench_field_sums.main(data_root)
    bench_dgenctr.main(data_root)
    bench_next_item.main(data_root)
    bench_tiger.main(data_root)
    bench_item_knn.main(data_root)
    bench_row_sums.main()
    bench_stream.main()
    bench_kills.main()
    bench_sweep.main()
    bench_nodes.main()
    bench_synthesis.main()


if __name__ == "__main__":
    allocate_as_workers_do()
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else places().data)
