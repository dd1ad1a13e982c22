"""Trials that stream, in workers of Ray Train: one or several a trial, which go on from a checkpoint when one dies."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from harness.datasets.prepared import open_prepared
from harness.devices import CPU, computing_on
from harness.errors import DiffbenchError, LostWorkersError, SharedError, StoreError, TrialError
from harness.feeds import Feed
from harness.methods import MethodCatalog
from harness.places import Places
from harness.quick_imports import quick_imports
from harness.request import Job
from harness.specs import TrialSpec
from harness.store import Store
from harness.stream_plan import Share
from harness.trial import (
    CHECKPOINT,
    checkpoint_name,
    checkpoint_seconds,
    describe,
    failed_record,
    lacks_checkpoint,
    load_checkpoint,
    run_trial,
)
from harness.trial_checkpoints import TrialCheckpoints
from trainables.workers import summed

WORKER_FAILURES = 20
"""So often a trial goes on after a worker's death; then it has failed."""

BETWEEN_CHECKPOINTS = 30.0
"""Seconds: a stream, which may lose a node, takes checkpoints more often than a trial in one process."""

LEFT_FOR_READING = 0.05
"""CPUs that a worker does not ask for of those that it uses: the trial's own process and Ray Data's have to fit in."""

PROBLEM = "problem.txt"
"""Beside a trial's checkpoints: what a worker met that is no trial's own, in a line."""

# Set before Ray Train is imported: quick word of a death and an end. Workers wait for their places as other trials do,
# which the cluster's other users or the loss of a node may keep from them for hours; a day of it is an error.
_TRAIN_ENVIRONMENT = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "86400"}


def finish_in_workers(job: Job, places: Places, seconds: float | None = None) -> None:
    """Run a streamed trial into the store unless it is finished there, holding its claim all the while.

    Runs inside a process of Ray. A checkpoint that an interrupted run of the same trial and code left is gone on from;
    `seconds` between two of them are what the run tells this process. Checkpoints stay until there is a record.

    Raises:
        SharedError: the store cannot be read or written, or a worker met what is no trial's own; no record is left.
        LostWorkersError: they ended without a word of theirs.
    """
    spec, store = job.spec, Store(places.store)
    with store.claim(spec.id, wait=True):
        present = store.record(spec.id, with_files=True)
        if present is not None and not (job.keep_checkpoint and lacks_checkpoint(present, store)):
            return
        store.remove(spec.id)
        if spec.starts_from is not None:
            try:
                load_checkpoint(spec.starts_from, store)
            except TrialError as error:
                store.write(failed_record(spec, str(error)), {})
                return
        name = checkpoint_name(spec, MethodCatalog(places.search_spaces))
        if store.checkpoint(name, PROBLEM):
            store.write_checkpoint(name, PROBLEM, b"")  # of a run before
        problem = _train(job, places, store, name, checkpoint_seconds(BETWEEN_CHECKPOINTS, seconds))
        if store.record(spec.id) is None:
            met = store.checkpoint(name, PROBLEM)
            if met:
                raise SharedError(met.decode())
            if problem:
                store.write(failed_record(spec, problem), {})
        # Without a problem a worker on another node has written the record, which this one may see later.
        store.remove_checkpoints(spec.id)


