"""Running one trial, without Ray: in a worker, a test, a debugger or a notebook."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import math
import os
import platform
import traceback
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.datasets.prepared import PreparedDataset
from harness.devices import computing_on, device_name, device_of, moved
from harness.errors import DataError, DiffbenchError, InputError, SharedError, StoreError, TrialError
from harness.feeds import Feed
from harness.methods import MethodCatalog, resolve
from harness.own_code import own_code_hash
from harness.process_memory import peak_memory, release_memory, reset_peak_memory, trim_memory
from harness.record import Curve, Environment, TrialResult
from harness.specs import TrialSpec
from harness.store import Store
from harness.tasks import load_task
from harness.tasks.context import Context, Outcome
from harness.trial_checkpoints import TrialCheckpoints
from harness.trial_clock import TrialClock
from trainables.checkpoints import Checkpoints

CHECKPOINT = "checkpoint.pt"
RUNNING = "running.pt"
"""The checkpoint of a trial that runs in this process, beside those of workers."""

CHECKPOINT_SECONDS = "DIFFBENCH_CHECKPOINT_SECONDS"
"""The environment variable that says how many seconds lie between two checkpoints of a running trial."""

BETWEEN_CHECKPOINTS = 300.0
"""Without it; workers of a stream take theirs more often."""

ARRAYS = "arrays.npz"
ROWS_SEEN = "train/rows_seen"
"""A curve of one point: the rows that all workers trained on, each as often as it was seen."""


@dataclass
class _Curves:
    """Collects what a trial logs."""

    clock: TrialClock
    points: dict[str, Curve] = field(default_factory=lambda: defaultdict(Curve))

    def log(self, name: str, value: float, step: int) -> None:
        curve = self.points[name]
        curve.steps.append(int(step))
        curve.values.append(float(value))
        curve.seconds.append(round(self.clock.wall_seconds, 3))


def run_trial(
    spec: TrialSpec,
    dataset: PreparedDataset,
    catalog: MethodCatalog,
    start: Mapping[str, Tensor] | None = None,
    *,
    feed: Feed | None = None,
    checkpoints: TrialCheckpoints | None = None,
    device: torch.device | None = None,
) -> tuple[TrialResult, dict[str, bytes]]:
    """Run a trial; return its record and its files.

    The same spec gives the same metrics, bit for bit, on the same machine. A trial that fails is a record too: its
    status is `failed` and its error says why.

    Args:
        spec: what to run.
        dataset: the prepared dataset that the spec names.
        catalog: where methods are looked up.
        start: the checkpoint of the trial that this one starts from.
        feed: how rows are read, where that is not in this process: by Ray Data, or by several workers.
        checkpoints: takes what is needed to go on when the process is killed, or brings it.
        device: what it computes on, where that is not the GPU or the CPU that the spec says.

    Raises:
        InputError: the method is not what the spec says, or several workers have to share the rows.
        SharedError: the dataset is not what the spec says or cannot be read, the store cannot be written, or there is
            no GPU: this machine's trials would all meet it.
    """
    feed = feed or Feed(spec.feed)
    if feed.kind != spec.feed or feed.share.workers != spec.workers:
        raise InputError(f"{spec.workers} workers: need Ray to share the rows; leave --serial out")
    if dataset.hash != spec.dataset_hash:
        hashes = f"{dataset.hash[:12]}, not {spec.dataset_hash[:12]}"
        raise DataError(f"{dataset.name}: prepared rows have hash {hashes}; run the command again")
    device = device or device_of(spec.gpus)
    task = load_task(spec.task)
    resolved = resolve(task, catalog.find(spec.method), spec.parameters, catalog, spec.starts_from)
    torch.set_num_threads(spec.threads)
    release_memory()
    reset_peak_memory()
    clock = TrialClock()
    curves = _Curves(clock)

    def follow(method: Any) -> Checkpoints:
        if checkpoints is None:
            return Checkpoints()
        checkpoints.follow(method, curves.points, clock)
        return checkpoints

    context = Context(
        method=resolved.method,
        components=resolved.components,
        settings=resolved.settings,
        dataset=dataset,
        purpose=spec.purpose,
        seed=spec.seed,
        start=None if start is None else moved(start, device),
        log=curves.log,
        feed=feed,
        follow=follow,
        device=device,
        starts_elsewhere=spec.starts_elsewhere,
    )
    error, outcome = "", Outcome({})
    try:
        with computing_on(device):
            outcome = task.run(context)
            _check_finite(outcome.metrics)
            if checkpoints is not None and feed.kind == "stream":
                curves.log(ROWS_SEEN, checkpoints.rows_of_all_workers(), 0)
    except (Exception, SystemExit) as failure:  # whatever a method raises becomes part of its record
        error = describe(failure)
    result = TrialResult(
        id=spec.id,
        spec=spec,
        status="failed" if error else "finished",
        error=error,
        metrics={} if error else {name: float(value) for name, value in outcome.metrics.items()},
        curves=dict(curves.points),
        environment=_environment(spec.threads, device),
        code_hash=code_hash(),
        data_note="; ".join(note for note in (dataset.schema.note, outcome.note) if note),
        wall_seconds=round(clock.wall_seconds, 3),
        cpu_seconds=round(clock.cpu_seconds, 3),
        peak_memory_bytes=peak_memory(),
    )
    return result, {} if error else _files(outcome)


def finish_trial(
    spec: TrialSpec,
    dataset: PreparedDataset,
    catalog: MethodCatalog,
    store: Store,
    *,
    keep_checkpoint: bool,
    seconds: float | None = None,
) -> TrialResult:
    """Run a trial into the store unless it is finished there, holding its claim all the while.

    A checkpoint that an interrupted run of the same trial and code left is gone on from; `seconds` between two of them
    are what the run tells this process.

    Raises:
        SharedError: the store cannot be read or written, or the data not be had; no record is left.
    """
    with store.claim(spec.id, wait=True):
        present = store.record(spec.id, with_files=True)
        if present is not None and not (keep_checkpoint and lacks_checkpoint(present, store)):
            return present
        store.remove(spec.id)
        try:
            start = load_checkpoint(spec.starts_from, store) if spec.starts_from else None
        except TrialError as error:
            return store.write(failed_record(spec, str(error)), {})
        name = checkpoint_name(spec, catalog)
        checkpoints = _checkpoints(spec, store, name, checkpoint_seconds(BETWEEN_CHECKPOINTS, seconds))
        result, files = run_trial(spec, dataset, catalog, start, checkpoints=checkpoints)
        if not keep_checkpoint:
            files.pop(CHECKPOINT, None)
        result = store.write(result, files)
        store.remove_checkpoints(spec.id)
    # The process may wait long for its next trial: it holds nothing of this one.
    del start, checkpoints, files
    trim_memory()
    return result


def checkpoint_name(spec: TrialSpec, catalog: MethodCatalog) -> str:
    """Return the name of a trial's checkpoints in the store: those of other code have another one.

    Raises:
        InputError: the method is not what the spec says.
    """
    resolved = resolve(load_task(spec.task), catalog.find(spec.method), spec.parameters, catalog, spec.starts_from)
    own = own_code_hash(part.cls for part in (resolved.method, *resolved.components.values()))
    return "-".join(filter(None, (spec.id, code_hash(), own)))


def _checkpoints(spec: TrialSpec, store: Store, name: str, seconds: float) -> TrialCheckpoints:
    """Return the checkpoints of a trial in this process, which go on from what the store has.

    What cannot be read, as after the machine's sudden end, is removed with a warning, and the trial begins anew.
    """

    def write(content: bytes) -> None:
        with contextlib.suppress(StoreError):  # a trial that cannot be gone on from is still one
            store.write_checkpoint(name, RUNNING, content)

    try:
        return TrialCheckpoints(write, seconds=seconds, resumed=store.checkpoint(name, RUNNING))
    except TrialError as error:
        logging.getLogger(__name__).warning("trial %s: %s; it begins anew", spec.id, error)
        store.remove_checkpoints(spec.id)
        return TrialCheckpoints(write, seconds=seconds)


def checkpoint_seconds(otherwise: float, told: float | None = None) -> float:
    """Return how many seconds lie between two checkpoints of a running trial.

    They are what the run tells its processes on other machines, or what this process's environment asks for.

    Raises:
        InputError: the environment variable is no number of seconds.
    """
    asked = asked_seconds() if told is None else told
    return otherwise if asked is None else asked


def asked_seconds() -> float | None:
    """Return the seconds between two checkpoints that this process's environment asks for, if it does.

    Raises:
        InputError: the environment variable is no number of seconds.
    """
    text = os.environ.get(CHECKPOINT_SECONDS, "")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(f"{CHECKPOINT_SECONDS}: {text!r} is no number of seconds; set 0 or more, or unset it")
    return seconds


def lacks_checkpoint(result: TrialResult, store: Store) -> bool:
    """Tell whether a finished trial that others start from has no whole checkpoint."""
    return result.status == "finished" and store.file(result, CHECKPOINT) is None


def load_checkpoint(spec: TrialSpec, store: Store) -> dict[str, Tensor]:
    """Return the checkpoint that a finished trial left.

    Raises:
        TrialError: the trial failed, is not finished, or left no checkpoint.
    """
    result = store.record(spec.id)
    if result is None:
        raise TrialError(f"the trial it starts from ({spec.id}) is not finished")
    if result.status == "failed":
        raise TrialError(f"the trial it starts from ({spec.id}) failed: {result.error}")
    content = store.file(result, CHECKPOINT)
    if content is None:
        raise TrialError(f"the trial it starts from ({spec.id}) left no checkpoint")
    state: dict[str, Tensor] = torch.load(io.BytesIO(content), weights_only=True)
    return state


def load_arrays(result: TrialResult, store: Store) -> dict[str, np.ndarray]:
    """Return the arrays of a finished trial, by name; empty when it left none."""
    content = store.file(result, ARRAYS)
    if content is None:
        return {}
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def failed_record(spec: TrialSpec, error: str) -> TrialResult:
    """Return the record of a trial that could not run to its end."""
    return TrialResult(id=spec.id, spec=spec, status="failed", error=error, code_hash=code_hash())


def describe(error: BaseException) -> str:
    """Return an exception as one line: our own as they are, others with their type and place.

    Raises:
        SharedError: it is one, and no trial's own.
    """
    if isinstance(error, SharedError):
        raise error
    message = " ".join(str(error).split())[:500]
    if isinstance(error, DiffbenchError):
        return message
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {message} ({Path(frame.filename).name}, line {frame.lineno})"


@functools.cache
def code_hash() -> str:
    """Identify the code that runs: 12 hexadecimal digits over all sources of `harness` and `trainables`."""
    import trainables

    digest = hashlib.sha256()
    for package in (Path(__file__).parent, Path(str(trainables.__file__)).parent):
        for path in sorted(package.rglob("*.py")):
            digest.update(path.relative_to(package.parent).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _check_finite(metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrialError(f"{name} is {value}")


def _files(outcome: Outcome) -> dict[str, bytes]:
    files = {}
    if outcome.arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **outcome.arrays)  # type: ignore[arg-type]
        files[ARRAYS] = buffer.getvalue()
    if outcome.checkpoint is not None:
        buffer = io.BytesIO()
        torch.save({name: tensor.detach().cpu() for name, tensor in outcome.checkpoint.items()}, buffer)
        files[CHECKPOINT] = buffer.getvalue()
    return files


def _environment(threads: int, device: torch.device) -> Environment:
    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        platform=platform.platform(),
        processor=torch.backends.cpu.get_cpu_capability(),
        threads=threads,
        gpu=device_name(device),
    )
