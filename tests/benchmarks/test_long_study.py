"""The benchmark of a long study."""

from __future__ import annotations

from balance_tune.studies.protocol.arms import arms_of
from benchmarks.long_study import TRIALS, configuration


def test_ten_thousand_trials_are_shared_by_sixty_arms() -> None:
    config = configuration(TRIALS)
    arms = arms_of(config)
    assert len({arm.name for arm in arms}) == len(arms) == 60
    assert config.search.trials is not None
    assert 0 <= TRIALS - config.search.trials * len(arms) < len(arms)


def test_a_study_of_few_trials_has_one_in_each_arm() -> None:
    assert configuration(10).search.trials == 1
