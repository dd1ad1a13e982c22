"""What the items are: their text as embeddings, and their categories and brands.

Both are read from the descriptions that the preparation wrote, which the dataset's hash covers, or from a known file
that it took along. They are made when a trial first needs them, and kept as artefacts of their own inside the prepared
dataset's folder:

- `text-<encoder>-<source>/`, with `-<pooling>` behind it where that is not the encoder's own: `items.parquet` with
  `embedding` float32 [I, D], row i for item id i + 1, and `schema.json` (`TextSchema`);
- `attributes/`: `items.parquet` with `attribute` int32 [I, A], ids from 1, padded on the right with 0.

Legend: I items, D text embedding size, A attributes of an item.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.datasets import catalog
from harness.datasets.encoder import TextPooling, encode
from harness.datasets.item_descriptions import COLUMNS as KNOWN_COLUMNS
from harness.datasets.item_descriptions import DESCRIPTIONS, DOMAIN, ITEM_ID
from harness.datasets.kept_item_text import kept_item_text
from harness.datasets.large.description import LargeDataset
from harness.datasets.prepared import PreparedDataset
from harness.datasets.raw import Dataset, ItemTextFile, RawFile, is_integer
from harness.datasets.writing import Table, exclusive, read_table, replace_folder, row_hash, write_table
from harness.errors import DataError, InputError

TextSource = Literal["descriptions", "keywords"]
"""`descriptions`: title, brand and categories, as far as the file has them. `keywords`: IDGenRec's keywords, which a
model wrote."""

ITEMS = "items"
SCHEMA = "schema.json"


class TextSchema(BaseModel):
    """What an artefact's `schema.json` holds; `hash` covers the rows, `note` goes beside every result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    content: str
    hash: str
    note: str


@dataclass(frozen=True)
class ItemInput:
    """An artefact: values [I, …], row i for item id i + 1, and the note that goes beside every result with it."""

    value: NDArray[Any]
    note: str


def item_text(dataset: PreparedDataset, encoder: str, source: TextSource, pooling: TextPooling = "model") -> ItemInput:
    """Return the items' text embeddings, float32 [I, D]; an item without text has the mean of the others.

    Raises:
        InputError: there is no such encoder, it has no such pooling, or what it needs is not installed; or the dataset
            has no such text, or its file is missing or another than the known one.
        DataError: what was made of it before is damaged, or cannot be written.
    """
    pooled = "" if pooling == "model" else f"-{pooling}"
    content = f"text-{_as_folder(encoder)}-{source}{pooled}"

    def make() -> tuple[Table, str]:
        file, rows = _item_rows(dataset)
        sentences = [_sentence(row, source) for row in rows]
        if not any(sentences):
            other = "; use text_source: keywords" if any(row["idgenrec_keywords"] for row in rows) else ""
            raise DataError(f"{dataset.name}: {file.name} has no {source} of items{other}")
        encoded = encode([sentence for sentence in sentences if sentence], encoder, pooling)
        has_text_I = np.array([bool(sentence) for sentence in sentences])
        embedding_ID = np.tile(encoded.embedding_SD.mean(0), (len(sentences), 1)).astype(np.float32)
        embedding_ID[has_text_I] = encoded.embedding_SD
        named = encoder if pooling == "model" else f"{encoder}'s {pooling} state"
        note = f"item text: {_described(rows, source)}, {named} (weights {encoded.fingerprint[:8]})"
        return {"embedding": embedding_ID}, note

    made = _artefact(dataset, content, make)
    return ItemInput(made.value, made.note)


def item_attributes(dataset: PreparedDataset) -> ItemInput:
    """Return the items' categories and brands, int32 [I, A]: ids from 1, padded on the right with 0.

    Raises:
        InputError: the dataset has no attributes, or their file is missing or another than the known one.
        DataError: what was made of it before is damaged, or cannot be written.
    """

    def make() -> tuple[Table, str]:
        file, rows = _item_rows(dataset)
        ids = [_attribute_ids(file, line, row) for line, row in enumerate(rows, start=2)]
        attribute_IA = np.zeros((len(ids), max(map(len, ids), default=0)), dtype=np.int32)
        if not attribute_IA.size:
            raise DataError(f"{dataset.name}: {file.name} has no attributes of items")
        for index, item in enumerate(ids):
            attribute_IA[index, : len(item)] = item
        return {"attribute": attribute_IA}, f"item attributes: brands and categories of {file.name}"

    return _artefact(dataset, "attributes", make)


