"""A method put into a user's model: all that can be done and checked before there is an optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from balance_tune.balancing.model import adapted
from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.base import Modulation
from balance_tune.registry import modulations
from balance_tune.seeds import derive


@dataclass(frozen=True)
class Prepared:
    """A model with a method built into it.

    Attributes:
        model: the user's, or a view of his module.
        head: the first parameter of its fusion.
    """

    model: MultimodalModel
    modulation: Modulation
    head: nn.Parameter
    seed: int


def prepared(
    model: nn.Module, method: str | Modulation, settings: Mapping[str, Any], *, epochs: int | None, seed: int
) -> Prepared:
    """Return the model with the method built into it; new parts start from `seed`, the random state stays.

    Raises:
        UserError: the method needs more than a step's hooks, or model, method and settings cannot be combined.
    """
    if isinstance(model, nn.parallel.DistributedDataParallel) or _workers() > 1:
        raise UserError(
            "`balance` works in one process, but training is distributed; use a study with several workers."
        )
    modulation = _method(method, settings)
    name = modulation.name or "the chain"
    needs = modulation.beyond_step()
    if needs:
        raise UserError(f"{name} needs {needs}, which a training loop of your own does not give; use it in a study.")
    if epochs is None and (modulation.start, modulation.end) != (0.0, 1.0):
        raise UserError(
            f"{name} acts from {modulation.start:g} to {modulation.end:g} of the run; pass its length as `epochs`."
        )
    never = None if epochs is None else modulation.never_acts(epochs)
    if never:
        raise UserError(f"{name} would change nothing: {never}; change its settings or `epochs`.")
    view = adapted(model)
    modulation.check_task(view.task)
    original = {id(p) for p in view.parameters()}
    head = next((p for p in view.fusion.parameters() if p.requires_grad), None)
    if head is None:
        raise UserError("the model needs a head with trained parameters, but every parameter belongs to an encoder.")
    if view is not model and not all(m.windowed for m in getattr(modulation, "links", [modulation])):
        raise UserError(f"{name} changes the model; give `balance` a MultimodalModel instead of your own module.")
    like = next(view.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "method"))
        modulation.build(view)
    if not {id(p) for p in view.parameters()} <= original:  # new parts are made on the CPU
        view.to(like.device, like.dtype)
    return Prepared(view, modulation, head, seed)


def _method(method: str | Modulation, settings: Mapping[str, Any]) -> Modulation:
    if isinstance(method, str):
        modulation: Modulation = modulations().get(method).of(settings)
        return modulation
    if settings:
        raise UserError(f"settings belong to a method's name, but got a method and {', '.join(settings)}; drop them.")
    return method


def _workers() -> int:
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
