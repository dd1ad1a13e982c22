"""Reading click logs of text categories: delimited files whose columns become ids through their vocabularies.

Legend: R rows, V distinct texts of a column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from harness.datasets.encoding import Column
from harness.datasets.prepared import FieldSchema
from harness.datasets.raw import RawFile, first_index, is_integer
from harness.errors import DataError
from trainables.base import FieldRole

Log = Mapping[str, pa.DictionaryArray]
"""Columns by name: the distinct texts of each, and which of them stands in each row."""


def read_log(files: Sequence[RawFile], names: Sequence[str], separator: str, *, headers: Sequence[bool]) -> Log:
    """Read delimited files one after the other; `headers` says which of them begin with the columns' names.

    Raises:
        DataError: a line has another number of fields, or a header has other names.
    """
    tables = [_read(file, names, separator, header) for file, header in zip(files, headers, strict=True)]
    table = pa.concat_tables(tables).unify_dictionaries()
    found = {}
    for name in names:
        chunks = table.column(name).combine_chunks()
        found[name] = chunks.chunk(0) if isinstance(chunks, pa.ChunkedArray) else chunks
    return found


def labels(file: str, column: pa.DictionaryArray) -> NDArray[np.bool_]:
    """Return a column of 0 and 1 as booleans [R].

    Raises:
        DataError: something else stands there.
    """
    text_V, index_R = _parts(column)
    wrong_R = ~np.isin(text_V, ["0", "1"])[index_R]
    row = first_index(wrong_R)
    if row is not None:
        raise DataError(f"{file}: row {row + 1:,}: label {str(text_V[index_R[row]])!r}, 0 or 1 expected")
    positive_R: NDArray[np.bool_] = (text_V == "1")[index_R]
    return positive_R


def encode_texts(
    name: str,
    role: FieldRole,
    column: pa.DictionaryArray,
    *,
    at_least: int = 1,
    meaning: Callable[[str], str] = str,
) -> Column:
    """Encode a column: ids from 1 in the sorted order of what the texts mean; 0 for all that are rare.

    What occurs fewer than `at_least` times is rare. An empty text is a value like any other. A `meaning` is asked of
    each distinct text once.
    """
    text_V, index_R = _parts(column)
    vocabulary, of_text_V = np.unique(np.array([meaning(str(text)) for text in text_V]), return_inverse=True)
    value_R = of_text_V[index_R]
    frequent = np.bincount(value_R, minlength=len(vocabulary)) >= at_least
    id_of_value = np.where(frequent, np.cumsum(frequent), 0).astype(np.int32)
    size = int(frequent.sum()) + 1
    return Column(FieldSchema(name=name, kind="category", size=size, role=role), id_of_value[value_R])


def integers(file: str, name: str, column: pa.DictionaryArray) -> NDArray[np.int64]:
    """Return a column of digits as integers [R].

    Raises:
        DataError: something else stands there.
    """
    text_V, index_R = _parts(column)
    for text in text_V:
        if not is_integer(text):
            raise DataError(f"{file}: {name} {str(text)!r:.40}, an integer expected")
    numbers_R: NDArray[np.int64] = np.array([int(text) for text in text_V], dtype=np.int64)[index_R]
    return numbers_R


def _read(file: RawFile, names: Sequence[str], separator: str, header: bool) -> pa.Table:
    first, _, _ = file.data.partition(b"\n")
    if header and first.removesuffix(b"\r").decode("utf-8", "replace").split(separator) != list(names):
        file.fail(1, f"not the expected header ({' '.join(names)})")
    try:
        return pa.csv.read_csv(
            pa.BufferReader(file.data),
            read_options=pa.csv.ReadOptions(column_names=list(names), skip_rows=int(header), use_threads=False),
            parse_options=pa.csv.ParseOptions(delimiter=separator, quote_char=False, ignore_empty_lines=False),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.dictionary(pa.int32(), pa.string()) for name in names},
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowException as error:
        raise DataError(f"{file.name}: {' '.join(str(error).split())[:200]}; the file has another format") from None


def _parts(column: pa.DictionaryArray) -> tuple[NDArray[Any], NDArray[np.int32]]:
    return np.asarray(column.dictionary.to_pylist(), dtype=np.str_), np.asarray(column.indices)
