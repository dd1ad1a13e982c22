"""A second device that computes on the CPU, so that what a GPU would refuse is refused on a machine without one.

Its tensors hold one of the CPU each, and every operation unwraps them. One that meets tensors of both devices raises,
as a GPU does; only scalars of the CPU may go along. Random numbers come from the CPU's generator, so that a method that
is right gives the bits that it gives on the CPU.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

OTHER = torch.device("lazy")
"""Of the devices that torch knows, one whose gradients are computed in the thread that asks for them."""

# Copies between devices may have tensors of both, and lengths of packed sequences are the CPU's everywhere.
_MIXING = {
    torch.ops.aten.gru.data,
    torch.ops.aten.copy_.default,
    torch.ops.aten._to_copy.default,
    torch.ops.aten._pack_padded_sequence.default,
}


class OtherTensor(Tensor):
    """A tensor of the other device, and `raw`, the CPU's tensor that holds its values."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> OtherTensor:
        dense = raw.layout == torch.strided
        places = {"strides": raw.stride(), "storage_offset": raw.storage_offset()} if dense else {}
        made: OtherTensor = Tensor._make_wrapper_subclass(
            cls, raw.shape, **places, layout=raw.layout, dtype=raw.dtype, device=OTHER
        )
        made.raw = raw
        return made

    def tolist(self) -> Any:
        return self.raw.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


class _OtherDevice(TorchDispatchMode):
    """Makes tensors of the other device where it is named."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


class _TensorsOfNumbers(TorchFunctionMode):
    """Makes on the CPU, and then moves, what torch would hand to the device's own memory at once."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == OTHER.type:
            return function(*args, **kwargs | {"device": "cpu"}).to(OTHER)
        if function is Tensor.__getitem__ and isinstance(args[1], tuple) and args[0].device.type == OTHER.type:
            args = args[0], tuple(_index(key) if isinstance(key, list) else key for key in args[1])
        return function(*args, **kwargs)


def _index(key: list[int]) -> Tensor:
    return torch.tensor(key, dtype=torch.int64, device="cpu").to(OTHER)


class _Module:
    """What torch asks of a device: the state of its random numbers, which are the CPU's."""

    @staticmethod
    def get_rng_state(device: Any = None) -> Tensor:
        return torch.random.default_generator.get_state()

    @staticmethod
    def set_rng_state(state: Tensor, device: Any = None) -> None:
        torch.random.default_generator.set_state(state)


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Know the device. Gradients are computed without a default device, which the threads of a GPU have not either."""
    run: Any = torch.autograd._engine_run_backward  # what `backward` and `grad` call

    def without_default_device(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return run(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, _OtherDevice(), _TensorsOfNumbers():
        patch.setattr(torch.autograd, "_engine_run_backward", without_default_device)
        patch.setattr(torch, OTHER.type, _Module, raising=False)
        optimizer = sys.modules["torch.optim.optimizer"]
        patch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["cpu", OTHER.type])
        yield OTHER


def _run(operation: Any, args: Any, kwargs: Any) -> Any:
    wrapped: dict[int, OtherTensor] = {}

    def inner(value: Any) -> Any:
        if isinstance(value, OtherTensor):
            wrapped[id(value.raw)] = value
            return value.raw
        if isinstance(value, Tensor) and value.ndim:
            mixed.append(value.shape)
        if isinstance(value, torch.device) and value.type == OTHER.type:
            return torch.device("cpu")
        return value

    mixed: list[torch.Size] = []
    inner_args, inner_kwargs = tree_map(inner, args), tree_map(inner, kwargs)
    if wrapped and mixed and operation not in _MIXING:
        raise RuntimeError(f"{operation}: tensors of the CPU, {tuple(mixed[0])}, and of the other device")
    to = kwargs.get("device")
    there = bool(wrapped) if to is None else torch.device(to).type == OTHER.type

    def outer(value: Any) -> Any:
        if not isinstance(value, Tensor) or isinstance(value, OtherTensor):
            return value
        return wrapped[id(value)] if id(value) in wrapped else OtherTensor(value)

    with torch.inference_mode(False):  # a tensor of inference mode cannot be another one's inside
        found = operation(*inner_args, **inner_kwargs)
        if torch.Tag.inplace_view in operation.tags and isinstance(args[0], OtherTensor):
            with no_dispatch():
                args[0].data = OtherTensor(args[0].raw)  # the outer shape follows the inner one's
        if operation is torch.ops.aten.copy_.default:
            return args[0]
        if operation is torch.ops.aten._pack_padded_sequence.default:
            return outer(found[0]), found[1]
        return tree_map(outer, found) if there else found
