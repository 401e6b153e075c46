"""What is told of each task, and which way is better."""

import doctest
import json

import pytest

from balance_tune import tasks
from balance_tune.errors import UserError
from balance_tune.tasks import BY_MODALITY, METRICS, OBJECTIVES, TASKS, Objective, check_objective


def test_every_task_has_metrics_and_one_for_single_modalities() -> None:
    assert set(METRICS) == set(BY_MODALITY) == set(TASKS)
    assert all(BY_MODALITY[task] in METRICS[task] for task in TASKS)


@pytest.mark.parametrize(
    ("objective", "lower"),
    [
        ("val/accuracy/loss", False),  # a modality of that name
        ("val/mae", True),
        ("mae", True),
        ("val/loss", True),
        ("val/gap", True),
        ("val/pearson", False),
        ("map", False),
    ],
)
def test_errors_are_to_be_small_and_all_else_large(objective: str, lower: bool) -> None:
    metric = Objective(objective)
    assert metric.lower_is_better is lower
    assert metric.direction == ("minimize" if lower else "maximize")
    assert metric.best([0.2, 0.4, 0.3]) == (0.2 if lower else 0.4)
    assert metric.gain(metric.gain(0.3)) == 0.3


def test_only_shares_are_told_in_percent() -> None:
    assert [o for o in OBJECTIVES if not Objective(o).is_share] == ["val/mae", "val/pearson"]


def test_of_equal_values_the_first_is_the_best_and_of_nothing_there_is_none() -> None:
    mae = Objective("val/mae")
    assert mae.best_of([("a", 0.5), ("b", 0.5), ("c", 0.7)], lambda item: item[1]) == ("a", 0.5)
    assert mae.best([]) is None


@pytest.mark.parametrize(
    ("objective", "value", "text", "difference", "size"),
    [
        ("val/accuracy", 0.0123, "1.2", "+1.2", "1.2 points"),
        ("macro_f1", -0.0004, "-0.0", "\N{MINUS SIGN}0.0", "0.04 points"),
        ("mae", -0.0123, "-0.012", "\N{MINUS SIGN}0.012", "0.012"),
    ],
)
def test_values_and_differences_are_written_in_the_unit_of_the_metric(
    objective: str, value: float, text: str, difference: str, size: str
) -> None:
    metric = Objective(objective)
    assert (metric.text(value), metric.difference(value), metric.size(value)) == (text, difference, size)
    assert metric.text(None) == metric.difference(None) == "-"


def test_an_objective_is_the_name_of_its_metric_wherever_text_is_expected() -> None:
    assert json.loads(json.dumps({Objective("val/map"): Objective("val/map")})) == {"val/map": "val/map"}
    assert Objective("val/macro_f1").by_modality == "accuracy"
    assert Objective("val/mae").by_modality == "pearson"


def test_the_examples_in_the_documentation_of_an_objective_are_right() -> None:
    assert doctest.testmod(tasks).failed == 0


def test_an_objective_that_a_dataset_has_not_is_one_line_with_those_it_has() -> None:
    check_objective("val/mae", "regression", "mosei")
    with pytest.raises(UserError, match=r"got `val/accuracy`, and mosei \(regression\) has val/mae, val/pearson"):
        check_objective("val/accuracy", "regression", "mosei")
