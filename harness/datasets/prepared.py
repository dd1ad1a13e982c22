"""A prepared dataset: a folder of Parquet files and `schema.json`, immutable once written.

Layout of `<data root>/prepared/<name>/`:

- `schema.json`, written last: `Schema` below.
- click-through-rate data: `rows.parquet` (one row an interaction, in the raw files' order: `user_id`, `item_id`, the
  context fields, `label`, `split`, `validation_split`), `users.parquet` and `items.parquet` (row i for id i, the fields
  with that role; `items` also has `count`).
- sequences: `<split>.parquet` with `history` (a fixed-size list of int32, padded on the right with 0), `length` and
  `target`. Under leave-one-out each split has a row of every user, row i of the same one (see `users_of_sequences`).
  Where the raw files say what the items are, also `item_text.csv`, a row for each item id (see `item_descriptions`).
- `raw/`: the known file of item text, where a dataset has one (see `kept_item_text`).

All columns are int32, float32, or fixed-size lists of int32.

That is the layout `tables`. Large interactions have the layout `parts`, in which rows are joined and packed (see the
module `parts`); `items.parquet` has row i for item id i there too, and `count_<split>`, the item's rows in a split.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import DataError, NoDataError
from trainables.base import Field, FieldKind, FieldRole

SYNTHETIC = "synthetic"
"""What the note of generated data begins with: nothing measured on it stands beside a published number."""


class FieldSchema(BaseModel):
    """One input field; see `trainables.base.Field`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: FieldKind
    size: int
    role: FieldRole
    length: int = 1

    def field(self) -> Field:
        """Return it as the methods know it."""
        return Field(self.name, self.kind, self.size, self.role, self.length)


class SplitSchema(BaseModel):
    """A split: its number of rows, and whether a search may read it.

    Of interactions, it is the rows of `rows.parquet` that hold `code` in `column`, or in the layout `parts` all rows of
    these `atoms`; of sequences, a file of its own. `optimum_auc` is the AUC that the true probabilities have on these
    rows, where these are known because they were planted; it is here alone, no field of the rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    search: bool
    column: str = ""
    code: int = 0
    atoms: tuple[str, ...] = ()
    optimum_auc: float | None = None


class InputFile(BaseModel):
    """A raw file that went into the preparation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str
    bytes: int


class Schema(BaseModel):
    """What `schema.json` holds. `hash` covers the rows of all tables; `note` goes beside every result.

    `descriptions` is the SHA-256 of `item_text.csv` where the preparation wrote it; then `hash` covers it too.
    `synthetic` says that the rows are generated; then the note begins with `SYNTHETIC`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["interactions", "sequences"]
    layout: Literal["tables", "parts"] = "tables"
    version: int
    hash: str
    descriptions: str = ""
    note: str = ""
    synthetic: bool = False
    inputs: tuple[InputFile, ...]
    fields: tuple[FieldSchema, ...] = ()
    items: int
    users: int
    history_length: int = 0
    splits: dict[str, SplitSchema]
    facts: dict[str, int] = {}


class PreparedDataset:
    """A prepared dataset on disk."""

    def __init__(self, folder: Path, schema: Schema) -> None:
        self.folder = folder
        self.schema = schema

    @property
    def name(self) -> str:
        """The dataset's name in the catalog."""
        return self.schema.name

    @property
    def hash(self) -> str:
        """The hash of all prepared rows, and of the items' descriptions where there are any."""
        return self.schema.hash

    @property
    def fields(self) -> tuple[Field, ...]:
        """The input fields, in the order of the schema."""
        return tuple(field.field() for field in self.schema.fields)


def open_prepared(folder: Path) -> PreparedDataset:
    """Open a prepared dataset.

    Raises:
        NoDataError: the folder has no `schema.json`.
        DataError: it cannot be read.
    """
    path = folder / "schema.json"
    try:
        schema = Schema.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        name = folder.name
        raise NoDataError(f"{name}: not prepared in {folder}; run `diffbench data prepare {name}`") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"{path}: not a schema ({reason}); delete {folder} and prepare it again") from None
    return PreparedDataset(folder, schema)


def check_undamaged(folder: Path) -> None:
    """Check that a folder which may hold a prepared dataset holds no damaged one.

    Raises:
        DataError: its `schema.json` is there and cannot be read.
    """
    with contextlib.suppress(NoDataError):
        open_prepared(folder)
