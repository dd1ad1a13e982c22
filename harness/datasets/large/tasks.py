"""Calling functions as Ray tasks of several results, and what a user sees when one fails."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from harness.cluster import connected
from harness.errors import ClusterError, DataError, DiffbenchError
from harness.places import places


def call(function: Callable[..., Sequence[Any]], *arguments: Any, results: int) -> list[Any]:
    """Start a task that returns this many results, and return Ray's references to them."""
    if results == 1:  # Ray would take the list of one for the result
        return [call_one(_only, function, *arguments)]
    return list(ray.remote(function).options(num_returns=results, num_cpus=1).remote(*arguments))


def call_one(function: Callable[..., Any], *arguments: Any) -> Any:
    """Start a task, and return Ray's reference to its result."""
    return ray.remote(function).options(num_cpus=1).remote(*arguments)


def _only(function: Callable[..., Sequence[Any]], *arguments: Any) -> Any:
    (result,) = function(*arguments)
    return result


def get(references: Any) -> Any:
    """Return what references stand for, waiting for it.

    Raises:
        DiffbenchError: see `task_errors`.
    """
    with task_errors():
        return ray.get(references)


@contextlib.contextmanager
def task_errors() -> Iterator[None]:
    """Raise what a task raised in place of Ray's own error.

    Raises:
        DiffbenchError: the task's own; an `OSError` becomes a `DataError`, and what Ray itself says, such as that a
            node had too little memory, a `ClusterError`.
    """
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, DiffbenchError):
            raise cause from None
        if isinstance(cause, OSError):
            raise DataError(f"{cause.filename or 'the prepared folder'}: {cause.strerror or cause}") from None
        raise
    except ray.exceptions.RayError as error:
        raise ClusterError(" ".join(str(error).split())[:300]) from None


@contextlib.contextmanager
def ray_for_data(address: str | None, object_store_bytes: int) -> Iterator[None]:
    """Connect to Ray unless this process has done so; a cluster that is started here gets this much shared memory."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
        return
    checkout = places().checkout
    with connected(address, checkout=checkout, object_store_bytes=object_store_bytes, imports_ahead=False):
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
