"""Refuses, on any machine, what makes the host wait for a device: reading a value, or a shape that depends on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

METHODS = {"item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__", "__complex__"}
METHODS |= {"__format__", "__contains__", "__array__"}
OPERATORS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "nonzero_numpy", "masked_select"}
OPERATORS |= {"unique", "_unique", "_unique2", "unique_dim", "bincount", "argwhere", "allclose"}
MASKED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class Synchronised(AssertionError):
    """The host would have waited for the device."""


@contextmanager
def no_synchronisation() -> Iterator[None]:
    """Raise `Synchronised` at whatever reads a tensor's value on the host, in Python or inside torch."""
    with _Calls(), _Operators():
        yield


class _Calls(TorchFunctionMode):
    """What Python code asks of a tensor; on the CPU these never reach the dispatcher."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in METHODS:
            raise Synchronised(f"Tensor.{name}")
        if name == "to" and "cpu" in [a for a in [*args[1:], kwargs.get("device")] if isinstance(a, str)]:
            raise Synchronised("Tensor.to the host")
        return func(*args, **kwargs)


class _Operators(TorchDispatchMode):
    """What torch itself does, also inside its own functions and in the backward pass."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, kwargs = func.name().removeprefix("aten::").partition(".")[0], kwargs or {}
        if name in OPERATORS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            raise Synchronised(f"aten::{name}")
        if name in MASKED and any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
            raise Synchronised(f"aten::{name} with a mask")
        return func(*args, **kwargs)
