import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balance_tune.datasets.splits import PARTS, SplitRecipe, apportion, check_leaks, split_hash
from balance_tune.errors import UserError

TENTHS = SplitRecipe("stratified", train=0.5, monitor=0.1, val=0.2, test=0.2)


def counts(assignment: np.ndarray) -> list[int]:
    return np.bincount(assignment, minlength=4).tolist()


def test_a_stratified_split_gives_every_class_its_exact_share() -> None:
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    assignment = TENTHS.assign(labels)
    assert [counts(assignment[labels == label]) for label in range(3)] == [[5, 1, 2, 2], [10, 2, 4, 4], [15, 3, 6, 6]]


def test_a_third_of_300_is_100_in_floating_point_too() -> None:
    recipe = SplitRecipe("stratified", train=1000 / 3000, monitor=200 / 3000, val=500 / 3000, test=1300 / 3000)
    assert counts(recipe.assign(np.arange(3000) % 10)) == [1000, 200, 500, 1300]


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    shares=st.lists(st.integers(1, 20), min_size=4, max_size=4),
)
def test_every_class_is_rounded_by_less_than_one(sizes: list[int], shares: list[int]) -> None:
    fractions = tuple(share / sum(shares) for share in shares)
    owed = np.zeros(4)
    for n in sizes:
        got = apportion(n, fractions, owed)
        owed += n * np.array(fractions) - got
        assert got.sum() == n
        assert (abs(got - n * np.array(fractions)) < 1).all()


def test_a_small_part_gets_its_share_of_many_small_classes() -> None:
    recipe = SplitRecipe("stratified", train=0.6, monitor=0.04, val=0.16, test=0.2)
    assert counts(recipe.assign(np.arange(1000) % 100)) == [600, 40, 160, 200]


def test_a_split_is_the_same_every_time_and_another_with_another_seed() -> None:
    labels = np.arange(60) % 3
    other = SplitRecipe("stratified", train=0.5, monitor=0.1, val=0.2, test=0.2, seed=1)
    assert (TENTHS.assign(labels) == TENTHS.assign(labels)).all()
    assert (TENTHS.assign(labels) != other.assign(labels)).any()
    assert TENTHS.hash != other.hash


def test_a_split_does_not_change_with_the_version_of_the_code() -> None:
    assert split_hash(TENTHS, TENTHS.assign(np.arange(60) % 3)) == "fc1e7f4b8ea9"


def test_a_group_lies_in_one_part() -> None:
    recipe = SplitRecipe("group", train=0.4, monitor=0.1, val=0.2, test=0.3)
    groups = np.repeat(np.arange(10) * 7, 12)
    assignment = recipe.assign(np.arange(120) % 2, groups)
    parts = [{int(g) for g in groups[assignment == part]} for part in range(4)]
    assert [len(found) for found in parts] == [4, 1, 2, 3]
    assert len(set().union(*parts)) == 10


def test_a_leak_is_told_with_the_group_and_its_parts() -> None:
    with pytest.raises(UserError, match="group 7 lies in train, val"):
        check_leaks(np.array([0, 2, 3], dtype=np.int8), np.array([7, 7, 8]))


def test_official_parts_are_taken_as_they_are() -> None:
    official = np.array([0, 0, 1, 2, 3, 3], dtype=np.int8)
    assignment = SplitRecipe("official").assign(np.array([0, 1, 0, 1, 0, 1]), official=official)
    assert assignment.tolist() == official.tolist()


def test_validation_is_carved_out_of_official_training_rows_by_class() -> None:
    official = np.repeat(np.array([0, 3], dtype=np.int8), [100, 20])
    assignment = SplitRecipe("official", monitor=0.1, val=0.2).assign(np.arange(120) % 5, official=official)
    assert counts(assignment) == [70, 10, 20, 20]
    assert (assignment[100:] == 3).all()
    assert np.bincount((np.arange(120) % 5)[assignment == 2]).tolist() == [4] * 5


def test_validation_is_carved_out_by_whole_groups() -> None:
    official = np.repeat(np.array([0, 3], dtype=np.int8), [100, 20])
    groups = np.arange(120) // 10
    recipe = SplitRecipe("official", monitor=0.1, val=0.2, carve="group")
    assignment = recipe.assign(np.arange(120) % 2, groups, official)
    check_leaks(assignment, groups)
    assert counts(assignment) == [70, 10, 20, 20]


def test_a_part_is_official_or_carved() -> None:
    official = np.array([0, 0, 0, 2, 3], dtype=np.int8)
    with pytest.raises(UserError, match="`val` is both"):
        SplitRecipe("official", monitor=0.2, val=0.2).assign(np.zeros(5, dtype=int), official=official)
    with pytest.raises(UserError, match="carve `monitor` and `val`"):
        SplitRecipe("official", train=0.5)


@pytest.mark.parametrize(
    ("recipe", "labels", "message"),
    [
        (SplitRecipe("group", 0.4, 0.1, 0.2, 0.3), np.zeros(9, dtype=int), "needs `groups`"),
        (SplitRecipe("official"), np.zeros(9, dtype=int), "needs `parts`"),
        (TENTHS, np.zeros(3, dtype=int), "every part of a split needs a row"),
        (SplitRecipe("stratified", 0.1, 0.3, 0.3, 0.3), np.array([0] * 100 + [1]), "class 1 has none"),
    ],
)
def test_a_split_that_cannot_be_is_one_line(recipe: SplitRecipe, labels: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe.assign(labels)


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.2, 0.2, 0.2), (1.0, 0.0, 0.0, 0.0), (-0.2, 0.4, 0.4, 0.4), (float("nan"), 0.1, 0.2, 0.3)]
)
def test_fractions_must_be_positive_and_sum_to_one(fractions: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="above 0 and sum to 1"):
        SplitRecipe("stratified", **dict(zip(PARTS, fractions, strict=True)))
