from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pyarrow import fs

from harness.record import TrialResult
from harness.specs import TrialSpec


def result(seed: int = 0) -> TrialResult:
    spec = TrialSpec(
        task="next_item",
        dataset="d",
        dataset_hash="h",
        method="m",
        parameters={"rate": 0.1},
        versions={"m": 1},
        seed=seed,
        threads=1,
        purpose="repeat",
    )
    return TrialResult(id=spec.id, spec=spec, status="finished", metrics={"test/recall@5": 0.25 + seed})


class Flaky:
    """A file system that fails after some bytes of the files with this name."""

    def __init__(self, inner: fs.FileSystem, name: str, number: int, after: int = 10) -> None:
        self._inner, self._name, self._number, self._after = inner, name, number, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextlib.contextmanager
    def open_output_stream(self, path: str, compression: str | None) -> Iterator[Flaky]:
        with self._inner.open_output_stream(path, compression=compression) as self._stream:
            self._fails = self._name in path
            yield self

    def write(self, content: bytes) -> None:
        if self._fails:
            self._stream.write(content[: self._after])
            raise OSError(self._number, "as the system says")
        self._stream.write(content)
