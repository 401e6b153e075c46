"""Numbers, durations and tables as people read them."""

import pytest

from balance_tune.commands.output import columns, duration, number


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.2, "1 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (273_600, "3 days 4 h")],
)
def test_a_duration_has_the_two_units_that_matter(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8, "0.8"), (1e-5, "1e-05"), (3, "3"), (4096.0, "4,096"), (1234.5, "1,234"), (0.123456, "0.1235")],
)
def test_a_number_has_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_columns_are_as_wide_as_they_must_be() -> None:
    assert columns(("a", "n"), [("long", "1"), ("b", "22")], right=[1]) == "a      n\nlong   1\nb     22"