def item_domains(dataset: PreparedDataset) -> ItemInput:
    """Return the number of each item's domain, int32 [I], from 0 in the order of ids; all 0 but where several are put
    together. There is no artefact, and no note but then.

    Raises:
        DataError: the descriptions differ from those that were prepared.
    """
    named = [""] * dataset.schema.items
    if (dataset.folder / DESCRIPTIONS).is_file():
        named = [row[DOMAIN] for row in _item_rows(dataset)[1]]
    number = {name: index for index, name in enumerate(dict.fromkeys(named))}
    note = f"item domains: {', '.join(number)}" if len(number) > 1 else ""
    return ItemInput(np.array([number[name] for name in named], dtype=np.int32), note)


def write_artefact(folder: Path, table: Table, *, dataset: str, content: str, note: str) -> None:
    """Write an artefact of one column: all of it or nothing.

    Raises:
        OSError: the folder cannot be written; nothing is left behind.
    """
    schema = TextSchema(dataset=dataset, content=content, hash=row_hash({ITEMS: table}), note=note)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        write_table(partial / f"{ITEMS}.parquet", table)
        (partial / SCHEMA).write_text(schema.model_dump_json(indent=2) + "\n", encoding="utf-8")
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _artefact(dataset: PreparedDataset, content: str, make: Callable[[], tuple[Table, str]]) -> ItemInput:
    """Return an artefact of a dataset, made now unless it is there.

    One that is there takes no lock, as its folder may be for reading only.
    """
    folder = dataset.folder / content
    found = _read(folder) or _made(folder, dataset, content, make)
    if len(found.value) != dataset.schema.items:
        raise DataError(f"{folder}: {len(found.value):,} items, {dataset.schema.items:,} expected; delete {folder}")
    return found


def _made(folder: Path, dataset: PreparedDataset, content: str, make: Callable[[], tuple[Table, str]]) -> ItemInput:
    """Make an artefact; of several processes one does, and the others read it."""
    _own_file(dataset)  # one that is damaged is no lack of text
    try:
        with exclusive(dataset.folder / f".{content}.lock"):
            found = _read(folder)
            if found is None:
                table, note = _from_what_is_known(make)
                write_artefact(folder, table, dataset=dataset.name, content=content, note=note)
                found = _read(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}); nothing was kept") from None
    assert found is not None
    return found


def _from_what_is_known(make: Callable[[], tuple[Table, str]]) -> tuple[Table, str]:
    """Make an artefact from the file that says what the items are, which a dataset may lack or have wrong.

    Raises:
        InputError: it does: methods that need no text do as well without, unlike where the dataset itself is damaged.
    """
    try:
        return make()
    except DataError as error:
        raise InputError(str(error)) from None


def _read(folder: Path) -> ItemInput | None:
    path = folder / SCHEMA
    try:
        schema = TextSchema.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); make it readable") from None
    except (json.JSONDecodeError, ValidationError):
        raise DataError(f"{path}: not a schema; delete {folder}") from None
    (value,) = read_table(folder / f"{ITEMS}.parquet").values()
    return ItemInput(value, f"{schema.note}, rows {schema.hash[:12]}")


def _own_file(dataset: PreparedDataset) -> RawFile | None:
    """Return the descriptions that are part of a prepared dataset, if it has some.

    Raises:
        DataError: they differ from those that were prepared.
    """
    own = dataset.folder / DESCRIPTIONS
    if not own.is_file():
        return None
    file = RawFile(DESCRIPTIONS, own.read_bytes())
    if dataset.schema.descriptions not in ("", file.sha256):
        raise DataError(f"{own}: differs from schema.json's hash; delete {dataset.folder} and prepare it again")
    return file


