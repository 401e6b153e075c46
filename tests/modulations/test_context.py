"""What a method may use is described where methods are, and the training loop implements it."""

from __future__ import annotations

import inspect

from balance_tune.modulations.context import Branch, Context
from balance_tune.training.branch import Branch as RunBranch
from balance_tune.training.context import RunContext


def test_everything_that_a_method_may_use_is_explained_and_exists() -> None:
    for protocol, implementation in ((Context, RunContext), (Branch, RunBranch)):
        for name, member in vars(protocol).items():
            if name.startswith("_") or not (callable(member) or isinstance(member, property)):
                continue
            described = member.fget if isinstance(member, property) else member
            own = inspect.getattr_static(implementation, name)
            assert name == "model" or inspect.getdoc(described), name
            if not isinstance(member, property):
                parameters = list(inspect.signature(member).parameters.items())
                assert list(inspect.signature(own).parameters.items())[: len(parameters)] == parameters, name
