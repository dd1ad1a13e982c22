from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from harness.errors import StoreError
from harness.estimate import known_trials
from harness.record import _checksum
from harness.store import RECORD, Store
from tests.harness.store_example import Flaky, result


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture(params=["folder", "file", "fsspec"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    folder = tmp_path / "runs of 2024"
    kinds = {"folder": str(folder), "file": folder.as_uri(), "fsspec": f"fsspec+memory://{tmp_path.name}/runs"}
    return Store(kinds[request.param])


# What a store holds


def test_what_is_written_is_read_back(any_store: Store) -> None:
    written = any_store.write(result(), {"a.bin": b"\x00\xff", "empty": b""})
    assert any_store.record(written.id) == written
    assert any_store.record(written.id, with_files=True) == written
    assert any_store.file(written, "a.bin") == b"\x00\xff"
    assert any_store.file(written, "empty") == b""
    assert any_store.file(written, "other") is None
    assert any_store.ids() == [written.id]
    assert any_store.unfinished() == []


def test_an_empty_store_has_nothing(any_store: Store) -> None:
    assert any_store.ids() == any_store.unfinished() == []
    assert any_store.record("0" * 20) is None
    any_store.remove("0" * 20)
    any_store.check_writable()
    assert any_store.ids() == []


def test_a_removed_trial_is_gone(any_store: Store) -> None:
    kept, removed = any_store.write(result(0), {}), any_store.write(result(1), {"a": b"1"})
    any_store.remove(removed.id)
    assert any_store.record(removed.id) is None
    assert any_store.ids() == [kept.id]


def test_a_store_can_be_copied_and_moved(store: Store, tmp_path: Path) -> None:
    written = store.write(result(), {"a": b"1"})
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert store.record(written.id) is None
    assert Store(tmp_path / "elsewhere").record(written.id, with_files=True) == written


def test_a_relative_location_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("runs")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    written = store.write(result(), {})
    assert (tmp_path / "runs" / written.id / RECORD).is_file()


def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written = Store("~/runs").write(result(), {})
    assert (tmp_path / "runs" / written.id / RECORD).is_file()


@pytest.mark.parametrize(
    "location", ["nowhere://x", "file://host/runs", "fsspec+nowhere://x", "~nobody-of-this-name/x"]
)
def test_an_unknown_kind_of_location_is_one_line(location: str) -> None:
    with pytest.raises(StoreError, match=f"^store {location.replace('+', '.')}: cannot be used") as caught:
        Store(location)
    assert "\n" not in str(caught.value)


def test_a_path_that_cannot_be_one_is_one_line() -> None:
    store = Store("a\0b")
    for action in (store.check_writable, store.ids, lambda: store.record("a"), lambda: store.write(result(), {})):
        with pytest.raises(StoreError, match=r"^store .*: cannot"):
            action()


def test_a_location_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    store = Store(tmp_path / "runs")
    for action in (store.check_writable, store.ids, lambda: store.record("a"), lambda: store.write(result(), {})):
        with pytest.raises(StoreError, match="Not a directory"):
            action()
    with pytest.raises(StoreError), store.claim("a", wait=False):
        pass


@pytest.mark.parametrize(
    ("location", "checkpoints"),
    [
        ("s3://bucket/runs?region=eu-west-1", "s3://bucket/runs/.checkpoints?region=eu-west-1"),
        (
            "s3://bucket/runs/?region=eu-west-1&scheme=http",
            "s3://bucket/runs/.checkpoints?region=eu-west-1&scheme=http",
        ),
        ("fsspec+memory://here/runs", "fsspec+memory://here/runs/.checkpoints"),
    ],
)
def test_workers_leave_checkpoints_in_the_stores_folder_whatever_options_its_uri_has(
    location: str, checkpoints: str
) -> None:
    store = Store(location)
    assert store.checkpoints == checkpoints
    assert fs.FileSystem.from_uri(checkpoints)[1] == f"{store._root}/.checkpoints", "where the store removes them"


def test_a_folder_may_have_a_question_mark_in_its_name(tmp_path: Path) -> None:
    assert Store(tmp_path / "runs?").checkpoints == str(tmp_path / "runs?/.checkpoints")


# Damage


def damaged(content: bytes) -> Mapping[str, bytes]:
    other = json.loads(result(1).to_json())
    chosen = bytearray(content)
    chosen[content.index(b"0.25")] ^= 1
    return {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "one bit": bytes(chosen),
        "another trial's": json.dumps(other).encode(),
        "no text": bytes(range(256)),
    }


@pytest.mark.parametrize("kind", ["truncated", "empty", "one bit", "another trial's", "no text"])
def test_a_damaged_record_is_set_aside_and_can_be_written_again(kind: str, store: Store, tmp_path: Path) -> None:
    written = store.write(result(), {})
    path = tmp_path / "runs" / written.id / RECORD
    content = damaged(path.read_bytes())[kind]
    path.write_bytes(content)
    assert store.record(written.id) is None
    assert not path.exists()
    assert path.with_name(f"{RECORD}.damaged").read_bytes() == content
    assert store.unfinished() == [written.id]
    store.write(result(), {})
    assert store.record(written.id) == written


def test_a_record_of_another_version_is_left_where_it_is(store: Store, tmp_path: Path) -> None:
    written = store.write(result(), {})
    path = tmp_path / "runs" / written.id / RECORD
    document = json.loads(path.read_bytes())
    document["result"]["energy_joules"] = 1.5
    document["sha256"] = _checksum(document["result"])
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="another version of diffbench wrote its record"):
        store.record(written.id)
    kept = store.write(result(1), {})
    assert known_trials(store) == [kept]
    assert json.loads(path.read_bytes()) == document


def test_who_fails_to_write_takes_no_finished_trial_away(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = store.write(result(), {})
    late = Store(tmp_path / "runs")
    monkeypatch.setattr(late, "_files", Flaky(late._files, f"{written.id}/{RECORD}", errno.EIO))
    with pytest.raises(StoreError, match="Input/output error"):
        late.write(result(), {})
    assert store.record(written.id) == written


def test_many_who_write_one_trial_leave_it_whole(tmp_path: Path) -> None:
    stores = [Store(tmp_path / "runs") for _ in range(4)]
    with ThreadPoolExecutor(len(stores)) as threads:
        for number in range(50):
            trial = result(number)
            for written in threads.map(lambda store, trial=trial: store.write(trial, {"a": b"1"}), stores):
                assert stores[0].record(written.id, with_files=True) == written
    assert not list((tmp_path / "runs").glob("*/*.partial"))


def test_damage_is_found_in_any_kind_of_store(any_store: Store) -> None:
    written = any_store.write(result(), {"a": b"123"})
    any_store._write(written.id, RECORD, written.to_json()[:-5])
    assert any_store.record(written.id) is None
    assert any_store.unfinished() == [written.id]


@pytest.mark.parametrize("content", [None, b"12", b"124"])
def test_a_missing_or_damaged_file_is_not_handed_out(content: bytes | None, store: Store, tmp_path: Path) -> None:
    written = store.write(result(), {"a": b"123", "b": b"4"})
    path = tmp_path / "runs" / written.id / "a"
    path.unlink() if content is None else path.write_bytes(content)
    assert store.file(written, "a") is None
    assert store.file(written, "b") == b"4"
    assert store.record(written.id) == written
    assert store.record(written.id, with_files=True) is None
    assert store.record(written.id) is None


def test_damage_in_a_store_that_cannot_be_written_is_no_error(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    written = store.write(result(), {})
    (tmp_path / "runs" / written.id / RECORD).write_bytes(b"{")
    read_only = ReadOnly(store._files)
    monkeypatch.setattr(store, "_files", read_only)
    assert store.record(written.id) is None
    assert read_only.refused == ["move"]


class ReadOnly:
    """A file system that only reads."""

    def __init__(self, inner: fs.FileSystem) -> None:
        self._inner = inner
        self.refused: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name in ("move", "create_dir", "delete_dir", "delete_file", "open_output_stream"):
            self.refused.append(name)
            return self._refuse
        return getattr(self._inner, name)

    def _refuse(self, *arguments: object, **keys: object) -> None:
        raise OSError(errno.EROFS, "as the system says")


# Disks that are full or read-only


@pytest.mark.parametrize("name", ["a", "b", RECORD])
@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "No space left"), (errno.EIO, "Input/output error")])
def test_a_write_that_fails_leaves_nothing_of_the_trial(
    name: str, number: int, words: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store.write(result(0), {"a": b"1"})
    monkeypatch.setattr(store, "_files", Flaky(store._files, f"{result(1).id}/{name}", number))
    with pytest.raises(StoreError, match=rf"{words}.*; finished trials are kept$") as caught:
        store.write(result(1), {"a": b"1" * 100, "b": b"2" * 100})
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [kept.id]
    assert store.record(kept.id, with_files=True) == kept


def test_a_file_is_on_the_disk_before_it_has_its_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[int, bool]] = []
    target = tmp_path / "runs/.checkpoints/trial-code/running.pt"
    monkeypatch.setattr("os.fsync", lambda handle: flushed.append((os.fstat(handle).st_size, target.exists())))
    store.write_checkpoint("trial-code", "running.pt", b"1" * 1000)
    assert flushed == [(1000, False)]
    assert target.stat().st_size == 1000


