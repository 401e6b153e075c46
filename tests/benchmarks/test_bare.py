"""Bare processes train what they are given, and say when nothing waits."""

from __future__ import annotations

import pytest

from benchmarks.bare import Bare
from benchmarks.trials import configuration


def test_bare_processes_train_all_that_they_are_given() -> None:
    config = configuration("multiple_features", "joint", {})
    with Bare(1) as bare:
        assert not bare.busy
        bare.give((config, 1))
        assert not bare.busy, "nothing waits: the process has what there is"
        bare.give((config, 2))
        assert bare.busy
        bare.work(60)
        assert not bare.busy
        bare.finish()
        assert (bare.given, bare.done) == (2, 2)


def test_a_bare_process_that_dies_is_no_result() -> None:
    with Bare(1) as bare:
        bare.give(({"dataset": "nothing"}, 1))
        with pytest.raises(RuntimeError, match="0 of 1 bare trainings were done"):
            bare.finish()
