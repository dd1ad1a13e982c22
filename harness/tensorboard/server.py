"""TensorBoard itself, on this machine only."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from harness.errors import InputError

HOST = "127.0.0.1"
START_SECONDS = 120.0


def serve(logdir: Path, port: int, say: Callable[[str], None] = print) -> None:
    """Run TensorBoard on loopback until it is interrupted; say its address once it answers.

    Raises:
        InputError: the port is taken, or TensorBoard does not start.
    """
    # Whoever ends this process means TensorBoard too; a child that lives on would keep the port.
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        process = start(logdir, port)
        try:
            say(f"TensorBoard is at http://{HOST}:{port}/ (Ctrl-C ends it)")
            process.wait()
        finally:
            stop(process)
    except KeyboardInterrupt:
        say("TensorBoard ended")
    finally:
        signal.signal(signal.SIGTERM, before)


def start(logdir: Path, port: int) -> subprocess.Popen[bytes]:
    """Start TensorBoard on loopback and return its process once it answers; `stop` ends it.

    Raises:
        InputError: the port is taken, or TensorBoard does not start.
    """
    _check_free(port)
    logdir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", HOST, "--port", str(port)]
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
        try:
            _wait_until_it_answers(process, port, messages)
        except BaseException:
            stop(process)
            raise
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and wait for it; nothing happens when it has ended."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"port {port} cannot be used ({reason}); choose another with --port") from None


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, messages: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((HOST, port)) == 0:
                return
        if time.monotonic() > deadline:
            raise InputError(f"TensorBoard did not answer at port {port} within {START_SECONDS:.0f} s; try again")
        time.sleep(0.1)
    messages.seek(0)
    lines = messages.read().decode(errors="replace").strip().splitlines()
    raise InputError(f"TensorBoard did not start at port {port}: {lines[-1] if lines else 'no reason given'}")


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signum)
