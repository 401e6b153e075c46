"""Which hyperparameters mattered."""

from __future__ import annotations

import pytest

from balance_tune.studies.results.report.importance import importances
from balance_tune.studies.storage.records import Range, State, TrialRecord


# importance ----------------------------------------------------------------------------------------------------------
def _trials(states: str = "c" * 30) -> list[TrialRecord]:
    space = {"lr": Range(0.01, 1.0, log=True), "idle": Range(0.0, 1.0), "score": Range(choices=("a", "b"))}
    names: dict[str, State] = {"c": "complete", "p": "pruned", "f": "failed"}
    made = []
    for i, letter in enumerate(states):
        lr = 10 ** (-2 + 2 * ((i * 7) % 30) / 30)
        params = {"lr": lr, "idle": (i * 11 % 30) / 30, "score": "ab"[i % 2]}
        value = 1 - abs(lr - 0.1) if letter == "c" else None
        curve = {1: 0.1 + i / 1000}
        made.append(
            TrialRecord("toy/mlb", "toy", "mlb", "search", i, names[letter], params, i, value, curve, {}, space)
        )
    return made


def test_the_parameter_that_matters_is_the_most_important() -> None:
    shares = importances(_trials())
    assert next(iter(shares)) == "lr"
    assert shares["lr"] > 0.5
    assert sum(shares.values()) == pytest.approx(1)


def test_stopped_trials_count_as_worse_than_completed_ones() -> None:
    assert next(iter(importances(_trials("cccccc" + "p" * 24)))) in ("lr", "idle", "score")
    assert importances(_trials("p" * 30)) == {}


def test_too_few_trials_say_nothing_about_importance() -> None:
    assert importances(_trials("ccccc")) == {}
    assert importances([]) == {}
