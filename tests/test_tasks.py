"""What is told of each task, and which way is better."""

import pytest

from balance_tune.errors import UserError
from balance_tune.tasks import BY_MODALITY, METRICS, OBJECTIVES, TASKS, check_objective, is_share, lower_is_better


def test_every_task_has_metrics_and_one_for_single_modalities() -> None:
    assert set(METRICS) == set(BY_MODALITY) == set(TASKS)
    assert all(BY_MODALITY[task] in METRICS[task] for task in TASKS)


@pytest.mark.parametrize(
    ("objective", "lower"),
    [
        ("val/mae", True),
        ("mae", True),
        ("val/loss", True),
        ("val/gap", True),
        ("val/pearson", False),
        ("map", False),
    ],
)
def test_errors_are_to_be_small_and_all_else_large(objective: str, lower: bool) -> None:
    assert lower_is_better(objective) is lower


def test_only_shares_are_told_in_percent() -> None:
    assert [o for o in OBJECTIVES if not is_share(o)] == ["val/mae", "val/pearson"]


def test_an_objective_that_a_dataset_has_not_is_one_line_with_those_it_has() -> None:
    check_objective("val/mae", "regression", "mosei")
    with pytest.raises(UserError, match=r"got `val/accuracy`, and mosei \(regression\) has val/mae, val/pearson"):
        check_objective("val/accuracy", "regression", "mosei")
