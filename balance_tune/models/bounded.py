"""Building a model that a file describes, without believing the file how large it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from balance_tune.errors import UserError

FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full})


class Bounded(TorchFunctionMode):
    """Inside it, new tensors of more than `most` values in all are refused before they are allocated.

    Args:
        most: values (not bytes) that may be made.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.count = most, 0

    def __torch_function__(
        self, func: Any, types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in FACTORIES:
            size = kwargs.get("size", args[:1] if func is torch.full else args)
            sizes = size[0] if len(size) == 1 and isinstance(size[0], tuple | list) else size
            self.count += math.prod(int(n) for n in sizes)
            if self.count > self.most:
                raise UserError(f"its model takes more than {self.most:,} values, many more than its weights")
        return func(*args, **kwargs)
