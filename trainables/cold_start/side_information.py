"""What is known of an item beside its ID, in two forms: embeddings of a generator's own, or the backbone's.

Legend: B rows of a batch, M items, K known items, F embedded fields, S size of the concatenated side information, H
hidden size, D embedding size, L positions of a sequence.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from trainables.base import CtrBatch, CtrModel, Field, FieldRole, FieldValues, ItemTable, field_named
from trainables.layers import FieldSums
from trainables.lookups import Lookup, looked_up

Variant = Literal["paper", "released"]
Start = Literal["default", "released"]
"""Which parameters a generator starts with: the method's own way, or that of the authors' released program."""
ITEMS_AT_ONCE = 65536
"""Items that a backbone embeds at once, with all of its fields: 71 MB of 17 fields of 16 numbers."""


class PreparedItems(NamedTuple):
    """Items whose embeddings have been looked for once: where they stand, and the items' numbers, each [M, 1]."""

    places: Lookup
    numbers: list[Tensor]


class SideInformation(nn.Module):
    """The generator's own, standard-normal embeddings of an item's fields, concatenated with its numbers: [M, S].

    Raises:
        ValueError: all fields are numbers, or there is none.
    """

    def __init__(self, fields: Sequence[Field], embedding_size: int) -> None:
        super().__init__()
        embedded = [field for field in fields if field.kind != "number"]
        if not embedded:
            names = ", ".join(field.name for field in fields)
            raise ValueError(f"side_fields [{names}]: nothing there has an embedding; name a category or a sequence")
        self.sums = FieldSums(embedded, embedding_size)
        self.numbers = [field.name for field in fields if field.kind == "number"]
        self.size = len(self.sums.fields) * embedding_size + len(self.numbers)

    @property
    def table(self) -> nn.Parameter:
        """The embeddings of all fields, one field below the other [V, D]."""
        return self.sums.table_VD

    def forward(self, columns: dict[str, Tensor]) -> Tensor:
        """Return the side information [M, S] of these items' columns."""
        embedded_MS = self.sums(columns).flatten(1)
        return torch.cat([embedded_MS, *(columns[name].unsqueeze(1) for name in self.numbers)], dim=1)

    def prepare(self, columns: dict[str, Tensor]) -> PreparedItems:
        """Prepare items whose side information is asked for many times."""
        numbers = [columns[name].unsqueeze(1) for name in self.numbers]
        return PreparedItems(self.sums.lookup(columns), numbers)

    def of_prepared(self, items: PreparedItems) -> Tensor:
        """Return what `forward` returns for the columns of these items [M, S], up to rounding."""
        size = self.sums.table_VD.shape[1]
        embedded_MS = looked_up(self.sums.table_VD, items.places).view(-1, len(self.sums.fields) * size)
        return torch.cat([embedded_MS, *items.numbers], dim=1)


class BackboneFields:
    """The fields of some roles as a backbone embeds them, concatenated with their numbers; of `names` alone if given.

    Relies on a backbone's `embed` giving embeddings and numbers in the order of its fields.
    """

    def __init__(self, backbone: CtrModel, *roles: FieldRole, names: Collection[str] | None = None) -> None:
        def wanted(field: Field) -> bool:
            return field.role in roles and (names is None or field.name in names)

        embedded = [field for field in backbone.fields if field.kind != "number"]
        numbers = [field for field in backbone.fields if field.kind == "number"]
        self.embedded = [position for position, field in enumerate(embedded) if wanted(field)]
        self.numbers = [position for position, field in enumerate(numbers) if wanted(field)]
        self.size = len(self.embedded) * int(backbone.item_embedding.shape[1]) + len(self.numbers)

    def __call__(self, values: FieldValues) -> Tensor:
        """Return [B, S]."""
        return torch.cat([values.embedded_BFD[:, self.embedded].flatten(1), values.numbers_BN[:, self.numbers]], dim=1)


