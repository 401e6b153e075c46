"""Methods with one mistake each, held to the contract; run by test_modulations.py, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.batch import Batch, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.gradients import scale
from balance_tune.modulations.scores import score_sums
from balance_tune.testing import ModulationContract
from balance_tune.testing.modulations import Case
from balance_tune.tunable import tunable


@dataclass
class Halving(Modulation):
    """Without a mistake: halves the first modality's gradients.

    g_1 <- strength g_1
    """

    name: ClassVar[str] = "halving"
    paper: ClassVar[str] = "none"

    strength: float = tunable(0.5, low=0.1, high=0.9, source="a test")

    def factor(self, output: Output, batch: Batch, ctx: Context) -> Tensor:
        return torch.tensor(self.strength)

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        scale(ctx.model.gradients("audio"), self.factor(output, batch, ctx))

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"strength": 1.0})


class Once(ModulationContract):
    @classmethod
    def cases(cls, test: str) -> list[Any]:
        return [Case("concat", 2)]


class TestHalving(Once):
    method = "halving"


@dataclass
class Idle(Halving):
    """Forgets to act.

    Nothing.
    """

    name: ClassVar[str] = "idle"

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None: ...


class TestIdle(Once):
    method = "idle"


@dataclass
class Nameless(Halving):
    """Has no formula and no paper."""

    name: ClassVar[str] = "nameless"
    paper: ClassVar[str] = ""


class TestNameless(Once):
    method = "nameless"


@dataclass
class Local(Halving):
    """Lets every worker look at its own rows only.

    k = the first row's score
    """

    name: ClassVar[str] = "local"

    def factor(self, output: Output, batch: Batch, ctx: Context) -> Tensor:
        sums = score_sums(ctx.model.fusion.unimodal_logits(output.features), batch.labels)
        return 1 - self.strength * sums[0] / max(len(batch), 1)

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"strength": 0.0})


class TestLocal(Once):
    method = "local"


@dataclass
class Forgetful(Halving):
    """Counts its steps, and does not tell the checkpoint.

    k = strength / (1 + steps so far)
    """

    name: ClassVar[str] = "forgetful"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.steps = 0

    def factor(self, output: Output, batch: Batch, ctx: Context) -> Tensor:
        self.steps += 1
        return torch.tensor(self.strength ** (1 + self.steps))


class TestForgetful(Once):
    method = "forgetful"


@dataclass
class Careless(Halving):
    """Draws from torch's global generator.

    k = a random number
    """

    name: ClassVar[str] = "careless"

    def factor(self, output: Output, batch: Batch, ctx: Context) -> Tensor:
        return 1 - (1 - self.strength) * torch.rand(())


class TestCareless(Once):
    method = "careless"


@dataclass
class Restless(Halving):
    """Acts while it should only watch.

    theta_1 <- strength theta_1 in every step
    """

    name: ClassVar[str] = "restless"

    def observe(self, output: Output, batch: Batch, ctx: Context) -> None:
        with torch.no_grad():
            for p in ctx.model.parameters_of("audio"):
                p.mul_(1 - 0.01 * (1 - self.strength))


class TestRestless(Once):
    method = "restless"


@dataclass
class Boastful(Halving):
    """Claims to be neutral where it is not.

    g_1 <- 0.9 strength g_1
    """

    name: ClassVar[str] = "boastful"

    def factor(self, output: Output, batch: Batch, ctx: Context) -> Tensor:
        return torch.tensor(0.9 * self.strength)


class TestBoastful(Once):
    method = "boastful"


@dataclass
class Choosy(Halving):
    """Declares a range that it does not take.

    g_1 <- strength g_1
    """

    name: ClassVar[str] = "choosy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strength < 0.3:
            raise UserError(f"`strength >= 0.3` must hold for choosy, but got {self.strength!r}.")


class TestChoosy(Once):
    method = "choosy"


@dataclass
class Bound(Halving):
    """Holds something that no other process can have.

    g_1 <- strength g_1
    """

    name: ClassVar[str] = "bound"

    rule: Callable[[float], float] = field(default=lambda x: x)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rule = lambda x: x


class TestBound(Once):
    method = "bound"


@dataclass
class Hoarding(Halving):
    """Puts its training-only head into the model.

    g_1 <- strength g_1
    """

    name: ClassVar[str] = "hoarding"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.head = nn.Linear(1, 1)

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"head": self.head})

    def on_epoch_start(self, ctx: Context) -> None:
        ctx.model.add_module("hoarded", self.head)


class TestHoarding(Once):
    method = "hoarding"


class Counting(nn.Module):
    """A fusion that counts its uses, in evaluation too."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.inner = fusion
        self.register_buffer("uses", torch.zeros(()))

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        self.uses += 1
        out: Tensor = self.inner(features) * (1 + 1e-3 * self.uses)
        return out

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


@dataclass
class Curious(Halving):
    """Is changed by being evaluated.

    f <- f (1 + number of uses / 1000)
    """

    name: ClassVar[str] = "curious"
    windowed: ClassVar[bool] = False

    def build(self, model: MultimodalModel) -> None:
        model.fusion = Counting(model.fusion)  # type: ignore[assignment]

    @classmethod
    def neutral(cls) -> Neutral | str:
        return "none"


class TestCurious(Once):
    method = "curious"
