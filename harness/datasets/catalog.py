"""The datasets by name: finding raw files, preparing, opening and verifying.

A dataset is any entry of `DATASETS` in a module of this package; nothing is registered. Raw files are looked for in the
folder that the caller names, then in `$DIFFBENCH_DATA`, then in `<data root>/raw`, and downloaded there where a dataset
can be. Prepared data goes to `<data root>/prepared/<name>`.

A large dataset can be generated instead, in any size that its name tells: see `large.synthesis.names`.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

import harness.datasets
from harness.datasets.item_descriptions import DESCRIPTIONS
from harness.datasets.kept_item_text import keep_item_text, kept_problems
from harness.datasets.large.description import MALFORMED_SHARE, LargeDataset
from harness.datasets.large.synthesis.names import GeneratedDataset, generated_dataset
from harness.datasets.large.verification import verify_large
from harness.datasets.prepared import PreparedDataset, check_undamaged, open_prepared
from harness.datasets.raw import Dataset, KnownFile, Layout, RawFile, RawFiles, Say, check_lines, input_file, read_raw
from harness.datasets.writing import Contents, Table, dataset_hash, exclusive, read_table, row_hash, write_prepared
from harness.errors import DataError, InputError, NoDataError, did_you_mean


@cache
def _datasets() -> Mapping[str, Dataset | LargeDataset]:
    found: dict[str, Dataset | LargeDataset] = {}
    for module in pkgutil.iter_modules(harness.datasets.__path__):
        if module.name != "catalog":
            for dataset in getattr(importlib.import_module(f"harness.datasets.{module.name}"), "DATASETS", ()):
                found[dataset.name] = dataset
    return dict(sorted(found.items()))


def dataset_names() -> tuple[str, ...]:
    """Return the names of all datasets, sorted."""
    return tuple(_datasets())


def find(name: str) -> Dataset | LargeDataset:
    """Return a dataset of the catalog, or a generated one.

    Raises:
        InputError: there is none of this name.
    """
    dataset = _datasets().get(name) or generated_dataset(name, _datasets())
    if dataset is None:
        raise InputError(f"unknown dataset {name!r}{did_you_mean(name, dataset_names())}")
    return dataset


def open_dataset(name: str, data_root: Path) -> PreparedDataset:
    """Open a prepared dataset.

    Raises:
        InputError: there is no dataset of this name.
        DataError: it is not prepared, or not as this version of the preparation does it.
    """
    prepared = open_prepared(_prepared_folder(find(name), data_root))
    outdated = _outdated(find(name), prepared)
    if outdated:
        raise DataError(f"{name}: {outdated}; run `diffbench data prepare {name}`")
    return prepared


def status(name: str, data_root: Path) -> str:
    """Return `prepared`, `raw files found`, `can be downloaded`, `damaged` or `missing`."""
    dataset = find(name)
    try:
        open_dataset(name, data_root)
    except DataError:
        if any(_layouts_in(dataset, folder) for folder in _raw_folders(dataset, data_root, None)):
            return "raw files found"
        return "can be downloaded" if dataset.download else _state_without_raw_files(dataset, data_root)
    return "prepared"


def _state_without_raw_files(dataset: Dataset | LargeDataset, data_root: Path) -> str:
    try:
        check_undamaged(_prepared_folder(dataset, data_root))
    except DataError:
        return "damaged"
    return "missing"


def prepare(
    name: str,
    data_root: Path,
    raw: Path | None = None,
    progress: Say | None = None,
    *,
    accept_unknown: bool = False,
    malformed_share: float = MALFORMED_SHARE,
    address: str | None = None,
) -> PreparedDataset:
    """Prepare a dataset, unless that is done already from the same files by the same version.

    Files of known checksum are taken. Others have to have the known number of lines and give the known counts;
    then they are taken when they give known rows, or, where a dataset allows it, with a note that goes beside every
    result. With `accept_unknown` any file that can be read is taken, with the note.

    Large datasets are prepared by Ray; their files are taken whatever their counts, which are noted where they differ
    from the published ones.

    A known file of item text is taken along, now or when the dataset is prepared again, from beside the raw files or
    from wherever raw files are looked for; where there is none, `progress` is told.

    Args:
        name: the dataset.
        data_root: where prepared data, and downloads, go.
        raw: a folder that holds the dataset's raw files, or its raw folder.
        progress: told what is being done.
        accept_unknown: take files whose checksums, lines or counts are not the known ones.
        malformed_share: of a large dataset, more malformed lines than this share of a file's are an error.
        address: of a large dataset, the Ray cluster that prepares it; one is started on this machine by default.

    Raises:
        InputError: there is no dataset of this name.
        NoDataError: there are no raw files, and they cannot be downloaded.
        DataError: some raw files are missing, they cannot be downloaded or read, or differ from the known ones; or what
            is prepared is damaged, and there are none to prepare it from.
    """
    dataset = find(name)
    folder = _prepared_folder(dataset, data_root)
    say = progress or (lambda line: None)
    try:
        with exclusive(folder.parent / f".{name}.lock"):
            prepared = _done_without_raw_files(dataset, data_root, raw)
            places = list(_raw_folders(dataset, data_root, None))
            if prepared is None:
                place, layout = _locate(dataset, data_root, raw, say)
                if isinstance(dataset, LargeDataset):
                    return _prepare_large(dataset, folder, place, say, malformed_share, address)
                prepared = _prepare(dataset, folder, place, layout, say, accept_unknown)
                places.insert(0, place)
            if dataset.item_text is not None:
                keep_item_text(prepared, dataset.item_text, places, say)
            return prepared
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}); nothing was kept") from None


def _done_without_raw_files(
    dataset: Dataset | LargeDataset, data_root: Path, raw: Path | None
) -> PreparedDataset | None:
    """Return the dataset if it is prepared and no raw files are there to compare."""
    if raw is not None or any(_layouts_in(dataset, place) for place in _raw_folders(dataset, data_root, None)):
        return None
    return _prepared_or_none(dataset, _prepared_folder(dataset, data_root))


def _prepare_large(
    dataset: LargeDataset, folder: Path, place: Path, say: Say, malformed_share: float, address: str | None
) -> PreparedDataset:
    if isinstance(dataset, GeneratedDataset):
        dataset.check_files(place)
    say(f"reading {place}")
    inputs = [input_file(place / name) for name in dataset.layouts[0]]
    done = _prepared_or_none(dataset, folder)
    if done and list(done.schema.inputs) == inputs:
        return done
    _remove_leftovers(folder)
    from harness.datasets.large.preparation import prepare_large  # Ray is imported where it is needed only

    return prepare_large(folder, dataset, place, say, inputs=inputs, malformed_share=malformed_share, address=address)


def _prepare(
    dataset: Dataset, folder: Path, place: Path, layout: Layout, say: Say, accept_unknown: bool
) -> PreparedDataset:
    files = read_raw(place, layout)
    inputs = [file.input() for file in files.values()]
    done = _prepared_or_none(dataset, folder)
    if done and list(done.schema.inputs) == inputs:
        return done
    say(f"reading {place}")
    contents = _checked_contents(dataset, files, layout, accept_unknown)
    _remove_leftovers(folder)
    say(f"writing {folder}")
    return write_prepared(folder, contents, name=dataset.name, version=dataset.version, inputs=inputs)


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed preparation left; the caller holds the lock."""
    for kind in ("partial", "old"):
        for leftover in folder.parent.glob(f".{folder.name}.*.{kind}"):
            shutil.rmtree(leftover, ignore_errors=True)


