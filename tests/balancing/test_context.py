"""Both contexts have everything that a method may use; a user's loop refuses what only a study has, in one line."""

from __future__ import annotations

import pytest
import torch

from balance_tune import balance
from balance_tune.balancing.context import LoopContext
from balance_tune.errors import UserError
from balance_tune.modulations.base import Modulation
from balance_tune.modulations.batch import Batch, EpochPlan, Losses, Output
from balance_tune.modulations.context import Context
from balance_tune.training.context import RunContext
from tests.balancing.own_loop import sgd, tiny_model

USED = [name for name in vars(Context) if not name.startswith("_") and name != "hooks"]


@pytest.mark.parametrize("context", [RunContext, LoopContext])
@pytest.mark.parametrize("name", USED)
def test_a_context_implements_everything(context: type[Context], name: str) -> None:
    assert getattr(context, name) is not getattr(Context, name)


class Undeclared(Modulation):
    """A method of somebody's that uses data without saying so in `reads`."""

    name = ""  # not registered
    call = ""

    def on_losses(self, losses: Losses, output: Output, batch: Batch, ctx: Context) -> Losses:
        arguments = {
            "planned": (EpochPlan(torch.arange(2)),),
            "take": ("train", torch.arange(2), None, torch.arange(2), 2),
            "fork": ("aside",),
            "teacher": ("audio", 1),
        }
        getattr(ctx, self.call)(*arguments.get(self.call, () if self.call == "plan" else ("monitor",)))
        return losses


@pytest.mark.parametrize(
    "call", ["size", "rows_at_once", "plan", "planned", "take", "batches", "encode", "fork", "teacher"]
)
def test_what_only_a_study_has_is_refused_by_name(call: str) -> None:
    model, source = tiny_model()
    method = Undeclared()
    method.call = call
    balancer = balance(model, sgd(list(model.parameters())), method)
    batch = next(iter(source.context.planned(source.context.plan())))
    with balancer.epoch(0), pytest.raises(UserError, match=rf"needs `ctx\.{call}`, which only a study can give"):
        balancer.backward(balancer.forward(batch.inputs, batch.labels).loss)


def test_a_batch_knows_its_size_and_not_its_rows() -> None:
    model, source = tiny_model()
    context = balance(model, sgd(list(model.parameters())), "joint")._context
    sizes = []
    for batch in source.context.planned(source.context.plan()):
        own = context.batch(batch.inputs, batch.labels)
        assert own.total == len(batch)
        assert own.position.tolist() == list(range(len(batch)))
        assert set(own.index.tolist()) == {-1}
        sizes.append(context.settings.batch_size)
    assert sizes == [8, 8, 8]  # the last batch is smaller
