"""A chain pipes hooks in order, each method inside its own window."""

from __future__ import annotations

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.base import Modulation
from balance_tune.modulations.chain import Chain
from balance_tune.modulations.ogm import Ogm
from balance_tune.modulations.opm import Opm
from balance_tune.testing.tiny import tiny_run
from tests.modulations.one_step import update

SETTINGS = {"batch_size": 22, "momentum": 0.0, "weight_decay": 0.0}


def test_a_chain_of_opm_and_ogm_is_opm_ogm() -> None:
    expected, _ = tiny_run("opm_ogm", {"start": 0.0, "ogm_end": 1.0}, **SETTINGS)
    run, _ = tiny_run("joint", **SETTINGS)
    run.context.modulation = Chain([Opm(start=0.0), Ogm(end=1.0)])
    changed = update(run)
    for name, delta in update(expected).items():
        assert torch.equal(changed[name], delta), name


def test_links_outside_their_window_are_joint_training() -> None:
    joint, run = tiny_run("joint", **SETTINGS)[0], tiny_run("joint", **SETTINGS)[0]
    run.context.modulation = Chain([Opm(start=1.0), Ogm(start=1.0, end=1.0)])
    changed = update(run)
    assert all(torch.equal(changed[name], delta) for name, delta in update(joint).items())


def test_two_methods_that_replace_the_backward_pass_are_refused() -> None:
    class A(Modulation):
        name = ""

        def backward(self, losses, ctx):  # type: ignore[no-untyped-def]
            ctx.backward(sum(losses.values()))

    with pytest.raises(UserError, match="at most one method of a chain may replace `backward`"):
        Chain([A(), A()])
