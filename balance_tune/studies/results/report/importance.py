"""Which hyperparameters mattered: Optuna's PED-ANOVA on the trials of one arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from balance_tune.studies.storage.records import Range, TrialRecord
from balance_tune.tasks import Objective

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 8  # finished trials below which importances are noise
TOP = 5  # trials PED-ANOVA wants in its top quantile, as Optuna's own documentation advises


def importances(records: Sequence[TrialRecord], objective: Objective = Objective("val/accuracy")) -> dict[str, float]:
    """Return parameter -> share of importance (they sum to 1), largest first; empty where the trials cannot tell.

    PED-ANOVA (Watanabe et al., IJCAI 2023) only asks which trials are among the best, so stopped trials take part: they
    count as worse than every completed one. Failed trials tell nothing about accuracy and are left out.
    """
    search = [r for r in records if r.phase == "search" and r.params]
    complete = [(r, objective.gain(r.value)) for r in search if r.state == "complete" and r.value is not None]
    stopped = [(r, max(map(objective.gain, r.curve.values()))) for r in search if r.state == "pruned" and r.curve]
    if not complete or len(complete) + len(stopped) < FEWEST:
        return {}
    floor = min(v for _, v in complete) - 1 - max((v for _, v in stopped), default=0.0)
    scored = [*complete, *((r, floor + v) for r, v in stopped)]
    free = [name for name in complete[0][0].space if len({str(r.params.get(name)) for r, _ in scored}) > 1]
    if len({v for _, v in scored}) < 2 or not free:
        return {}
    return _ped_anova(scored, free)


def _ped_anova(scored: Sequence[tuple[TrialRecord, float]], free: Sequence[str]) -> dict[str, float]:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    loudness = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would announce every study kept in memory
    try:
        study = optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(loudness)
    for record, value in scored:
        if not all(name in record.params for name in free):
            continue  # tried before the space was extended
        study.add_trial(
            optuna.create_trial(
                params={name: record.params[name] for name in free},
                distributions={name: _distribution(record.space[name]) for name in free},
                value=value,
            )
        )
    evaluator = PedAnovaImportanceEvaluator(target_quantile=min(max(0.1, TOP / len(study.trials)), 0.5))
    return {name: float(share) for name, share in get_param_importances(study, evaluator=evaluator).items()}


def _distribution(space: Range) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if space.choices is not None:
        return CategoricalDistribution(space.choices)
    assert space.low is not None
    assert space.high is not None
    if space.integer:
        return IntDistribution(int(space.low), int(space.high), log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)
