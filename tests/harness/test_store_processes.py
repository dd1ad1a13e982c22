"""A store under several processes: claims, writers that die, readers beside writers."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.store import RECORD, Store
from tests.harness.store_example import Flaky, result


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


# Claims


HOLD = """
import sys, time
from harness.store import Store
with Store(sys.argv[1]).claim("table csdm/table1", wait=True):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a claim."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, store.location], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_claim_is_told_who_holds_it(store: Store, holder: subprocess.Popen[str]) -> None:
    told = rf"^table csdm/table1: another run is at work on it \(process {holder.pid} on .*\); wait for it, or stop it$"
    with pytest.raises(StoreError, match=told), store.claim("table csdm/table1", wait=False):
        pass
    with store.claim("table csdm/table2", wait=False):
        pass


def test_a_killed_holder_lets_go(store: Store, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with store.claim("table csdm/table1", wait=False):
        pass


def test_a_claim_waits_for_its_holder(store: Store, holder: subprocess.Popen[str]) -> None:
    killer = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(0.3); os.kill({holder.pid}, 9)"])
    assert holder.poll() is None
    with store.claim("table csdm/table1", wait=True):
        holder.wait(5)  # it was alive before, and is not now
    killer.wait()


@pytest.mark.parametrize("as_uri", [False, True])
def test_claims_exclude_within_a_process_too(as_uri: bool, store: Store) -> None:
    other = Store(Path(store.location).as_uri()) if as_uri else Store(store.location)
    with store.claim("a", wait=False):
        with pytest.raises(StoreError, match="another run"), other.claim("a", wait=False):
            pass
        with other.claim("b", wait=False):
            pass
    with other.claim("a", wait=False):
        pass
    assert store.ids() == []


def test_a_claim_is_let_go_after_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.claim("a", wait=False):
        raise ZeroDivisionError
    with store.claim("a", wait=False):
        pass


# Processes that die, and readers beside writers


WRITE = """
import sys
from harness.record import TrialResult
from harness.store import Store
store, content = Store(sys.argv[1]), sys.stdin.buffer.read()
result = TrialResult.from_json(content)
files = {"a": bytes(3_000_000), "b": bytes(100)}
print("ready", flush=True)
while True:
    store.write(result, files)
    store.remove(result.id)
"""


def test_a_writer_that_is_killed_leaves_nothing_that_is_taken_for_finished(store: Store) -> None:
    """Killed at some moment of writing and removing, again and again: the record is whole, with its files, or none."""
    chosen, seen = random.Random(0), []
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, store.location], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(result().to_json())
        process.stdin.close()
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chosen.uniform(0, 0.05))
        process.kill()
        process.wait()
        process.stdout.close()
        record = store.record(result().id)
        seen.append(record is not None)
        assert record is None or store.record(record.id, with_files=True) == record
        store.remove(result().id)
    assert not all(seen)


def test_a_killed_write_leaves_no_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after each of its operations on files, as kill -9 stops it."""
    operations = 0

    class Killed(BaseException):
        pass

    class Counting(Flaky):
        def __getattr__(self, name: str) -> Any:
            nonlocal operations
            if name in ("move", "create_dir"):
                operations += 1
                if operations > self._number:
                    raise Killed
            return super().__getattr__(name)

    inner = store._files
    for number in range(100):
        operations = 0
        monkeypatch.setattr(store, "_files", Counting(inner, "no such file", number))
        try:
            store.write(result(), {"a": b"1", "b": b"2"})
        except Killed:
            monkeypatch.setattr(store, "_files", inner)
            assert store.record(result().id) is None
        else:
            break
    assert number == 6  # create and move, for two files and the record
    assert store.record(result().id, with_files=True) is not None


def test_a_reader_does_not_take_a_record_that_is_being_written_for_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Store(store.location)
    looked = []

    class ReadMeanwhile(Flaky):
        def write(self, content: bytes) -> None:
            for part in (content[:10], content[10:]):
                looked.append(reader.record(result().id))
                self._stream.write(part)
                self._stream.flush()

    monkeypatch.setattr(store, "_files", ReadMeanwhile(store._files, RECORD, 0))
    written = store.write(result(), {"a": b"1" * 100})
    assert looked == [None] * 4
    assert reader.record(result().id, with_files=True) == written
    assert sorted(path.name for path in (Path(store.location) / written.id).iterdir()) == ["a", RECORD]
