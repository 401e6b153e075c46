"""The arms that keep a study honest: the placebo, and joint training with as much compute as the dearest method takes.

The placebo is a second joint arm with searches and seeds of its own. Whatever the study finds between it and the
baseline is an error of the study. The compute-matched baseline trains so many times longer as an epoch of the dearest
arm takes longer than one of joint training: equal epochs are not equal compute.
"""

from __future__ import annotations

from collections.abc import Mapping

from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.config.study_method import BASELINE, StudyMethod
from balance_tune.studies.protocol.keys import MATCHED, PLACEBO


def extra_entries(config: StudyConfig, dataset: str, epochs: int) -> list[StudyMethod]:
    """Return the arms of a dataset beside `methods`.

    Args:
        config: the study.
        dataset: the dataset.
        epochs: of joint training there by default.
    """
    entries = []
    factors = config.baselines.compute_matched
    if isinstance(factors, Mapping) and dataset in factors:
        longer = max(epochs, round(epochs * factors[dataset]))
        entries.append(StudyMethod(name=MATCHED, method=BASELINE, set={"training.epochs": longer}))
    if config.placebo:
        entries.append(StudyMethod(name=PLACEBO, method=BASELINE))
    return entries
