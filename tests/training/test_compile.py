"""Compiled encoders train to the same weights, also in methods that copy the model; seconds even without a backend."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from balance_tune.errors import UserError
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train


@pytest.mark.full
@pytest.mark.parametrize(("method", "settings"), [("ogm", {}), ("umt", {"scaling": 0.5}), ("greedy", {})])
def test_compiled_encoders_train_to_the_same_weights(
    method: str, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="eager"))
    weights = []
    for compiled in (True, False):
        run, modulation = tiny_run(method, settings, compile=compiled, epochs=2)
        list(train(run, modulation))
        weights.append(run.context.model.state_dict())
        assert (run.context.model.encoders["audio"]._compiled_call_impl is not None) == compiled
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.allclose(w, weights[1][n]) for n, w in weights[0].items())


def test_a_method_of_second_derivatives_refuses_compiled_encoders() -> None:
    with pytest.raises(UserError, match=r"lfm takes second derivatives, .* leave `training\.compile` off"):
        tiny_run("lfm", compile=True)