def item_side_information(
    backbone: CtrModel, variant: Variant, side_fields: tuple[str, ...] | None = None
) -> BackboneFields:
    """Return the fields that describe an item, in the released programs its ID too.

    Args:
        backbone: the CTR model.
        variant: `paper` leaves the item's ID out, even where it is named.
        side_fields: names of the fields; all of them by default.

    Raises:
        ValueError: a name is not an item's field, or nothing describes an item.
    """
    names = {field.name for field in chosen_side_fields(backbone.fields, side_fields)}
    roles: tuple[FieldRole, ...] = ("item",) if variant == "paper" else ("item_id", "item")
    side = BackboneFields(backbone, *roles, names=names)
    if side.size:
        return side
    if side_fields is not None:
        named = ", ".join(side_fields)
        raise ValueError(f"side_fields [{named}]: nothing there describes an item; name a field with the role item")
    raise ValueError("variant paper: no field has the role item, so nothing describes an item; use variant released")


def items_alone(backbone: CtrModel, items: ItemTable, item_M: Tensor) -> FieldValues:
    """Embed items without users: fields that are not an item's stand at 0, and their embeddings mean nothing."""
    columns = {field.name: _nothing(field, len(item_M)) for field in backbone.fields}
    columns |= items.select(item_M) | {item_id_name(backbone): item_M.to(torch.int32)}
    return backbone.embed(CtrBatch(columns, torch.zeros(len(item_M))))


@torch.no_grad()
def described(
    backbone: CtrModel, side: BackboneFields, items: ItemTable, item_M: Tensor, items_at_once: int = ITEMS_AT_ONCE
) -> Tensor:
    """Return what describes items, as the backbone embeds it [M, S], embedding no more than so many at once."""
    side_MS = torch.empty(len(item_M), side.size)
    for first in range(0, len(item_M), items_at_once):
        of_piece = slice(first, first + items_at_once)
        side_MS[of_piece] = side(items_alone(backbone, items, item_M[of_piece]))
    return side_MS


class DescribedItems:
    """What describes some items, looked up many times while the backbone is frozen.

    It is computed once, and for the items that will be asked for: those of all items of a large dataset need gigabytes.

    Args:
        backbone: the CTR model.
        side: its fields that describe an item.
        items: all items.
        item_K: the ids of those that will be asked for, ascending, int64 [K].
    """

    def __init__(self, backbone: CtrModel, side: BackboneFields, items: ItemTable, item_K: Tensor) -> None:
        self._item_K = item_K
        self._side_KS = described(backbone, side, items, item_K)

    def of(self, item_M: Tensor) -> Tensor:
        """Return the side information [M, S] of known items."""
        return self._side_KS.index_select(0, torch.searchsorted(self._item_K, item_M))


def two_layers(inputs: int, hidden: int, outputs: int, *, small: bool = True) -> nn.Sequential:
    """Return Linear → ReLU → Linear.

    The papers of those who use it give no start. With `small`, all parameters are uniform in ±0.01, as MWUF's networks
    start in the released program; else as torch draws them, as its Meta-Embedding does.
    """
    network = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    if small:
        start_small(network)
    return network


def start_small(module: nn.Module) -> None:
    """Draw all parameters uniformly from ±0.01."""
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -0.01, 0.01)


def item_id_name(backbone: CtrModel) -> str:
    """Return the name of the field with the role `item_id`."""
    return next(field.name for field in backbone.fields if field.role == "item_id")


def user_id_field(backbone: CtrModel, method: str) -> Field:
    """Return the field with the role `user_id`.

    Raises:
        ValueError: there is none, which a method that learns from users cannot do without.
    """
    for field in backbone.fields:
        if field.role == "user_id":
            return field
    raise ValueError(
        f"{method}: the dataset has no field with the role user_id; choose one that has, or another method"
    )


def chosen_side_fields(fields: Sequence[Field], names: tuple[str, ...] | None) -> list[Field]:
    """Return the fields of these names, by default the item ID and every field with an item's role.

    Raises:
        ValueError: there is no such field, or it is not an item's.
    """
    if names is None:
        return [field for field in fields if field.role in ("item_id", "item")]
    known = [field.name for field in fields]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"side_fields: no field {unknown[0]!r}; known: {', '.join(known)}")
    chosen = [field_named(fields, name) for name in names]
    for field in chosen:
        if field.role not in ("item_id", "item"):
            raise ValueError(f"side_fields: {field.name!r} has the role {field.role!r}; name fields of items only")
    return chosen


def _nothing(field: Field, rows: int) -> Tensor:
    if field.kind == "number":
        return torch.zeros(rows)
    shape = (rows, field.length) if field.kind == "sequence" else (rows,)
    return torch.zeros(shape, dtype=torch.int32)
