"""The name of a trial: which Optuna study it is in, and that numbers are counted there."""

from __future__ import annotations

import pickle

from balance_tune.studies.protocol.keys import TrialKey


def test_search_trials_are_in_the_arms_own_study_and_all_others_together_in_one_beside_it() -> None:
    assert TrialKey("d/m", "search", 0).study_name == "d/m"
    assert TrialKey("d/m", "select", 0).study_name == TrialKey("d/m", "confirm", 1).study_name == "d/m/confirm"


def test_a_key_is_a_value_that_travels_to_other_processes() -> None:
    key = TrialKey("d/m", "confirm", 3)
    assert pickle.loads(pickle.dumps(key)) == key == ("d/m", "confirm", 3, 0)
    assert {key: 1}[TrialKey("d/m", "confirm", 3)] == 1
