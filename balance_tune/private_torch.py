"""What is used of torch beyond its documented interface; without it, training is slower, with the same numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from balance_tune.private_api import private, report_missing

MARK = "__dynamo_disable"  # of torch._compile: what is called instead of a function that is not to be compiled
FLAGS = (  # of the whole process: (reads, writes)
    ("is_grad_enabled", "set_grad_enabled"),
    ("is_autocast_cache_enabled", "set_autocast_cache_enabled"),
    ("is_anomaly_enabled", "autograd.set_detect_anomaly"),
    ("are_deterministic_algorithms_enabled", "use_deterministic_algorithms"),
)


def spare_the_compiler() -> None:
    """Set torch's `__dynamo_disable` marker on optimizer methods, so that torch does not import Dynamo on their first
    call (0.7 s, 110 MB per process)."""
    otherwise = "optimizers import torch's compiler, which takes 0.7 s and 110 MB per process"
    if private("torch._compile", "_disable_dynamo", otherwise) is None:
        return
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is None:
            report_missing(f"torch.optim.Optimizer.{name}.__wrapped__", otherwise)
        elif not hasattr(method, MARK):
            setattr(method, MARK, method)


def eager_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """Return the optimizer's own step, without gradient, and without what is wrapped around it.

    Around it are breaks in the graph of a compiler, a range for the profiler and hooks; none is needed in a trial.
    """
    step = inspect.unwrap(type(optimizer).step)
    if step is type(optimizer).step:
        report_missing(f"{type(optimizer).__name__}.step.__wrapped__", "a step of a small model takes longer")
        return optimizer.step
    return torch.no_grad()(partial(step, optimizer))


def sgd() -> Callable[..., None] | None:
    """Return torch's functional SGD, or None where it is gone."""
    function: Callable[..., None] | None = private("torch.optim.sgd", "sgd", "a step of SGD takes twice as long")
    return function


def batch_norms() -> type[nn.Module] | tuple[type[nn.Module], ...]:
    """Return the class of all batch norms; torch's own where it is gone."""
    otherwise = "of batch norms only torch's own take their statistics over all workers"
    base: type[nn.Module] | None = private("torch.nn.modules.batchnorm", "_BatchNorm", otherwise)
    return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) if base is None else base


def process_flags() -> list[tuple[Callable[[], bool], Callable[[bool], object]]]:
    """Return how to read and write each of the process's modes that a method may leave changed."""
    otherwise = "a method that changes it does so for later trials of the process"
    pairs = [(private("torch", read, otherwise), private("torch", write, otherwise)) for read, write in FLAGS]
    return [(read, write) for read, write in pairs if read is not None and write is not None]


def foreach(operation: str, tensors: Sequence[Tensor], *others: Any) -> list[Tensor]:
    """Apply an operation of `torch.Tensor` to each tensor of a list, in one call for all of them.

    Args:
        operation: the name of the method, as "mul_".
        tensors: the list.
        others: the operation's arguments, each a list with one for every tensor, or a number or 0-d tensor for all.

    Returns:
        The results; of an operation in place (whose name ends with `_`) nothing that a caller needs.

    >>> foreach("mul", [torch.tensor([1.0, 2.0])], 3)
    [tensor([3., 6.])]
    """
    otherwise = "lists of tensors are changed one by one, which is slower"
    function = private("torch", f"_foreach_{operation}", otherwise)
    if function is not None:
        return list(function(list(tensors), *others) or ())
    columns = [other if isinstance(other, list) else [other] * len(tensors) for other in others]
    return [getattr(Tensor, operation)(*row) for row in zip(tensors, *columns, strict=True)]
