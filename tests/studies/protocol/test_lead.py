"""How far a point is ahead of the default on validation, and how sure that is."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest

from balance_tune.studies.protocol.lead import Lead, lead_of


def packed(*units: float) -> str:
    """Return what validation units contribute, as a trial stores it."""
    return base64.b64encode(np.asarray(units, dtype="<f4").tobytes()).decode()


def test_the_error_holds_the_variance_over_units_and_over_seeds() -> None:
    values = {"best": [0.75, 1.0], "default": [0.5, 0.5]}
    units = {"best": [packed(1, 1, 1, 0), packed(1, 1, 1, 1)], "default": [packed(1, 1, 0, 0), packed(1, 0, 1, 0)]}
    lead = lead_of("best", "default", values, units)
    differences = np.mean([[0, 0, 1, 0], [0, 1, 0, 1]], axis=0)
    over_units = differences.var(ddof=1) / 4
    over_seeds = 2 * np.mean([np.var([0.75, 1.0], ddof=1), 0.0]) / 2
    assert lead.mean == pytest.approx(0.375)
    assert lead.error == pytest.approx(math.sqrt(over_units + over_seeds))


def test_without_units_the_error_is_that_of_seeds_alone() -> None:
    values = {"best": [0.6, 0.8], "default": [0.5, 0.5]}
    lead = lead_of("best", "default", values, {"best": [None, None], "default": [packed(1.0), packed(1.0)]})
    assert lead.error == pytest.approx(math.sqrt(2 * ((0.02 + 0.0) / 2) / 2))


def test_one_seed_without_units_gives_no_error_and_never_beats_the_default() -> None:
    lead = lead_of("best", "default", {"best": [0.9], "default": [0.5]}, {"best": [None], "default": [None]})
    assert lead == Lead(pytest.approx(0.4), None)  # type: ignore[arg-type]
    assert not lead.exceeds(1.0)
    assert lead.exceeds(0.0)  # a margin of 0 turns the rule off


@pytest.mark.parametrize(("mean", "exceeds"), [(0.021, True), (0.019, False), (-0.5, False)])
def test_a_lead_must_be_larger_than_the_margin_in_standard_errors(mean: float, exceeds: bool) -> None:
    assert Lead(mean, 0.01).exceeds(2.0) is exceeds
