"""How much longer joint training must be to take as long as the costliest arm: measured once for a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from balance_tune.studies.config.schema import Baselines, StudyConfig
from balance_tune.studies.config.study_method import BASELINE
from balance_tune.studies.protocol.arms import Arm


def datasets_to_measure(config: StudyConfig) -> list[str]:
    """Return the datasets on which the cost of the arms has to be measured for the compute-matched baseline."""
    factors = config.baselines.compute_matched
    return list(config.datasets) if factors is True else []


def with_measured_factors(config: StudyConfig, arms: Sequence[Arm], pace: Mapping[str, float | None]) -> StudyConfig:
    """Return the study with the measured factors of the compute-matched baseline in place of `true`.

    Args:
        config: the study.
        arms: its arms without the compute-matched one.
        pace: arm -> seconds that an epoch takes; arms without one are left out.
    """
    factors: dict[str, float] = {}
    for dataset in datasets_to_measure(config):
        own = [arm for arm in arms if arm.dataset == dataset and pace.get(arm.name)]
        costs = {arm.label: (pace[arm.name] or 0.0) * arm.epochs(arm.space.defaults()) for arm in own}
        if costs.get(BASELINE):
            factors[dataset] = round(max(1.0, max(costs.values()) / costs[BASELINE]), 2)
    return with_factors(config, factors)


def with_factors(config: StudyConfig, factors: Mapping[str, float]) -> StudyConfig:
    """Return the study with these factors, dataset -> how much longer, in place of `true`."""
    if not datasets_to_measure(config):
        return config
    return config.model_copy(update={"baselines": Baselines(compute_matched=dict(factors))})


def in_words(factors: Mapping[str, float]) -> str:
    """Return what was measured, for the user."""
    each = ", ".join(f"{factor:g} times as long on {dataset}" for dataset, factor in factors.items())
    return f"joint_matched trains {each}: so much more does the most expensive arm cost"