def find_raw_file(dataset: Dataset | LargeDataset, file: str, data_root: Path) -> RawFile:
    """Read one raw file of a dataset, from wherever its raw files may be.

    Raises:
        DataError: there is none.
    """
    folders = list(_raw_folders(dataset, data_root, None))
    for folder in folders:
        if (folder / file).is_file():
            return read_raw(folder, {file: KnownFile(0)})[file]
    raise DataError(
        f"{dataset.name}: no {file}; put it into {folders[-1]}, or name its folder to `diffbench data prepare"
        f" {dataset.name} --raw`"
    )


def verify(name: str, data_root: Path) -> list[str]:
    """Check a prepared dataset against its schema: the hash of its content, the splits' sizes, and the known counts.

    Returns:
        One line for each problem; none when all is well.

    Raises:
        InputError: there is no dataset of this name.
    """
    dataset = find(name)
    try:
        prepared = open_dataset(name, data_root)
        schema = prepared.schema
        if schema.layout == "parts":
            return verify_large(prepared)
        names = ("rows", "users", "items") if schema.kind == "interactions" else tuple(schema.splits)
        tables = {table: read_table(prepared.folder / f"{table}.parquet") for table in names}
    except DataError as error:
        return [str(error)]
    problems = _hash_problems(prepared, tables) + _split_problems(prepared, tables)
    if dataset.item_text is not None:
        problems += kept_problems(prepared, dataset.item_text)
    if not schema.note.startswith(UNKNOWN):
        measured = {**schema.facts, "users": schema.users, "items": schema.items}
        measured |= {split: known.rows for split, known in schema.splits.items()}
        problems += [f"{name}: {line}" for line in _different_counts(dataset, measured)]
    return problems


def _hash_problems(prepared: PreparedDataset, tables: Mapping[str, Table]) -> list[str]:
    schema, descriptions = prepared.schema, prepared.folder / DESCRIPTIONS
    remedy = f"delete {prepared.folder} and prepare it again"
    problems = []
    if dataset_hash(row_hash(tables), schema.descriptions) != schema.hash:
        problems.append(f"{schema.name}: the rows differ from schema.json's hash; {remedy}")
    found = input_file(descriptions).sha256 if descriptions.is_file() else ""
    if found != schema.descriptions:
        problems.append(f"{schema.name}: {DESCRIPTIONS} differs from schema.json's hash; {remedy}")
    return problems


