"""Fields side by side in one int32 matrix: where each lies, and its column as a view.

Numbers are the bits of their float32. A batch so costs one gather or one copy however many fields there are.

Legend: B rows, C columns of a matrix, L positions of a sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.parts import first_columns, packed_width
from harness.errors import DataError
from trainables.base import Field

LABEL = Field("label", "number", 1, "context")


@dataclass(frozen=True)
class Place:
    """Where a field lies in a matrix."""

    field: Field
    first: int

    @property
    def after(self) -> int:
        """The column after its last."""
        return self.first + self.field.length


class PackedColumns:
    """The places of a matrix's fields, in the order of their columns."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = tuple(places)
        self.width = self.places[-1].after if self.places else 0

    def views(self, matrix_BC: NDArray[np.int32]) -> dict[str, Tensor]:
        """Return the fields as views of these rows: int32 [B], int32 [B, L] or float32 [B]."""
        integers = torch.from_numpy(matrix_BC)
        numbers = integers.view(torch.float32) if matrix_BC.size else integers.float()
        columns = {}
        for place in self.places:
            if place.field.kind == "sequence":
                columns[place.field.name] = integers[:, place.first : place.after]
            else:
                source = numbers if place.field.kind == "number" else integers
                columns[place.field.name] = source.select(1, place.first)
        return columns

    def first(self, name: str) -> int:
        """Return the column at which a field begins."""
        return next(place.first for place in self.places if place.field.name == name)


def item_name(fields: Sequence[Field]) -> str:
    """Return the name of the field that says which item a row is of: the one with the role `item_id`.

    Raises:
        DataError: no field has the role.
    """
    for field in fields:
        if field.role == "item_id":
            return field.name
    known = ", ".join(field.name for field in fields)
    raise DataError(f"fields {known}: none has the role item_id; give it to one and prepare the dataset again")


def user_name(fields: Sequence[Field]) -> str | None:
    """Return the name of the field with the role `user_id`; None where there is none, and so no field of a user."""
    return next((field.name for field in fields if field.role == "user_id"), None)


def joined_columns(fields: Sequence[Field]) -> PackedColumns:
    """Return the places in a packed row of a dataset in parts: every field, then the label."""
    firsts = (*first_columns(fields), packed_width(fields) - 1)
    return PackedColumns([Place(field, first) for field, first in zip((*fields, LABEL), firsts, strict=True)])
