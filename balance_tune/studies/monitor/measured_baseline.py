"""Measures what the compute-matched baseline of a study costs, when the study begins or gets another dataset."""

from __future__ import annotations

from collections.abc import Callable

from balance_tune.studies.config.reader import stored_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.monitor.timing import epoch_seconds
from balance_tune.studies.protocol import compute_matched, provenance
from balance_tune.studies.protocol.arms import arms_of
from balance_tune.studies.storage.study_folder import StudyFolder


def with_measured_baseline(config: StudyConfig, folder: StudyFolder, message: Callable[[str], None]) -> StudyConfig:
    """Return the study with the cost of its arms measured, where it asks for a compute-matched baseline.

    What was measured when the study began, or was extended by a dataset, stays.
    """
    if not compute_matched.datasets_to_measure(config):
        return config
    has_begun = (folder.path / provenance.CONFIG).is_file()
    earlier = stored_config(folder.path).baselines.compute_matched if has_begun else {}
    factors = dict(earlier) if isinstance(earlier, dict) else {}
    if any(dataset not in factors for dataset in config.datasets):
        message("measuring how long an epoch of each arm takes, for the compute-matched baseline")
        arms = arms_of(config)
        new = compute_matched.with_measured_factors(config, arms, epoch_seconds(config, arms, folder.parent))
        fresh = new.baselines.compute_matched
        factors = {**(fresh if isinstance(fresh, dict) else {}), **factors}
        message(compute_matched.in_words(factors))
    return compute_matched.with_factors(config, factors)
