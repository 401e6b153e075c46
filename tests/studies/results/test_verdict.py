"""The verdict: families, failures, looks, equivalence, and what a design can detect."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from balance_tune.studies.results.inference import Comparison, Runs, compare, estimate
from balance_tune.studies.results.verdict import (
    ALPHA,
    interval_level,
    looks_factor,
    smallest_detectable,
    verdicts,
)

NAN = float("nan")
BASE = np.array([0.950, 0.952, 0.949, 0.951, 0.948, 0.953, 0.950, 0.947, 0.952, 0.951])
GAIN = np.array([0.021, 0.018, 0.023, 0.019, 0.020, 0.022, 0.017, 0.021, 0.019, 0.020])


def _comparison(ours: np.ndarray, theirs: np.ndarray = BASE, **options: float) -> Comparison:
    return compare(Runs(ours), Runs(theirs), worst=0.0, **options)


def test_a_clear_gain_is_better_and_a_clear_loss_worse_in_either_direction() -> None:
    up, down = _comparison(BASE + GAIN), _comparison(BASE - GAIN)
    assert [v.outcome for v in verdicts([up, down])] == ["better", "worse"]
    assert [v.outcome for v in verdicts([up, down], lower=True)] == ["worse", "better"]


def test_holm_corrects_over_the_family_and_an_unknown_rival_counts_as_1() -> None:
    unknown = Comparison(estimate([]), None, None)
    weak = _comparison(BASE + np.array([0.004, -0.001, 0.003, 0.002, -0.001, 0.003, 0.001, 0.004, -0.002, 0.003]))
    alone, together = verdicts([weak]), verdicts([weak, unknown, unknown])
    assert alone[0].p_holm == pytest.approx(weak.typical.p)
    assert together[0].p_holm == pytest.approx(3 * (weak.typical.p or 0))
    assert (together[1].p_holm, together[1].outcome, together[1].mde) == (None, "undecided", None)


def test_a_method_with_failed_seeds_does_not_beat() -> None:
    """7 of 10 diverged: the three that are left were once reported as "beats, p < 0.001"."""
    scores = BASE + GAIN
    scores[:7] = NAN
    (v,) = verdicts([_comparison(scores)])
    assert v.p is not None
    assert v.p < 0.01
    assert (v.outcome, v.blocked) == ("undecided", True)


def test_a_null_method_whose_worst_runs_diverge_does_not_beat() -> None:
    rng = np.random.default_rng(0)
    wins = 0
    for _ in range(1000):
        ours, theirs = rng.normal(0.95, 0.01, (2, 10))
        ours[np.argsort(ours)[:3]] = NAN  # the worst 30 % diverge
        wins += verdicts([_comparison(ours, theirs)])[0].outcome == "better"
    assert wins / 1000 <= 0.025


def test_failures_of_the_baseline_do_not_help_a_rival_and_do_not_block_it() -> None:
    theirs = BASE.copy()
    theirs[0] = NAN
    (v,) = verdicts([_comparison(BASE + GAIN, theirs)])
    assert (v.outcome, v.blocked) == ("better", False)
    assert v.p_with_failures == v.p_holm


def test_a_baseline_that_fails_is_not_beaten_by_that_alone() -> None:
    theirs = BASE.copy()
    theirs[:3] = NAN
    (v,) = verdicts([_comparison(BASE + 0.001 * (-1) ** np.arange(10), theirs)])
    assert v.outcome == "undecided"


def test_a_collapsed_run_blocks_unless_the_mean_holds_with_it() -> None:
    one = BASE + GAIN
    one[4] = 0.2
    (v,) = verdicts([_comparison(one)])
    assert (v.outcome, v.blocked) == ("undecided", True)
    slight = BASE + GAIN
    slight[4] -= 0.018  # far below its arm, and still above the baseline
    (v,) = verdicts([_comparison(slight)])
    assert (v.outcome, v.blocked) == ("better", False)


def test_equivalence_needs_the_whole_90_percent_interval_inside_the_margin() -> None:
    even = _comparison(BASE + 0.0005 * (-1.0) ** np.arange(10))
    assert verdicts([even], equivalence=0.005)[0].outcome == "equivalent"
    assert verdicts([even], equivalence=0.00001)[0].outcome == "undecided"
    assert verdicts([even])[0].p_equivalence is None
    tiny = _comparison(BASE + 0.001 + 0.0001 * (-1.0) ** np.arange(10))
    assert verdicts([tiny])[0].outcome == "better"
    assert verdicts([tiny], equivalence=0.005)[0].outcome == "equivalent", "real, but of no practical importance"


def test_an_arm_with_failed_runs_is_not_equivalent() -> None:
    ours = BASE + 0.0005 * (-1.0) ** np.arange(10)
    ours[3] = NAN
    assert verdicts([_comparison(ours)], equivalence=0.005)[0].outcome == "undecided"


def test_equivalence_is_claimed_wrongly_in_at_most_5_percent() -> None:
    rng = np.random.default_rng(0)
    claims = 0
    for _ in range(2000):
        d = rng.normal(0.005, 0.002, 6)  # exactly the margin
        claims += verdicts([Comparison(estimate(d), None, None)], equivalence=0.005)[0].outcome == "equivalent"
    assert claims / 2000 <= 0.065


def test_looks_at_5_10_15_and_20_replicates_find_nothing_in_94_percent() -> None:
    rng = np.random.default_rng(0)
    naive = adjusted = 0
    for _ in range(2000):
        d = rng.normal(size=20)
        found = [Comparison(estimate(d[:n]), None, None) for n in (5, 10, 15, 20)]
        naive += any(verdicts([c])[0].outcome != "undecided" for c in found)
        adjusted += any(verdicts([c], looks=k)[0].outcome != "undecided" for k, c in enumerate(found, start=1))
    assert naive / 2000 > 0.10
    assert adjusted / 2000 <= 0.07


def test_the_interval_at_a_later_look_excludes_zero_exactly_where_p_is_small() -> None:
    assert looks_factor(1) == 1
    assert interval_level() == pytest.approx(0.95)
    rng = np.random.default_rng(0)
    for looks in (1, 2, 3):
        for _ in range(50):
            d = rng.normal(0.8, 1, 8)
            c = Comparison(estimate(d, level=interval_level(looks)), None, None)
            (v,) = verdicts([c], looks=looks)
            assert c.typical.ci is not None
            assert v.p is not None
            assert (v.p < ALPHA) == (not c.typical.ci[0] <= 0 <= c.typical.ci[1])
    with pytest.raises(ValueError, match="looks >= 1"):
        looks_factor(0)


def test_the_smallest_detectable_difference_is_found_with_80_percent_power() -> None:
    rng = np.random.default_rng(0)
    size = smallest_detectable(estimate(0.01 * np.array([-1.0, 1.0] * 5) * np.sqrt(0.9)))  # sd 0.01
    assert size is not None
    found = np.array([estimate(d).p for d in rng.normal(size, 0.01, (4000, 10))])
    assert np.mean(found < ALPHA) == pytest.approx(0.8, abs=0.02)


def test_the_smallest_detectable_difference_of_two_replicates_is_found_at_any_level() -> None:
    two = estimate([0.9, -0.8])
    assert two.error is not None
    for alpha in (1e-3, 1e-5, 1e-8):  # with one degree of freedom t is far out: a quotient by a normal value
        critical = float(special.stdtrit(1, 1 - alpha / 2))
        expected = two.error * critical * float(special.ndtri(0.9))
        assert smallest_detectable(two, alpha=alpha) == pytest.approx(expected, rel=1e-4)
    below, above = (smallest_detectable(two, alpha=alpha) for alpha in (0.00637, 0.00636))  # critical: 99.9 and 100.1
    assert below is not None
    assert above == pytest.approx(below, rel=3e-3)


def test_nothing_beyond_the_metrics_span_is_called_detectable() -> None:
    wild = estimate([0.9, -0.8])
    assert smallest_detectable(wild) is not None
    assert smallest_detectable(wild, span=1.0) is None
    assert smallest_detectable(estimate([0.1])) is None
    assert smallest_detectable(estimate([0.1, 0.1])) is None


def _any_runs(rng: np.random.Generator, replicates: int, rows: int, kind: int) -> Runs:
    hits = rng.random((replicates, rows)) < rng.random()
    units = {
        "hits": hits.astype(np.float64),
        "the same rows each time": (hits[:1] | (rng.random((replicates, rows)) < 0.02)).astype(np.float64),
        "constant": np.full((replicates, rows), float(rng.integers(2))),
        "of any size": rng.normal(size=(replicates, rows)) * 10.0 ** rng.integers(-6, 6),
    }
    own = list(units.values())[kind]
    scores = np.where(rng.random(replicates) < rng.choice([0.0, 0.1, 0.5, 1.0]), NAN, own.mean(axis=1))
    return Runs(scores, own if rng.random() < 0.7 else None)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(300))
def test_whatever_the_runs_are_every_number_is_one_or_unknown(seed: int) -> None:
    rng = np.random.default_rng(seed)
    replicates, rows, kind = int(rng.integers(1, 12)), int(rng.choice([1, 2, 3, 60])), int(rng.integers(4))
    looks, lower = int(rng.integers(1, 6)), bool(rng.integers(2))
    baseline, *rivals = (_any_runs(rng, replicates, rows, kind) for _ in range(1 + int(rng.integers(1, 12))))
    comparisons = [compare(r, baseline, worst=0.0, lower=lower, level=interval_level(looks)) for r in rivals]
    for c, v in zip(comparisons, verdicts(comparisons, lower=lower, looks=looks, equivalence=0.005), strict=True):
        assert all(0 <= p <= 1 for p in (v.p, v.p_holm, v.p_with_failures, v.p_equivalence) if p is not None)
        assert all(0 < mde < np.inf for mde in (v.mde, v.mde_holm) if mde is not None)
        if c.typical.ci is not None:
            assert -np.inf < c.typical.ci[0] <= c.typical.mean <= c.typical.ci[1] < np.inf