def _item_rows(dataset: PreparedDataset) -> tuple[RawFile, list[dict[str, str]]]:
    """Return the file that says what the items are, and its row of every item id; all empty where it has none."""
    own = _own_file(dataset)
    if own is not None:
        return own, read_items(own, ItemTextFile(DESCRIPTIONS, ITEM_ID, own.sha256), dataset.schema.items)
    known = _catalog_entry(dataset)
    if known is None or known.item_text is None:
        raise DataError(f"{dataset.name}: nothing is known of its items' text; use a method that needs none")
    wanted = known.item_text
    kept = kept_item_text(dataset, wanted)
    file = kept or catalog.find_raw_file(known, wanted.name, dataset.folder.parent.parent)
    if file.sha256 != wanted.sha256:
        raise DataError(f"{file.name}: sha256 {file.sha256[:12]}, {wanted.sha256[:12]} expected; get the known file")
    return file, read_items(file, wanted, dataset.schema.items)


def _catalog_entry(dataset: PreparedDataset) -> Dataset | LargeDataset | None:
    return catalog.find(dataset.name) if dataset.name in catalog.dataset_names() else None


def read_items(file: RawFile, wanted: ItemTextFile, items: int) -> list[dict[str, str]]:
    """Return the columns of every item id from 1, all of them empty for an item without a row, or without the column
    of domains, which a file may lack.

    Raises:
        DataError: a column is missing, or an id is none, too large, or stands twice.
    """
    try:
        reader = csv.DictReader(io.StringIO(file.data.decode("utf-8"), newline=""), strict=True)
        for column in (wanted.id_column, *KNOWN_COLUMNS):
            if column not in (reader.fieldnames or ()):
                file.fail(1, f"no column {column}")
        rows: list[dict[str, str]] = [dict.fromkeys((*KNOWN_COLUMNS, DOMAIN), "") for _ in range(items)]
        seen: set[int] = set()
        for row in reader:
            text = row[wanted.id_column] or ""
            item = int(text) if is_integer(text) else 0
            if not 1 <= item <= items or item in seen:
                wrong = f"{wanted.id_column} {text!r:.40}"
                file.fail(reader.line_num, f"{wrong}, an id of 1 to {items:,} expected, once each")
            seen.add(item)
            rows[item - 1] = {column: row.get(column) or "" for column in (*KNOWN_COLUMNS, DOMAIN)}
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{file.name}: not the expected file with commas ({error})") from None
    return rows


def _attribute_ids(file: RawFile, line: int, row: dict[str, str]) -> list[int]:
    words = row["attribute_ids"].split()
    if not all(is_integer(word) and 0 < int(word) < 1 << 31 for word in words):
        file.fail(line, f"attribute_ids {row['attribute_ids']!r:.40}, positive integers expected")
    return [int(word) for word in words]


def _sentence(row: dict[str, str], source: TextSource) -> str:
    """Return one sentence for an item, empty when nothing is known of it."""
    if source == "keywords":
        return row["idgenrec_keywords"]
    attributes = ", ".join(name for name in row["attribute_names"].split("|") if name)
    return ". ".join(part for part in (row["title"], attributes) if part)


def _described(rows: Sequence[dict[str, str]], source: TextSource) -> str:
    if source == "keywords":
        return "IDGenRec's keywords, written by a model"
    titles = sum(bool(row["title"]) for row in rows)
    counted = f"{titles:,} titles" if titles else "no titles"
    return f"{counted}, brands and categories of {len(rows):,} items"


def _as_folder(encoder: str) -> str:
    if re.fullmatch(r"[a-z0-9][a-z0-9-]*", encoder):
        return encoder
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", encoder):
        raise InputError(f"text_encoder = {encoder!r}: a name such as minilm or owner/model is expected")
    return f"{encoder.replace('/', '-').lower()}-{hashlib.sha256(encoder.encode()).hexdigest()[:8]}"
