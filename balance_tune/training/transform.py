"""From a batch as it is stored to a batch as an encoder takes it, for one modality."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from balance_tune.datasets.modality import Modality, Statistics
from balance_tune.errors import UserError
from balance_tune.seeds import derive
from balance_tune.training.augment import BY_SAMPLE, Draws, operation
from balance_tune.training.buffers import Buffers
from balance_tune.training.rows import Rows

LARGE = 4096  # numbers in a sample from which on the CPU goes sample by sample, which stays in its cache


class Transform:
    """What happens to a modality's stored samples: operations, then x * scale + shift; ids stay as they are.

    Args:
        modality: what the dataset declares.
        statistics: of its training rows, where the store keeps values that are not standardised.
        dtype: of the result.

    Raises:
        UserError: an operation does not exist, or the operations do not lead from the stored shape to the encoder's.
    """

    def __init__(self, modality: Modality, statistics: Statistics | None, dtype: torch.dtype = torch.float32) -> None:
        self.modality, self.dtype = modality, dtype
        most = {"most": 1.0 / modality.unit}
        self._augment = [(operation(name), {**most, **settings}) for name, settings in modality.augment]
        self._evaluate = [(operation(name), {**most, **settings}) for name, settings in modality.evaluate]
        affine = modality.affine(statistics)
        self._affine = None if affine is None else tuple(torch.tensor(a, dtype=dtype) for a in affine)
        self.identity = affine is None and not self._augment and not self._evaluate
        self.large = not modality.ids and math.prod(modality.stored) >= LARGE
        self._buffers = Buffers()
        self._check()

    @property
    def augments(self) -> bool:
        """Whether training batches differ from others."""
        return bool(self._augment) or bool(self._evaluate)

    def __call__(self, x: Tensor | Rows, draws: Draws | None = None) -> Tensor:
        """Return (B, *shape) from stored samples (B, *stored), augmented where there are `draws`."""
        if self.identity and isinstance(x, Tensor):
            return x if self.modality.ids else x.to(self.dtype)
        if x.device.type == "cpu" and self.large:
            return self._by_sample(x, draws)
        y = self._operated(x, draws)
        if self.modality.ids:
            return y
        if self._affine is None:
            return y.to(self.dtype)
        scale, shift = self._on(y.device)
        return y.to(self.dtype).mul(scale).add_(shift)

    def _by_sample(self, x: Tensor | Rows, draws: Draws | None) -> Tensor:
        out = self._buffers.empty((len(x), *self.modality.shape), self.dtype)
        affine = None if self._affine is None else self._on(x.device)
        for target, sample in zip(out, self._operated(x, draws), strict=True):
            target.copy_(sample)
            if affine is not None:
                target.mul_(affine[0]).add_(affine[1])
        return out

    def _operated(self, x: Tensor | Rows, draws: Draws | None) -> Tensor:
        for apply, settings in self._evaluate if draws is None else self._augment:
            if isinstance(x, Rows) and apply not in BY_SAMPLE:
                x = x.gathered()
            x = apply(cast(Tensor, x), settings, draws or _none)
        return cast(Tensor, x)  # what is left of rows is gone through, as a tensor's samples are

    def _on(self, device: torch.device) -> tuple[Tensor, ...]:
        assert self._affine is not None
        if self._affine[0].device != device:
            self._affine = tuple(a.to(device, non_blocking=True) for a in self._affine)
        return self._affine

    def _check(self) -> None:
        x = torch.zeros(2, *self.modality.stored, dtype=getattr(torch, self.modality.dtype))
        for what, draws in (("augment", _zeros), ("evaluate", None)):
            try:
                operated = self._operated(x, draws)
            except (RuntimeError, IndexError, KeyError, TypeError, ValueError) as error:
                if isinstance(error, UserError):
                    raise
                reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                raise UserError(
                    f"the `{what}` operations of a modality must fit its stored shape {self.modality.stored}, but got "
                    f"{[*getattr(self.modality, what)]} ({reason})."
                ) from error
            if tuple(operated.shape[1:]) != tuple(self.modality.shape):
                raise UserError(
                    f"the `{what}` operations of a modality must lead from {self.modality.stored} to "
                    f"{self.modality.shape}, but lead to {tuple(operated.shape[1:])}."
                )


class Drawn:
    """Random numbers for one modality's part of a global batch, the same for a sample however the batch is shared out.

    Args:
        key: what names the draws (seed, epoch, step, modality, ...).
        position: (B,), the samples' places in the global batch of `total`.
    """

    def __init__(self, key: tuple[Any, ...], position: Tensor, total: int) -> None:
        self._generator = torch.Generator(position.device).manual_seed(derive(*key))
        self._position, self._total = position, total

    def __call__(self, count: int) -> Tensor:
        numbers = torch.rand(self._total, count, generator=self._generator, device=self._position.device)
        return numbers[self._position]


def _none(count: int) -> Tensor:
    raise RuntimeError("an operation of `evaluate` must not be random.")


def _zeros(count: int) -> Tensor:
    return torch.zeros(2, count)
