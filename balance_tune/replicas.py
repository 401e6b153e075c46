"""Sums, gathers and gradient averages over the workers of one trial; the identity where there is one worker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor, nn

from balance_tune.private_torch import batch_norms


class Replicas:
    """The workers that train one model together, each on its share of every global batch.

    A number that decides anything is a ratio of sums over workers, never a mean of ratios; gradients are averaged once,
    visibly, after backward. Uses the default `torch.distributed` process group when one is initialised. Collectives run
    on the device on which the tensors are: a group of NCCL serves no other. All tensors must be of the model's device.

    The average does not overlap with the backward pass: a method may go backward several times in a step, or look at
    this worker's own gradients before they are averaged, and then no bucket is final before the last pass has ended.

    Args:
        alone: one worker, whether or not there is a process group: for what a worker computes by itself. A collective
            that the others do not take part in never ends.
    """

    def __init__(self, *, alone: bool = False) -> None:
        joined = not alone and dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if joined else 0
        self.world = dist.get_world_size() if joined else 1

    def sum(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Return each tensor summed over workers (detached); one reduction for all of them."""
        if self.world == 1:
            return tuple(v.detach() if v.requires_grad else v for v in values)
        flat = torch.cat([v.detach().reshape(-1).double() for v in values])
        dist.all_reduce(flat)
        parts = flat.split([v.numel() for v in values])
        return tuple(p.reshape(v.shape).to(v.dtype) for p, v in zip(parts, values, strict=True))

    def gather(self, value: Tensor) -> Tensor:
        """Return (N_total, ...) from each worker's (N_w, ...), in rank order; N_w may differ between workers.

        One synchronisation, for the N_w.
        """
        if self.world == 1:
            return value
        lengths = torch.zeros(self.world, dtype=torch.int64, device=value.device)
        lengths[self.rank] = len(value)
        dist.all_reduce(lengths)
        rows = lengths.tolist()
        mine = value.new_zeros(max(rows), *value.shape[1:])
        mine[: len(value)] = value.detach()
        flat = mine.reshape(-1).view(torch.uint8)  # bytes: not every backend knows every type
        parts = [torch.empty_like(flat) for _ in rows]
        dist.all_gather(parts, flat)
        return torch.cat([p.view(value.dtype).view(mine.shape)[:n] for p, n in zip(parts, rows, strict=True)])

    def gather_with_gradient(self, values: Tensor, position: Tensor, total: int) -> Tensor:
        """Return (total, ...) from each worker's rows (N_w, ...) at their positions (N_w,), with gradient.

        On the way back every row receives the sum of the gradients that the workers have for it. One reduction each
        way; all workers must take both.
        """
        if self.world == 1:
            return values
        empty = values.new_zeros(total, *values.shape[1:])
        whole: Tensor = dist_nn.all_reduce(empty.index_copy(0, position, values))
        return whole

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over workers; a missing gradient counts as zero where another has one.

        One reduction for all parameters. Only a worker that lacks a gradient waits for its device, to learn whether
        another has it.
        """
        owned = [p for p in parameters if p.requires_grad]
        if self.world == 1 or not owned:
            return
        lacks = [p.grad is None for p in owned]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in owned]
        one, zero = grads[0].new_ones(()), grads[0].new_zeros(())
        *means, used = self.average([*grads, torch.stack([zero if lack else one for lack in lacks])])
        anywhere = used.tolist() if any(lacks) else [1.0] * len(owned)
        for p, mean, share in zip(owned, means, anywhere, strict=True):
            if share:
                p.grad = torch.empty_like(p).copy_(mean)  # laid out as the gradients of one worker are

    def average(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean over workers of each tensor (detached); for gradients taken outside `.grad`."""
        if self.world == 1:
            return [t.detach() for t in tensors]
        flat = torch.cat([t.detach().reshape(-1) for t in tensors]) / self.world
        dist.all_reduce(flat)
        parts = flat.split([t.numel() for t in tensors])
        return [p.view_as(t) for p, t in zip(parts, tensors, strict=True)]

    def broadcast(self, module: nn.Module) -> None:
        """Give every worker rank 0's parameters and buffers."""
        if self.world == 1:
            return
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, src=0)

    def share_batchnorm(self, module: nn.Module) -> nn.Module:
        """Return `module` with every BatchNorm taking its statistics over all workers (torch's own needs a GPU)."""
        if self.world == 1:
            return module
        for name, child in module.named_children():
            if isinstance(child, batch_norms()):
                setattr(module, name, SharedBatchNorm(child))
            else:
                self.share_batchnorm(child)
        return module


class SharedBatchNorm(nn.Module):
    """BatchNorm over the global batch: sums, squares and counts are reduced, with gradients through the reduction."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, local: Any) -> None:
        super().__init__()
        for name in ("weight", "bias"):
            self.register_parameter(name, getattr(local, name))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(local, name))
        self.eps, self.momentum = local.eps, local.momentum

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (N, C, ...) per channel; in training with the statistics of all workers' samples."""
        shape = [1, -1] + [1] * (x.dim() - 2)
        dtype, x = x.dtype, x if x.dtype.itemsize >= 4 else x.float()  # bfloat16 cannot even count the samples
        if self.training or self.running_mean is None or self.running_var is None:
            dims = [0, *range(2, x.dim())]
            count = x.new_full((1,), x.numel() / x.shape[1])
            sums = dist_nn.all_reduce(torch.cat([x.sum(dims), count]))
            total = sums[-1].detach()
            mean = sums[:-1] / total
            var = dist_nn.all_reduce((x - mean.view(shape)).square().sum(dims)) / total
            self._track(mean.detach(), var.detach(), total)
        else:
            mean, var = self.running_mean, self.running_var
        y: Tensor = (x - mean.view(shape)) * torch.rsqrt(var.view(shape) + self.eps)
        if self.weight is not None and self.bias is not None:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, total: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return  # there are none, or they are to stay (see `models.pieces.KeepNothing`)
        self.num_batches_tracked += 1
        var = var * total / (total - 1)
        if self.momentum is None:
            rate = (1.0 / self.num_batches_tracked.double()).to(mean.dtype)  # stays on the device
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(var, rate)
        else:
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var, self.momentum)