def _train(job: Job, places: Places, store: Store, name: str, seconds: float) -> str:
    """Run the workers until one of them has written the record; return what made them fail too often, if so.

    Raises:
        LostWorkersError: they ended otherwise.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in _TRAIN_ENVIRONMENT.items()})
    with quick_imports():
        import ray.train
        from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    spec = job.spec
    resources = {"CPU": spec.threads - LEFT_FOR_READING} | ({"GPU": spec.gpus} if spec.gpus else {})
    failures: Any = ray.train.FailureConfig  # typed as its forerunner, which has fewer arguments
    failed: Any = ray.train.WorkerGroupError
    trainer: Any = TorchTrainer(
        work,
        train_loop_config={
            "spec": spec.model_dump_json(),
            "name": name,
            "keep_checkpoint": job.keep_checkpoint,
            "places": TypeAdapter(Places).dump_json(places).decode(),
            "seconds": seconds,
        },
        torch_config=TorchConfig(backend=_backend(spec.gpus)),
        scaling_config=ray.train.ScalingConfig(
            num_workers=spec.workers, use_gpu=spec.gpus > 0, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=store.checkpoints,
            failure_config=failures(max_failures=WORKER_FAILURES, controller_failure_limit=0),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # what Ray Train raises when it gives up is of many types
        message = f"its workers ended: {' '.join(str(error).split())[:300]}"
        if isinstance(error, failed):
            return message
        raise LostWorkersError(message) from None
    return ""


def work(config: dict[str, Any]) -> None:
    """Be one worker of a trial: train on its share of the rows; the first one writes the record."""
    import ray.train

    from harness.ray_reading import read_by_ray

    context: Any = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    spec = TrialSpec.model_validate_json(config["spec"])
    places = TypeAdapter(Places).validate_json(config["places"]).in_worker()
    store = Store(places.store)
    device = _device(spec.gpus)
    checkpoints = _checkpoints(spec, share.rank, config["seconds"], device)
    try:
        result, files = run_trial(
            spec,
            open_prepared(places.data / "prepared" / spec.dataset),
            MethodCatalog(places.search_spaces),
            load_checkpoint(spec.starts_from, store) if spec.starts_from else None,
            feed=Feed("stream", share, read_by_ray),
            checkpoints=checkpoints,
            device=device,
        )
    except SharedError as error:
        store.write_checkpoint(config["name"], PROBLEM, str(error).encode())
        _leave_the_group()
        return
    except DiffbenchError as error:  # before the trial starts; a new worker would meet it again
        result, files = failed_record(spec, describe(error)), {}
    if not config["keep_checkpoint"]:
        files.pop(CHECKPOINT, None)
    # A worker that fails leaves the others alone, whose errors are only that it is gone: the first word counts.
    if result.status == "failed":
        if store.record(spec.id) is None and not store.checkpoint(config["name"], PROBLEM):
            store.write(result, {})
        _leave_the_group()
    elif share.rank == 0:
        store.write(result, files)


def _backend(gpus: float) -> str:
    """Return how workers add up their gradients: NCCL joins whole GPUs alone, and not two workers on one."""
    return "nccl" if gpus >= 1 else "gloo"


def _device(gpus: float) -> torch.device:
    """Return this worker's device: of the GPUs of its node, the one that Ray gave it."""
    if not gpus:
        return CPU
    import ray.train.torch

    device: torch.device = ray.train.torch.get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _file(rank: int) -> str:
    return f"worker-{rank}.pt"


def _report(content: bytes, rank: int) -> None:
    """Hand a worker's checkpoint to Ray Train, which stores those of all workers as one.

    Raises:
        StoreError: it cannot be written. All workers give theirs together, so that none can do without.
    """
    import ray.train

    try:
        with tempfile.TemporaryDirectory(prefix="diffbench-checkpoint-") as folder:
            Path(folder, _file(rank)).write_bytes(content)
            ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(folder))
    except OSError as error:
        where = error.filename or tempfile.gettempdir()
        reason = error.strerror or error
        raise StoreError(f"{where}: a trial's checkpoint cannot be written ({reason}); make room there") from None


def _checkpoints(spec: TrialSpec, rank: int, seconds: float, device: torch.device) -> TrialCheckpoints:
    """Return a worker's checkpoints, which go on from the last one.

    One that any worker cannot read, as after a machine's sudden end, is passed over by all, and the trial begins anew.
    """

    def write(content: bytes) -> None:
        _report(content, rank)

    checkpoints, unread = TrialCheckpoints(write, seconds=seconds), 0
    try:
        own, first = _resumed(rank)
        checkpoints = TrialCheckpoints(write, seconds=seconds, resumed=own, shared=first)
    except (TrialError, OSError) as error:
        logging.getLogger(__name__).warning("trial %s: %s; it begins anew", spec.id, error)
        unread = 1
    with computing_on(device):
        unread_by_any = int(summed(torch.tensor(unread)))
    return TrialCheckpoints(write, seconds=seconds) if unread_by_any else checkpoints


def _resumed(rank: int) -> tuple[bytes | None, bytes | None]:
    """Return what this worker and the first one left in the last checkpoint, if there is one."""
    import ray.train

    checkpoint: Any = ray.train.get_checkpoint()
    if checkpoint is None:
        return None, None
    with checkpoint.as_directory() as folder:
        own, first = (Path(folder, _file(number)).read_bytes() for number in (rank, 0))
    return own, first


def _leave_the_group() -> None:
    """Close the connections to the other workers, so that they do not wait for one that has failed."""
    import torch.distributed as dist

    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.destroy_process_group()
