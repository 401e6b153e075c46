"""torch's SGD with a step that takes a small model half the time."""

from __future__ import annotations

from typing import Any

import torch

from balance_tune.private_torch import sgd


class Sgd(torch.optim.SGD):
    """torch's own SGD, its settings and its state; `update` does what `step` does.

    It leaves out what `step` puts around the arithmetic for profilers, hooks, compilers and gradient scalers. Momentum
    begins as zeros: torch's fused kernel fails when some parameters get their first gradient in a later step.
    """

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, momentum: float, weight_decay: float, fused: bool):
        super().__init__(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)
        self._sgd = sgd()
        for group in self.param_groups:
            if group["momentum"]:
                self.state.update({p: {"momentum_buffer": torch.zeros_like(p)} for p in group["params"]})

    @torch.no_grad()
    def update(self) -> None:
        """Update every parameter that has a gradient."""
        if self._sgd is None:
            self.step()
            return
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            self._sgd(
                parameters,
                [p.grad for p in parameters],
                [self.state[p]["momentum_buffer"] for p in parameters] if group["momentum"] else [],
                foreach=group["foreach"],
                fused=group["fused"],
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=group["maximize"],
            )
