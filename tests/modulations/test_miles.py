"""MILES against a restatement of Algorithm 1, and what it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.miles import Miles, factors
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from tests.golden import golden


@pytest.mark.parametrize("case", golden("miles")["cases"], ids=lambda c: f"{c['threshold']} {c['factor']}")
def test_factors_are_those_of_algorithm_1_with_reset(case: dict[str, Any]) -> None:
    for epoch in case["epochs"]:
        own = {m: torch.tensor(epoch[m], dtype=torch.float64) for m in ("a", "b")}
        fused = torch.tensor(epoch["fused"], dtype=torch.float64)
        found = factors(fused, own, case["threshold"], case["factor"])
        assert [f.item() for f in found.values()] == pytest.approx(epoch["factors_reset"]), epoch


def test_of_three_modalities_the_best_is_slowed_when_it_leads_by_enough() -> None:
    own = {m: torch.tensor(a) for m, a in {"a": 0.8, "b": 0.4, "c": 0.5}.items()}
    assert [f.item() for f in factors(0.9, own, 0.2, 0.5).values()] == [0.5, 1.0, 1.0]
    assert [f.item() for f in factors(0.9, own, 0.5, 0.5).values()] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("own", [{"a": 0.5, "b": 0.5, "c": 0.1}, {"a": 0.0, "b": 0.0}, {"a": 0.3}])
def test_a_tie_and_a_single_modality_slow_nothing(own: dict[str, float]) -> None:
    found = factors(0.5, {m: torch.tensor(a) for m, a in own.items()}, 0.0, 0.5)
    assert [f.item() for f in found.values()] == [1.0] * len(own)


def test_the_first_epoch_is_not_slowed() -> None:
    run, method = tiny_run("miles")
    logged = ["modulation/lr/audio" in metrics for metrics in train(run, method)]
    assert logged == [False, True, True]


@pytest.mark.parametrize("settings", [{"threshold": -0.1}, {"factor": 1.5}])
def test_settings_outside_of_the_papers_ranges_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"must hold for miles"):
        Miles.of(settings)
