"""torch's optimisers without what they carry for a compiler: importing it is 0.7 s and 110 MB in every process."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

import torch

MARK = "__dynamo_disable"  # torch._compile: what is called instead of a function that is not to be compiled


def spare_the_compiler() -> None:
    """Mark as not to be compiled what torch would import its compiler for, at the first call, to mark it."""
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        own = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if own is not None and not hasattr(own, MARK):
            setattr(own, MARK, own)


def eager_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """Return the optimiser's own step, without gradient, and without what is wrapped around it.

    Around it are breaks in the graph of a compiler, a range for the profiler and hooks; none is there in a trial.
    """
    own = inspect.unwrap(type(optimizer).step)
    return torch.no_grad()(partial(own, optimizer))
