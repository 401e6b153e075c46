"""Labels mean what is written, for a whole table alike; what may mean two things is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from balance_tune.datasets.labels import Labels, as_number, read_labels
from balance_tune.datasets.tabular import TextTable
from balance_tune.errors import UserError


def labels(cells: Sequence[Any], task: Any = "classes", **settings: Any) -> Labels:
    table = TextTable(Path("t.csv"), {"y": list(cells)}, list(range(2, 2 + len(cells))))
    return read_labels(table, ["y"], task, **settings)


def test_blanks_around_labels_are_none_of_them() -> None:
    found = labels(["cat", "cat ", " dog", "cafe\u0301", "caf\u00e9"])
    assert found.classes == ("caf\u00e9", "cat", "dog")
    assert found.values == [1, 1, 2, 0, 0]


def test_leading_zeros_and_words_for_nothing_stay_names() -> None:
    assert labels(["01", "02", "NA", "none", "3.0"]).classes == ("01", "02", "3.0", "NA", "none")


@pytest.mark.parametrize(
    ("one", "other"), [("1", "1.0"), ("01", "1"), ("1e3", "1000"), ("cat", "c\u200bat"), ("a b", "A b")]
)
def test_labels_that_look_the_same_are_refused(one: str, other: str) -> None:
    with pytest.raises(UserError, match="labels must differ by more than case, blanks or the form of a number"):
        labels([one, other, "dog"])
    assert labels([one, other], classes=[one, other]).values == [0, 1]


@pytest.mark.parametrize("missing", ["", "  ", "nan", "NaN", "null", "<NA>"])
def test_a_missing_label_names_its_rows(missing: str) -> None:
    with pytest.raises(
        UserError, match=r"but `y` .* in rows 3 and 5 of t\.csv; fill it in, or say `missing_labels: drop`"
    ):
        labels(["a", missing, "b", missing])
    assert labels(["a", missing, "b", missing], missing="drop").values == [0, None, 1, None]
    with pytest.raises(UserError, match="every row of it is empty"):
        labels([missing, missing], missing="drop")


def test_a_class_may_be_called_null_where_the_recipe_says_so() -> None:
    assert labels(["null", "a"], classes=["a", "null"]).values == [1, 0]


@pytest.mark.parametrize("other", ["Cat", "CAT", "ca t"])
def test_labels_that_differ_by_case_or_blanks_alone_are_refused(other: str) -> None:
    with pytest.raises(UserError, match=rf"has `cat` \(row 2\) and `{other}` \(row 4\); make them one"):
        labels(["cat", "dog", other])
    assert labels(["cat", "dog", other], classes=["cat", "dog", other]).values == [0, 1, 2]


def test_labels_are_names_or_indices_for_the_whole_table() -> None:
    classes = ("1", "2", "3", "4")
    assert labels(["1", "2", "4"], classes=classes).values == [0, 1, 3]
    found = labels(["0", "1", "3"], classes=classes)
    assert (found.values, found.by_index) == ([0, 1, 3], True)
    with pytest.raises(UserError, match="`y` is `0` in row 2"):
        labels(["0", "4"], classes=classes)
    with pytest.raises(UserError, match="`y` is `1` in row 3"):
        labels(["owl", "1"], classes=["owl", "wren"])


def test_numbers_that_may_be_names_or_places_are_refused() -> None:
    with pytest.raises(UserError, match="the class of this number or the one at this place"):
        labels(["1", "2"], classes=["01", "02", "03"])


def test_an_unknown_label_is_told_with_the_nearest_class() -> None:
    with pytest.raises(UserError, match=r"`y` is `Owll` in row 3 of t\.csv\. Did you mean `owl`\?"):
        labels(["owl", "Owll"], classes=["owl", "wren"])


def test_several_labels_are_separated_as_the_recipe_says() -> None:
    found = labels(["cat|dog | owl", ("owl",), "dog"], "multilabel")
    assert found.classes == ("cat", "dog", "owl")
    assert found.values == [(1, 1, 1), (0, 0, 1), (0, 1, 0)]
    assert labels(["cat;dog", "dog"], "multilabel", separator=";").values == [(1, 1), (0, 1)]


@pytest.mark.parametrize("cells", [["cat", "cat;dog", "dog;owl", "owl"], ["a;b", "b;c"], ["a,b", "a", "b"]])
def test_labels_that_look_separated_otherwise_are_refused(cells: list[str]) -> None:
    with pytest.raises(UserError, match="say `separator: "):
        labels(cells, "multilabel")


def test_a_name_may_have_a_comma() -> None:
    cells = ["Male speech, man speaking", "Bark", "Female speech, woman speaking|Bark"]
    assert len(labels(cells, "multilabel").classes) == 3


def test_no_label_is_an_error_or_none_of_them_as_the_recipe_says() -> None:
    with pytest.raises(UserError, match="in row 3"):
        labels(["cat", "", "dog"], "multilabel")
    assert labels(["cat", "", "dog"], "multilabel", missing="none").values == [(1, 0), (0, 0), (0, 1)]
    assert labels(["cat", "", "dog"], "multilabel", missing="drop").values == [(1, 0), None, (0, 1)]


def test_targets_are_numbers() -> None:
    assert labels(["1.5", "-2e1"], "regression").values == [(1.5,), (-20.0,)]
    assert labels(["1|2"], "regression", classes=["a", "b"]).values == [(1.0, 2.0)]
    with pytest.raises(UserError, match=r"`y` in row 3 of t\.csv: `high` is no number"):
        labels(["1", "high"], "regression")


@pytest.mark.parametrize(("text", "decimal", "value"), [("1.5", ".", 1.5), (" 2 ", ".", 2.0), ("-1,5e1", ",", -15.0)])
def test_a_number_is_read_as_written(text: str, decimal: str, value: float) -> None:
    assert as_number(text, decimal) == value


@pytest.mark.parametrize(
    ("text", "decimal", "message"),
    [
        ("1,5", ".", "a decimal comma"),
        ("1.500,2", ",", "no number"),
        ("1_000", ".", "no number"),
        ("\u0661", ".", "no number"),
        ("inf", ".", "no number"),
        ("1e999", ".", "beyond the numbers of 32 bits"),
        ("0x10", ".", "no number"),
    ],
)
def test_what_is_no_number_is_never_guessed(text: str, decimal: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_number(text, decimal)