@pytest.mark.parametrize("failing", ["write", "rename"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before_and_takes_no_room(
    failing: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_checkpoint("trial-code", "running.pt", b"before")
    full = Flaky(store._files, "running.pt", errno.ENOSPC) if failing == "write" else NoRename(store._files)
    monkeypatch.setattr(store, "_files", full)
    for _ in range(3):
        with pytest.raises(StoreError):
            store.write_checkpoint("trial-code", "running.pt", b"2" * 1000)
    assert [path.name for path in (tmp_path / "runs/.checkpoints/trial-code").iterdir()] == ["running.pt"]
    assert store.checkpoint("trial-code", "running.pt") == b"before"


class NoRename:
    """A file system that renames nothing."""

    def __init__(self, inner: fs.FileSystem) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def move(self, source: str, destination: str) -> None:
        raise OSError(errno.EIO, "as the system says")


def test_a_read_only_store_is_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written = store.write(result(), {})
    monkeypatch.setattr(store, "_files", ReadOnly(store._files))
    for action in (store.check_writable, lambda: store.write(result(1), {}), lambda: store.remove(written.id)):
        with pytest.raises(StoreError, match=r"Read-only file system; finished trials are kept$"):
            action()
    assert store.record(written.id) == written


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs more rights than this process has")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    store = Store(small_disk / "runs")
    kept = store.write(result(0), {"a": bytes(100_000)})
    with pytest.raises(StoreError, match=r"No space left on device; finished trials are kept$"):
        store.write(result(1), {"a": bytes(50_000), "b": bytes(200_000)})
    assert store.ids() == [kept.id]
    assert store.record(kept.id, with_files=True) == kept
    store.write(result(1), {"a": bytes(100_000)})  # what was written in vain takes no room


def test_a_disk_without_a_free_byte(small_disk: Path) -> None:
    store = Store(small_disk / "runs")
    kept = store.write(result(0), {})
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
        while stream.write(bytes(4096)):
            pass
    claim = store.claim("a", wait=False)
    for action in (store.check_writable, lambda: store.write(result(1), {}), claim.__enter__):
        with pytest.raises(StoreError, match="No space left on device"):
            action()
    assert store.ids() == [kept.id]
    assert store.record(kept.id) == kept


def test_a_disk_mounted_read_only(small_disk: Path) -> None:
    store = Store(small_disk / "runs")
    kept = store.write(result(0), {"a": b"1"})
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    claim = store.claim("a", wait=False)
    for action in (store.check_writable, lambda: store.write(result(1), {}), claim.__enter__):
        with pytest.raises(StoreError, match="Read-only file system"):
            action()
    assert store.ids() == [kept.id]
    assert store.record(kept.id, with_files=True) == kept
