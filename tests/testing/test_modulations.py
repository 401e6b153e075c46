"""The contract for methods catches each mistake it is there for, and by the demand that is about it."""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import balance_tune

BROKEN = Path(__file__).parent / "broken.py"


@pytest.fixture(scope="module")
def failed() -> dict[str, set[str]]:
    """Return {test class: names of the tests that failed} of every broken method."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", str(BROKEN)],
        capture_output=True,
        text=True,
        cwd=Path(balance_tune.__file__).parents[1],
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, set[str]] = defaultdict(set)
    for test_class, test in re.findall(r"^FAILED \S+::(\w+)::(\w+)", done.stdout, re.MULTILINE):
        found[test_class].add(test)
    return found


WORKERS = {"test_two_workers_equal_one_on_the_whole_batch", "test_a_worker_without_a_row_changes_nothing"}


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        ("TestHalving", set()),  # the one without a mistake
        ("TestIdle", {"test_it_does_something"}),
        ("TestNameless", {"test_it_says_what_it_is"}),
        ("TestLocal", WORKERS),
        ("TestCareless", WORKERS),
        ("TestForgetful", {"test_stopped_and_resumed_equals_uninterrupted"}),
        ("TestRestless", {"test_outside_its_window_it_equals_joint"}),
        ("TestBoastful", {"test_at_its_neutral_setting_it_equals_its_reference"}),
        ("TestChoosy", {"test_every_point_of_its_space_constructs_and_pickles"}),
        ("TestBound", {"test_every_point_of_its_space_constructs_and_pickles"}),
        (
            "TestHoarding",
            {
                "test_training_only_parts_stay_out_of_the_model",
                "test_stopped_and_resumed_equals_uninterrupted",
                "test_its_best_checkpoint_gives_the_recorded_metrics",
                *WORKERS,
            },
        ),
        ("TestCurious", {"test_evaluation_changes_nothing", "test_its_best_checkpoint_gives_the_recorded_metrics"}),
    ],
)
def test_a_mistake_is_caught_by_the_demand_about_it(
    failed: dict[str, set[str]], broken: str, caught_by: set[str]
) -> None:
    assert failed[broken] == caught_by
