"""From raw values to the ids and numbers of a prepared dataset; equal raw values always give equal ids.

Legend: R values, L positions of a sequence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.prepared import FieldSchema
from trainables.base import FieldRole


@dataclass(frozen=True)
class Column:
    """A field and its encoded values: int32 [R], float32 [R], or int32 [R, L]."""

    field: FieldSchema
    values: NDArray[Any]


def encode_categories(name: str, role: FieldRole, raw: Sequence[str] | NDArray[Any]) -> Column:
    """Encode a category: ids from 0 in the sorted order of the raw values."""
    vocabulary, ids_R = np.unique(np.asarray(raw), return_inverse=True)
    return Column(FieldSchema(name=name, kind="category", size=len(vocabulary), role=role), ids_R.astype(np.int32))


def encode_sequence(name: str, role: FieldRole, raw: Sequence[Sequence[str]], length: int) -> Column:
    """Encode sequences of words: ids from 1 in sorted order, cut to `length`, padded on the right with 0."""
    kept = [words[:length] for words in raw]
    ids = {word: number for number, word in enumerate(sorted({word for words in kept for word in words}), start=1)}
    values_RL = np.zeros((len(kept), length), dtype=np.int32)
    for row, words in enumerate(kept):
        values_RL[row, : len(words)] = [ids[word] for word in words]
    field = FieldSchema(name=name, kind="sequence", size=len(ids) + 1, role=role, length=length)
    return Column(field, values_RL)


def encode_number(name: str, role: FieldRole, values_R: NDArray[Any]) -> Column:
    """Keep a number, as float32."""
    return Column(FieldSchema(name=name, kind="number", size=1, role=role), values_R.astype(np.float32))


def scale_to_unit(values_R: NDArray[Any]) -> NDArray[np.float64]:
    """Return the values scaled linearly so that the smallest is 0 and the largest 1; all 0 when they are equal."""
    values = values_R.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def title_words(title: str) -> list[str]:
    """Return the words of a title, in lower case and without punctuation: `Schindler's List` → schindlers, list."""
    return re.findall(r"\w+", title.lower().replace("'", ""))
