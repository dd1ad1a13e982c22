"""The store: one folder a trial, named by its id, in a local folder or at any URI that pyarrow knows.

Those that fsspec knows are written `fsspec+memory://…`. A trial is finished when its `result.json`, written last, is
there and whole. An object store shows a file when all of it is there; a local one is made to do so by renaming.
Finished trials are never written again, so a store can be shared, copied and merged.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from pyarrow import fs

from harness.errors import StoreError
from harness.record import TrialResult

RECORD = "result.json"
CHECKPOINTS = ".checkpoints"


class Store:
    """Trial folders under one location.

    Raises:
        StoreError: the location cannot be used (on construction), or reading or writing fails (later).
    """

    def __init__(self, location: str | Path) -> None:
        self.location = str(location)
        self._files: fs.FileSystem
        try:
            if "://" in self.location:
                self._files, root = fs.FileSystem.from_uri(self.location)
            else:
                self._files, root = fs.LocalFileSystem(), str(Path(self.location).expanduser().absolute())
        except (OSError, ValueError, RuntimeError, ImportError) as error:  # RuntimeError: ~ of nobody
            raise StoreError(f"store {self.location}: cannot be used ({_reason(error)})") from None
        self.local = isinstance(self._files, fs.LocalFileSystem)
        self._root = root.rstrip("/")

    def record(self, trial_id: str, *, with_files: bool = False) -> TrialResult | None:
        """Return the finished trial's record, or None.

        A damaged one is set aside as `result.json.damaged`, so that the trial runs again; `with_files` counts a
        missing or damaged file of the trial as damage, too.

        Raises:
            StoreError: it is whole, but another version of this program wrote it.
        """
        content = self._read(trial_id, RECORD)
        if content is None:
            return None
        try:
            result = TrialResult.from_json(content)
            if result.id != trial_id:
                raise ValueError(f"it is trial {result.id}'s")
            if with_files and any(self.file(result, name) is None for name in result.files):
                raise ValueError("a file is missing or damaged")
            return result
        except ValueError:
            # In a store that is only read, or when another process was faster, it stays or is gone: not finished.
            with contextlib.suppress(StoreError):
                self._rename(trial_id, RECORD, f"{RECORD}.damaged")
            return None

    def file(self, result: TrialResult, name: str) -> bytes | None:
        """Return a file of a finished trial, or None when it is missing or differs from its record."""
        content = self._read(result.id, name)
        if content is None or hashlib.sha256(content).hexdigest() != result.files.get(name):
            return None
        return content

    def write(self, result: TrialResult, files: Mapping[str, bytes]) -> TrialResult:
        """Write a trial's files and then its record; return the record with the files' hashes.

        Raises:
            StoreError: the disk is full or the store read-only; what was written of this trial is removed.
        """
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        complete = result.model_copy(update={"files": hashes})
        try:
            for name, content in files.items():
                self._write(result.id, name, content)
            self._write(result.id, RECORD, complete.to_json())
        except StoreError:
            with contextlib.suppress(StoreError):
                if self._read(result.id, RECORD) is None:  # or another process has finished the same trial
                    self.remove(result.id)
            raise
        return complete

    def remove(self, trial_id: str) -> None:
        """Delete a trial's folder, finished or not; the record goes first, as it stands for all the rest."""
        with self._reported(f"remove {trial_id}"):
            with contextlib.suppress(FileNotFoundError):
                self._files.delete_file(f"{self._root}/{trial_id}/{RECORD}")
            with contextlib.suppress(FileNotFoundError):
                self._files.delete_dir(f"{self._root}/{trial_id}")

    @property
    def checkpoints(self) -> str:
        """Where workers leave the checkpoints of trials that run, as a path or URI."""
        if "://" not in self.location:
            return f"{self._root}/{CHECKPOINTS}"
        folder, mark, options = self.location.partition("?")
        return f"{folder.rstrip('/')}/{CHECKPOINTS}{mark}{options}"

    def checkpoint(self, name: str, file: str) -> bytes | None:
        """Return a file of a running trial's checkpoint, or None."""
        return self._read(f"{CHECKPOINTS}/{name}", file)

    def write_checkpoint(self, name: str, file: str, content: bytes) -> None:
        """Write a file of a running trial's checkpoint in place of the one before.

        Raises:
            StoreError: it cannot be written.
        """
        self._write(f"{CHECKPOINTS}/{name}", file, content)

    def remove_checkpoints(self, trial_id: str) -> None:
        """Delete the checkpoints of a trial that has ended, those of other code too: names begin with its id."""
        with contextlib.suppress(OSError):
            selector = fs.FileSelector(f"{self._root}/{CHECKPOINTS}", allow_not_found=True)
            for entry in self._files.get_file_info(selector):
                if entry.base_name.startswith(trial_id):
                    self._files.delete_dir(entry.path)

    def ids(self) -> list[str]:
        """Return the ids of all trial folders, finished or not."""
        selector = fs.FileSelector(self._root, allow_not_found=True)
        with self._reported("list"):
            entries = self._files.get_file_info(selector)
        folders = [entry.base_name for entry in entries if entry.type == fs.FileType.Directory]
        return sorted(name for name in folders if not name.startswith("."))

    def unfinished(self) -> list[str]:
        """Return the ids of folders without a record: trials that were interrupted."""
        return [trial_id for trial_id in self.ids() if self._read(trial_id, RECORD) is None]

    @contextlib.contextmanager
    def claim(self, name: str, *, wait: bool) -> Iterator[None]:
        """Hold a name (a trial's id, a table) against every other process that shares a local store.

        The operating system lets go of it when the process ends, however it ends. A remote store has no locks.

        Raises:
            StoreError: another process holds it and `wait` is false.
        """
        if not self.local:
            yield
            return
        with self._reported(f"lock {name}"):
            folder = Path(self._root) / ".locks"
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / name.replace("/", "-"), os.O_RDWR | os.O_CREAT)
        try:
            with self._reported(f"lock {name}"):
                _lock(handle, name, wait=wait)
            yield
        finally:
            os.close(handle)

    def check_writable(self) -> None:
        """Write and delete a small file.

        Raises:
            StoreError: the store cannot be written.
        """
        try:
            self._write(".probe", "probe", b"probe")
        finally:
            with contextlib.suppress(StoreError):
                self.remove(".probe")

    def _read(self, trial_id: str, name: str) -> bytes | None:
        with self._reported(f"read {trial_id}/{name}"):
            try:
                with self._files.open_input_stream(f"{self._root}/{trial_id}/{name}", compression=None) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def _write(self, trial_id: str, name: str, content: bytes) -> None:
        with self._reported(f"write {trial_id}/{name}"):
            self._files.create_dir(f"{self._root}/{trial_id}", recursive=True)
            # Who reads a local store must not take a file for damaged while it is being written, and who writes the
            # same file must not take this one away.
            written = f"{name}.{uuid.uuid4().hex[:8]}.partial" if self.local else name
            path = f"{self._root}/{trial_id}/{written}"
            try:
                with self._files.open_output_stream(path, compression=None) as stream:
                    stream.write(content)
                if self.local:
                    _reach_the_disk(path)
                    self._rename(trial_id, written, name)
            except BaseException:  # an interruption, too: what is left of each attempt would fill the disk
                if self.local:
                    with contextlib.suppress(OSError):
                        self._files.delete_file(path)
                raise

    def _rename(self, trial_id: str, name: str, new_name: str) -> None:
        with self._reported(f"rename {trial_id}/{name}"):
            self._files.move(f"{self._root}/{trial_id}/{name}", f"{self._root}/{trial_id}/{new_name}")

    @contextlib.contextmanager
    def _reported(self, action: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: a path that pyarrow cannot take
            raise StoreError(
                f"store {self.location}: cannot {action}: {_reason(error)}; finished trials are kept"
            ) from None


def _lock(handle: int, name: str, *, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        holder = os.pread(handle, 100, 0).decode(errors="replace").strip()
        raise StoreError(f"{name}: another run is at work on it ({holder}); wait for it, or stop it") from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)


def _reach_the_disk(path: str) -> None:
    """Wait until a file is on the disk: renamed before, it may be empty or cut off after the machine's sudden end."""
    handle = os.open(path, os.O_RDWR)  # some shared file systems flush nothing through a handle that only reads
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    """Return the system's own words for an error, without the path that pyarrow puts around them."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error).splitlines()[0]
