"""What to expect of an arm's points, by all trainings of its search and its selection."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from balance_tune.studies.storage.records import TrialRecord
from balance_tune.tasks import Objective

if TYPE_CHECKING:
    from balance_tune.studies.surrogate.forecast import Course, Outcome

MODELLED = 100  # search trials that the model sees; more take more than 50 ms


def expected_gains(
    points: Sequence[Mapping[str, Any]],
    searched: Iterable[TrialRecord],
    selected: Iterable[TrialRecord],
    objective: Objective,
) -> list[float]:
    """Return how good points are expected to be, in no unit; larger is better.

    The mean of a few selection trainings is noisy, and the largest of several such means is mostly luck. The model of
    the search knows each point's own trainings and those of points about it, so it shrinks a lucky value towards what
    its neighbours say.

    Args:
        points: the points, some of which have been trained.
        searched: finished search trials of the arm in one replicate.
        selected: its selection trials.
        objective: what they are compared by.
    """
    from balance_tune.studies.surrogate.forecast import Outcome, outcomes
    from balance_tune.studies.surrogate.posterior import posterior_means

    searched = [r for r in searched if not r.superseded]
    default = next((r.params for r in searched if r.attrs.get("default")), None)
    ranges = {name: own for r in searched for name, own in r.space.items()}
    results = _most_telling(outcomes(_course(r, objective) for r in searched))
    results += [
        Outcome(r.params, objective.gain(r.value), seed=r.seed)
        for r in selected
        if r.state == "complete" and r.value is not None
    ]
    if default is None or not results or not ranges or len(points) < 2:
        return [0.0] * len(points)
    return posterior_means(ranges, default, results, points)


def _most_telling(results: Sequence[Outcome]) -> list[Outcome]:
    """Return at most `MODELLED` outcomes: the best half of them, and others evenly over the rest."""
    ranked = sorted(results, key=lambda o: -o.value)
    if len(ranked) <= MODELLED:
        return ranked
    best, rest = ranked[: MODELLED // 2], ranked[MODELLED // 2 :]
    return best + rest[:: math.ceil(len(rest) / (MODELLED - len(best)))]


def _course(record: TrialRecord, objective: Objective) -> Course:
    from balance_tune.studies.surrogate.forecast import Course

    values = [value for _, value in sorted(record.curve.items()) if math.isfinite(value)]
    if not values and record.state == "complete" and record.value is not None:
        values = [record.value]
    return Course(record.params, record.state, [objective.gain(value) for value in values])
