"""Independent random streams from one seed, so that methods that share a seed share their data order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose (`"order", epoch`); equal arguments give equal seeds everywhere."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """Run with torch's global generators at this seed, and put their state back afterwards: the CPU's, and a GPU's
    where that is what is computed on."""
    device = _default_device()
    others = [] if device.type == "cpu" else [device.index or 0]
    with torch.random.fork_rng(devices=others, device_type="cuda" if device.type == "cpu" else device.type):
        torch.manual_seed(seed)
        yield


def random_state() -> list[Tensor]:
    """Return the state of the generators that `torch_seeded` sets."""
    device = _default_device()
    state = [torch.get_rng_state()]
    return state if device.type == "cpu" else [*state, torch.get_device_module(device).get_rng_state(device)]


def set_random_state(state: list[Tensor]) -> None:
    """Set the generators to a state that `random_state` returned."""
    device = _default_device()
    torch.set_rng_state(state[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[1], device)


def _default_device() -> torch.device:
    """Return the device that tensors are made on without word of one."""
    return torch.empty(0).device
