"""What identifies the code of methods that lie in a package of somebody's own."""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Iterable
from pathlib import Path

PROGRAM = frozenset({"harness", "trainables"})
"""The packages whose code every trial's `code_hash` covers."""


def own_code_hash(classes: Iterable[type]) -> str:
    """Identify the code of the packages of these classes, but for this program's: 12 hexadecimal digits.

    It is empty where all classes are this program's. As of this program all sources of a package count, whatever
    module of it a class is in.
    """
    packages = sorted({cls.__module__.split(".")[0] for cls in classes} - PROGRAM)
    return _hash_of(tuple(packages)) if packages else ""


@functools.cache
def _hash_of(packages: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for package in packages:
        for name, path in sorted(_sources(package)):
            digest.update(name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _sources(package: str) -> list[tuple[str, Path]]:
    """Return the source files of a package, or of a module that is in none, by their names in it."""
    module = importlib.import_module(package)
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    if not folders:
        return [(package, Path(str(module.__file__)))]
    return [
        (f"{package}/{path.relative_to(folder).as_posix()}", path)
        for folder in folders
        for path in folder.rglob("*.py")
    ]