def _split_problems(prepared: PreparedDataset, tables: Mapping[str, Table]) -> list[str]:
    schema = prepared.schema
    problems = []
    for split, known in schema.splits.items():
        table, column = (split, "target") if schema.kind == "sequences" else ("rows", known.column)
        if column not in tables[table]:
            path = prepared.folder / f"{table}.parquet"
            problems.append(f"{path}: no column {column}; delete {prepared.folder} and prepare it again")
            continue
        values = tables[table][column]
        rows = len(values) if schema.kind == "sequences" else np.count_nonzero(values == known.code)
        if rows != known.rows:
            problems.append(f"{schema.name}: split {split} has {rows:,} rows, schema.json says {known.rows:,}")
    return list(dict.fromkeys(problems))  # several splits may lack the same column


UNKNOWN = "not the known files: "


def _checked_contents(dataset: Dataset, files: RawFiles, layout: Layout, accept_unknown: bool) -> Contents:
    unknown = [file for name, file in files.items() if file.sha256 not in layout[name].sha256]
    if not accept_unknown:
        for file in unknown:
            check_lines(file, layout[file.name])
    contents = dataset.parse(files)
    if unknown and row_hash(contents.tables) in dataset.row_hashes:
        return contents
    measured = {**contents.facts, "users": contents.users, "items": contents.items}
    measured |= {split: schema.rows for split, schema in contents.splits.items()}
    wrong = _different_counts(dataset, measured)
    names = ", ".join(f"{file.name} (sha256 {file.sha256[:12]})" for file in unknown)
    if accept_unknown and unknown:
        return _with_note(contents, f"{UNKNOWN}{names}")
    if wrong:
        raise DataError(f"{dataset.name}: {wrong[0]}; {', '.join(files)} differ from the known files")
    if unknown and not dataset.counts_suffice:
        known = " or ".join(layout[unknown[0].name].sha256)
        raise DataError(
            f"{unknown[0].name}: sha256 {unknown[0].sha256}{f', {known} expected' if known else ''}; it has the right"
            f" number of lines but other rows, altered or reordered; get the known file, or pass --accept-unknown"
        )
    return _with_note(contents, f"taken by their counts: {names}") if unknown else contents


def _with_note(contents: Contents, note: str) -> Contents:
    return Contents(**{**vars(contents), "note": "; ".join(part for part in (note, contents.note) if part)})


def _different_counts(dataset: Dataset | LargeDataset, measured: Mapping[str, int]) -> list[str]:
    return [
        f"{what.replace('_', ' ')}: {measured.get(what, 0):,}, {expected:,} expected"
        for what, expected in dataset.facts.items()
        if measured.get(what) != expected
    ]


def _prepared_folder(dataset: Dataset | LargeDataset, data_root: Path) -> Path:
    return data_root / "prepared" / dataset.name


def _prepared_or_none(dataset: Dataset | LargeDataset, folder: Path) -> PreparedDataset | None:
    try:
        prepared = open_prepared(folder)
    except DataError:
        return None
    return None if _outdated(dataset, prepared) else prepared


def _outdated(dataset: Dataset | LargeDataset, prepared: PreparedDataset) -> str:
    """Return why a dataset has to be prepared again; empty if it need not."""
    if prepared.schema.version != dataset.version:
        return "prepared by another version"
    if not prepared.schema.descriptions and (prepared.folder / DESCRIPTIONS).is_file():
        return f"its hash leaves out {DESCRIPTIONS}"
    return ""


def _raw_folders(dataset: Dataset | LargeDataset, data_root: Path, raw: Path | None) -> Iterator[Path]:
    """Yield the folders that may hold the raw files; only those that the caller names, if any.

    They are absolute, as Ray's tasks that read them run in other folders.
    """
    if raw is not None:
        raw = raw.absolute()
        yield from (raw, raw / dataset.folder, raw / PurePosixPath(dataset.folder).name)
        return
    if os.environ.get("DIFFBENCH_DATA"):
        yield Path(os.environ["DIFFBENCH_DATA"]).absolute() / dataset.folder
    yield data_root / "raw" / dataset.folder


def _layouts_in(dataset: Dataset | LargeDataset, folder: Path) -> list[Layout]:
    """Return the layouts of which this folder has any file, those first that lack the fewest."""
    lacking = {id(layout): sum(not (folder / name).is_file() for name in layout) for layout in dataset.layouts}
    some = [layout for layout in dataset.layouts if lacking[id(layout)] < len(layout)]
    return sorted(some, key=lambda layout: lacking[id(layout)])


def _locate(dataset: Dataset | LargeDataset, data_root: Path, raw: Path | None, say: Say) -> tuple[Path, Layout]:
    folders = list(_raw_folders(dataset, data_root, raw))
    for folder in folders:
        layouts = _layouts_in(dataset, folder)
        if layouts:
            return folder, layouts[0]
    if raw is not None or dataset.download is None:
        if raw is None:
            check_undamaged(_prepared_folder(dataset, data_root))
        raise NoDataError(f"{dataset.name}: no raw files; put {dataset.source} into {folders[0 if raw else -1]}")
    dataset.download(folders[-1], say)
    return folders[-1], _layouts_in(dataset, folders[-1])[0]
