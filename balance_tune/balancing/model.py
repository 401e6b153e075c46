"""The user's own module as the methods see a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.fusion import Features, Fusion
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.tasks import TASKS, Task

MEMBERS = ("encoders", "widths", "classes", "fuse")


class OwnModel(Protocol):
    """What `balance` needs of a `torch.nn.Module` that is not a `MultimodalModel`; properties will do.

    Two members are optional: `unimodal_logits(features)`, {modality: (B, C)}, what each modality answers by itself
    (default: `fuse` with the other features zero), and `task`, one of `balance_tune.tasks.TASKS` (default: classes).

    Attributes:
        encoders: modality -> submodule that maps its input (B, *shape) to features (B, d_m).
        widths: modality -> d_m.
        classes: C, the number of answers.
    """

    @property
    def encoders(self) -> Mapping[str, nn.Module]:
        """Return modality -> encoder."""

    @property
    def widths(self) -> Mapping[str, int]:
        """Return modality -> feature width."""

    @property
    def classes(self) -> int:
        """Return the number of answers."""

    def fuse(self, features: Features) -> Tensor:
        """Return the fused logits (B, C).

        Args:
            features: {modality: (B, d_m)}.
        """


class OwnFusion(Fusion):
    """The `fuse` of a user's module; its parameters are those of the module that belong to no encoder."""

    name = ""  # no fusion that a study can name

    def __init__(self, module: nn.Module, widths: Mapping[str, int], classes: int) -> None:
        super().__init__(widths, classes)
        encoders: Mapping[str, nn.Module] = getattr(module, "encoders")  # noqa: B009
        encoded = {id(p) for encoder in encoders.values() for p in encoder.parameters()}
        self.head = nn.ParameterList([p for p in module.parameters() if id(p) not in encoded])
        self._module = (module,)  # in a tuple, so that torch does not take the encoders for parts of the fusion

    def forward(self, features: Features) -> Tensor:
        logits: Tensor = self._module[0].fuse(features)  # type: ignore[operator]
        return logits

    def unimodal_logits(self, features: Features) -> dict[str, Tensor]:
        function = getattr(self._module[0], "unimodal_logits", None)
        return super().unimodal_logits(features) if function is None else function(features)


class AdaptedModel(MultimodalModel):
    """A view of a user's module: the same encoders and parameters, in the form that methods use."""

    def __init__(self, module: nn.Module) -> None:
        missing = [name for name in MEMBERS if not hasattr(module, name)]
        if missing:
            raise UserError(
                f"a model must be a MultimodalModel, or a module with {', '.join(MEMBERS)}, but "
                f"{type(module).__name__} has no {', '.join(missing)}; add them (see docs/own-loop.md)."
            )
        typed: OwnModel = module  # type: ignore[assignment]
        encoders, widths = dict(typed.encoders), {m: typed.widths.get(m) for m in typed.encoders}
        task: Task = getattr(module, "task", "classes")
        for m, width in widths.items():
            if isinstance(width, bool) or not isinstance(width, int) or width < 1:
                raise UserError(f"`widths` must give the feature width of every encoder, but `{m}` has {width!r}.")
        if task not in TASKS:
            raise UserError(f"`task` must be one of {', '.join(TASKS)}, but got {task!r}.")
        fusion = OwnFusion(module, {m: int(width or 0) for m, width in widths.items()}, typed.classes)
        super().__init__(encoders, fusion, task)  # type: ignore[arg-type]  # encoders of the user's have fewer members
        self._module = (module,)

    @property
    def widths(self) -> dict[str, int]:
        return self.fusion.widths

    def train(self, mode: bool = True) -> AdaptedModel:
        """Put the whole module into training or evaluation mode, parts outside encoders included."""
        super().train(mode)
        if hasattr(self, "_module"):
            self._module[0].train(mode)
        return self


def adapted(model: nn.Module) -> MultimodalModel:
    """Return the model itself, or a view of the user's own module.

    Raises:
        UserError: the module lacks a member of `OwnModel`.
    """
    return model if isinstance(model, MultimodalModel) else AdaptedModel(model)
