"""The calibration benchmark: recordings replayed through the product's queue, and the samples that studies draw."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.calibration import (
    ACCURACY,
    CLASSES,
    MACRO_F1,
    ROWS,
    SampledRows,
    Source,
    against_itself,
    as_recorded,
    macro_f1,
)
from benchmarks.recorded import RECORDINGS, Recording
from benchmarks.replicate import MARGINS, Design, choices


@pytest.fixture(scope="module")
def joint() -> Recording:
    return Recording(RECORDINGS / "multiple_features-joint.npz")


def test_a_recording_has_a_test_score_wherever_training_did_not_break_off(joint: Recording) -> None:
    assert joint.arm.name == "multiple_features/joint"
    assert np.isfinite(joint.test).all()
    assert joint.test.shape == joint.val.shape[:2]
    assert joint.params(joint.default)["training.lr"] == pytest.approx(0.05, rel=0.1)
    mlb = Recording(RECORDINGS / "multiple_features-mlb.npz")
    assert np.isnan(mlb.test).sum() == np.isnan(mlb.val).any(-1).sum() == 3
    assert mlb.params(mlb.default) == mlb.arm.space.defaults()


def test_searches_are_independent_and_reproducible(joint: Recording) -> None:
    design = Design(trials=4, points=1, seeds=1, replicates=5, confirm=1, default_seeds=1)
    found = choices(joint, design, 6)
    assert found.tolist() == choices(joint, design, 6).tolist()
    assert found.shape == (6, len(MARGINS))
    assert len(set(found[:, 0].tolist())) > 1
    assert (found[:, -1] == joint.default).sum() >= (found[:, 0] == joint.default).sum()
    assert design.trainings == 5 * (4 + 2 + 2)


def test_macro_f1_without_a_row_is_macro_f1_of_the_other_rows() -> None:
    rng = np.random.default_rng(0)
    labels = np.concatenate([rng.integers(CLASSES, size=60), [CLASSES - 1]])
    guesses = np.where(rng.random(61) < 0.7, labels, rng.integers(CLASSES, size=61))
    score, without = macro_f1(labels, guesses)
    for row in range(61):
        others = np.arange(61) != row
        assert without[row] == pytest.approx(macro_f1(labels[others], guesses[others])[0])
    from sklearn.metrics import f1_score

    assert score == pytest.approx(f1_score(labels, guesses, average="macro"))


@pytest.mark.parametrize("sample", [ACCURACY, MACRO_F1])
def test_sampled_rows_have_the_true_score_in_the_mean(sample: SampledRows) -> None:
    rng = np.random.default_rng(0)
    scores = np.array([[0.9, 0.97]])
    drawn = np.mean([sample(rng, scores, [0], 0.0)[0].scores for _ in range(400)], axis=0)
    assert drawn == pytest.approx(sample.true_score(scores[0]), abs=0.003)
    (runs,) = sample(rng, scores, [0], 0.0)
    assert runs.units is not None
    assert runs.units.shape == (2, ROWS)
    assert runs.units.mean(1) == pytest.approx(runs.scores, abs=0.01)


def test_one_method_against_itself_is_seldom_called_different(joint: Recording) -> None:
    source = Source(joint, np.arange(10, 30))
    rates = against_itself(source, as_recorded, 5, 300, np.random.default_rng(0))
    assert rates.single <= 0.09
    assert rates.verdict <= rates.family <= 0.09
