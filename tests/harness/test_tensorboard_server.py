import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.store import Store
from harness.tensorboard import serve, write_studies, write_trials
from tests.harness.tensorboard_example import TABLE, repeat, search_trial

STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
SESSIONS = json.dumps({"experimentName": "", "allowedStatuses": STATUSES, "colParams": [], "sliceSize": 10}).encode()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    return tmp_path / "tensorboard"


def test_tensorboard_serves_what_was_written_on_loopback(store: Store, logdir: Path) -> None:
    write_trials(TABLE, [repeat(store, 0), search_trial(store, 0, 0.8, rho=0.5)], store, logdir)
    write_studies(logdir)
    port = free_port()
    with served(logdir, port) as address:
        assert json.loads(request(f"{address}/data/environment"))["data_location"] == str(logdir)
        wanted = {"csdm/table1/ml-1m/CSDM/published/seed 0", "csdm/table1/ml-1m/CSDM/search/00"}
        assert wanted <= loaded_runs(address, wanted)
        (group,) = json.loads(request(f"{address}/data/plugin/hparams/session_groups", SESSIONS))["sessionGroups"]
        assert group["hparams"]["rho"] == 0.5
        values = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        assert values["final/validation/auc"] == pytest.approx(0.8)
        with pytest.raises(InputError, match=f"port {port} cannot be used .*--port"):
            serve(logdir, port)
    assert free(port)


@contextmanager
def served(logdir: Path, port: int) -> Iterator[str]:
    """Run `serve` in a process of its own and end that: TensorBoard has to end with it."""
    code = f"from pathlib import Path; from harness.tensorboard import serve; serve(Path({str(logdir)!r}), {port})"
    process = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = f"http://127.0.0.1:{port}/"
        assert process.stdout.readline() == f"TensorBoard is at {address} (Ctrl-C ends it)\n"
        yield address.rstrip("/")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
        process.stdout.close()


def loaded_runs(address: str, wanted: set[str]) -> set[str]:
    deadline = time.monotonic() + 60
    found: set[str] = set()
    while not wanted <= found and time.monotonic() < deadline:
        found = set(json.loads(request(f"{address}/data/runs")))
        time.sleep(0.1)
    return found


def request(url: str, body: bytes | None = None) -> bytes:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/json"} if body else {}
    with direct.open(urllib.request.Request(url, data=body, headers=headers), timeout=30) as answer:
        return bytes(answer.read())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
