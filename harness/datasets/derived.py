"""What is derived from a prepared dataset lies beside its files, under their hash, and is written once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.datasets.prepared import PreparedDataset, open_prepared
from harness.datasets.writing import written_once
from harness.errors import DataError


def derived_folder(
    dataset: PreparedDataset, kind: str, write: Callable[[PreparedDataset, Path], None], what: str
) -> Path:
    """Return the folder `<kind>/<hash>` beside a dataset's files, writing it from them first when no process has yet.

    Raises:
        DataError: the dataset's files are missing, damaged or other rows' by now, or its folder cannot be written.
    """
    folder = dataset.folder / kind / dataset.hash[:16]

    def write_checked(partial: Path) -> None:
        write(dataset, partial)
        check_unchanged(dataset)  # before it has its name: what was written of other rows is not kept

    with unchanged(dataset):
        written_once(folder, write_checked, what)
    return folder


@contextlib.contextmanager
def unchanged(dataset: PreparedDataset) -> Iterator[None]:
    """Make sure that what the body reads of a dataset's folder is of the rows that were opened.

    Preparing a dataset anew puts another folder in the place of its own, at any time.

    Raises:
        DataError: other rows lie there, before or after the body, or once it has failed.
    """
    check_unchanged(dataset)
    try:
        yield
    except Exception:
        check_unchanged(dataset)
        raise
    check_unchanged(dataset)


def check_unchanged(dataset: PreparedDataset) -> None:
    """Check that a dataset's folder still holds the rows that were opened.

    Raises:
        DataError: it holds others, or none.
    """
    with contextlib.suppress(DataError):
        if open_prepared(dataset.folder).hash == dataset.hash:
            return
    raise DataError(
        f"{dataset.name}: {dataset.folder} was prepared anew while it was in use, or removed; run the command again"
    )
