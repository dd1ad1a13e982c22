"""Large files of nothing but integers, a block at a time.

Legend: R rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from harness.datasets.raw import RawFile, StreamedFile
from harness.errors import DataError

BLOCK_BYTES = 1 << 24


def integer_blocks(file: RawFile, names: Sequence[str]) -> Iterator[Mapping[str, NDArray[np.int64]]]:
    """Yield the columns of a file separated by tabs, int64 [R], some rows at a time and none of them empty.

    Raises:
        DataError: a line has another number of fields, or a field is not an integer.
    """
    assert isinstance(file, StreamedFile)
    try:
        reader = pa.csv.open_csv(
            file.path,
            read_options=pa.csv.ReadOptions(column_names=list(names), block_size=BLOCK_BYTES, use_threads=False),
            parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.int64() for name in names}, null_values=[], strings_can_be_null=False
            ),
        )
        for batch in reader:
            if batch.num_rows:
                yield {name: batch.column(name).to_numpy() for name in names}
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file.name}: cannot be read as {len(names)} integers a line ({reason})") from None
