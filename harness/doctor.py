"""What can be wrong with an installation, looked at one by one."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from harness.errors import DiffbenchError
from harness.places import Places

PACKAGES = ("torch", "ray", "optuna", "pandas", "pyarrow", "tensorboard", "pydantic")
FREE_BYTES = 5 * 2**30


@dataclass(frozen=True)
class Check:
    """One finding."""

    what: str
    good: bool
    finding: str


def examine(here: Places) -> Iterator[Check]:
    """Yield one finding after the other: environment, Ray, data, store, disk."""
    yield Check("python", sys.version_info >= (3, 11), platform.python_version())
    for name in PACKAGES:
        yield _package(name)
    yield _attempt("processor", lambda: f"{os.cpu_count()} CPUs, {_gpus()}")
    yield _attempt("ray", _ray)
    yield _attempt("search spaces", lambda: _methods(here))
    yield from _data(here)
    yield _attempt("store", lambda: _store(here))
    free = shutil.disk_usage(_existing(here)).free
    yield Check("disk", free >= FREE_BYTES, f"{free / 2**30:.0f} GiB free, {FREE_BYTES / 2**30:.0f} GiB wanted")


def _package(name: str) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, "not installed; run `make install`")


def _attempt(what: str, look: Callable[[], str]) -> Check:
    try:
        return Check(what, True, look())
    except DiffbenchError as error:
        return Check(what, False, str(error))
    except ImportError as error:
        return Check(what, False, f"{error}; run `make install`")


def _gpus() -> str:
    import torch

    return f"{torch.cuda.device_count()} GPUs"


def _ray() -> str:
    from harness.cluster import connected

    with connected() as capacity:
        return f"starts; {capacity.cpus:g} CPUs, {capacity.gpus:g} GPUs"


def _methods(here: Places) -> str:
    from harness.methods import MethodCatalog, load_class

    catalog = MethodCatalog(here.search_spaces)
    for name in catalog.names():
        load_class(catalog.find(name))
    return f"{len(catalog.names())} methods load"


def _data(here: Places) -> Iterator[Check]:
    from harness.datasets import catalog

    for name in catalog.dataset_names():
        state = catalog.status(name, here.data)
        yield Check(name, True, state)


def _store(here: Places) -> str:
    from harness.store import Store

    store = Store(here.store)
    store.check_writable()
    unfinished = store.unfinished()
    return f"{here.store}: {len(store.ids()) - len(unfinished)} trials finished, {len(unfinished)} interrupted"


def _existing(here: Places) -> str:
    folder = here.data
    while not folder.exists():
        folder = folder.parent
    return str(folder)
