"""Fusions: features of all modalities to class logits, and what each modality alone would have answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from balance_tune.errors import UserError

Features = dict[str, Tensor]


class Fusion(nn.Module):
    """Maps features {modality: (B, d_m)} to logits (B, C).

    Args:
        widths: d_m of each modality, in the order in which they are fused.
        classes: C.
    """

    name: ClassVar[str] = ""
    masks: bool = False
    """Whether it leaves out a modality whose features are all zero. The model then makes them zero for zero inputs."""

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        super().__init__()
        self.widths, self.classes = dict(widths), classes

    def forward(self, features: Features) -> Tensor:
        """Return fused logits (B, C).

        Args:
            features: {modality: (B, d_m)}.
        """
        raise NotImplementedError

    @property
    def share(self) -> float:
        """How much of a modality's own answer f_m is in the fused logits, where these add up from such answers."""
        return 1.0

    def unimodal_logits(self, features: Features) -> dict[str, Tensor]:
        """Return {modality: (B, C)}, what each modality answers by itself; here with the other features silenced.

        Args:
            features: {modality: (B, d_m)}.
        """
        silent = {m: torch.zeros_like(h) for m, h in features.items()}
        return {m: self({**silent, m: h}) for m, h in features.items()}

    def unimodal_logits_by_class(self, features: Features) -> Tensor:
        """Return `unimodal_logits` as one tensor (M, C, B): with classes before samples softmax is fastest.

        Args:
            features: {modality: (B, d_m)}.
        """
        return torch.stack([f.t() for f in self.unimodal_logits(features).values()])

    def answers_alone(self, features: Features, *, fixed: bool = False) -> dict[str, Tensor]:
        """Return {modality: (B, C)}, the head's answer to one modality with every bias in full.

        Differs from `unimodal_logits` where those share a bias so that they add up.

        Args:
            features: {modality: (B, d_m)}.
            fixed: whether gradients reach the features only, not the fusion's parameters.
        """
        with frozen(self) if fixed else nullcontext():
            return self._alone(features)

    def _alone(self, features: Features) -> dict[str, Tensor]:
        silent = {m: torch.zeros_like(h) for m, h in features.items()}
        return {m: self({**silent, m: h}) for m, h in features.items()}

    def parts(self, features: Features) -> dict[str, Tensor] | None:
        """Return {modality: (B, C)} that add up to the logits without their biases; None where the head mixes them.

        Args:
            features: {modality: (B, d_m)}.
        """
        return None

    def slices(self) -> dict[str, list[tuple[Tensor, slice]]]:
        """Return, per modality, the (parameter, columns) that serve it alone; none where the head mixes modalities.

        Of a vector (a bias that serves one modality) all of it.
        """
        return {m: [] for m in self.widths}

    def own_biases(self) -> dict[str, list[Tensor]]:
        """Return, per modality, the biases that serve it alone and are not among its `slices`."""
        return {m: [] for m in self.widths}


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Compute inside without a gradient to the module's parameters; gradients still pass through it."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)


def check_modalities(fusion: Fusion, least: int) -> None:
    """Raise a `UserError` when a fusion is given fewer modalities than it can fuse."""
    if len(fusion.widths) < least:
        noun = "modality" if least == 1 else "modalities"
        raise UserError(f"fusion {fusion.name} needs at least {least} {noun}, but got {list(fusion.widths)}.")


def check_positive(fusion: Fusion, **settings: int | None) -> None:
    """Raise a `UserError` when a setting that was given is not a whole number of at least 1."""
    for name, value in settings.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"`{name} >= 1` (a whole number) must hold for fusion {fusion.name}, but got {value!r}.")


class Concat(Fusion):
    """One linear layer on the concatenated features: f = W [h_1, ..., h_M] + b.

    Its unimodal logits are exact, f_m = W_m h_m + b / M, so that they add up to f (as in OGM's official code).
    """

    name = "concat"

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        super().__init__(widths, classes)
        self.head = nn.Linear(sum(widths.values()), classes)
        ends = torch.tensor([0, *widths.values()]).cumsum(0).tolist()
        self.columns: dict[str, slice] = {m: slice(a, b) for m, a, b in zip(widths, ends, ends[1:], strict=False)}

    def forward(self, features: Features) -> Tensor:
        out: Tensor = self.head(torch.cat([features[m] for m in self.widths], dim=1))
        return out

    def unimodal_logits(self, features: Features) -> dict[str, Tensor]:
        weight, bias, share = self.head.weight, self.head.bias, 1 / len(self.widths)
        return {m: torch.addmm(bias, h, weight[:, self.columns[m]].t(), beta=share) for m, h in features.items()}

    def parts(self, features: Features) -> dict[str, Tensor] | None:
        return {m: F.linear(h, self.head.weight[:, self.columns[m]]) for m, h in features.items()}

    def unimodal_logits_by_class(self, features: Features) -> Tensor:
        overridden = type(self).unimodal_logits is not Concat.unimodal_logits
        if overridden or len(set(self.widths.values())) > 1:
            return super().unimodal_logits_by_class(features)
        heads = self.head.weight.view(self.classes, len(self.widths), -1).transpose(0, 1)
        h = torch.stack(list(features.values())).transpose(1, 2)
        return torch.baddbmm(self.head.bias.unsqueeze(1), heads, h, beta=1 / len(self.widths))

    def slices(self) -> dict[str, list[tuple[Tensor, slice]]]:
        return {m: [(self.head.weight, columns)] for m, columns in self.columns.items()}


class Sum(Fusion):
    """One linear layer per modality, added: f = sum_m f_m with f_m = W_m h_m + b_m (the full own bias)."""

    name = "sum"

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        super().__init__(widths, classes)
        self.heads = nn.ModuleDict({m: nn.Linear(d, classes) for m, d in widths.items()})

    def forward(self, features: Features) -> Tensor:
        return torch.stack([self.heads[m](features[m]) for m in self.widths]).sum(0)

    def unimodal_logits(self, features: Features) -> dict[str, Tensor]:
        return {m: self.heads[m](h) for m, h in features.items()}

    def _alone(self, features: Features) -> dict[str, Tensor]:
        return self.unimodal_logits(features)

    def parts(self, features: Features) -> dict[str, Tensor] | None:
        return {m: F.linear(h, self.heads[m].get_parameter("weight")) for m, h in features.items()}

    def slices(self) -> dict[str, list[tuple[Tensor, slice]]]:
        return {m: [(self.heads[m].get_parameter("weight"), slice(None))] for m in self.widths}

    def own_biases(self) -> dict[str, list[Tensor]]:
        return {m: [self.heads[m].get_parameter("bias")] for m in self.widths}
