"""Whatever a user wrote fits into one short printable line."""

from hypothesis import given
from hypothesis import strategies as st

from balance_tune.studies.wording import LONGEST, did_you_mean, nearest, one_line, shown

ANYTHING = st.text() | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.text()) | st.binary()


@given(ANYTHING)
def test_any_value_is_shown_in_one_printable_line(value: object) -> None:
    assert shown(value).isprintable()


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 10_000)) < LONGEST + 10
    assert shown(10**5000) == "a whole number of 16610 bits"


def test_values_are_shown_in_yamls_words() -> None:
    assert (shown(True), shown(None), shown("a"), shown([1])) == ("`true`", "nothing", "`a`", "`[1]`")


def test_what_a_terminal_would_act_upon_is_escaped() -> None:
    assert one_line("a\n\tb\x1b[31m\u2028c") == "a b\\x1b[31m c"


def test_the_nearest_name_is_found_and_nothing_is_nearest_to_nonsense() -> None:
    assert nearest("trails", ["trials", "seeds"]) == "trials"
    assert nearest("qqq", ["trials", "seeds"]) is None
    assert did_you_mean("trails", ["trials"]) == " Did you mean `trials`?"
    assert did_you_mean("qqq", ["trials", "seeds"]) == " There are: trials, seeds."
    assert did_you_mean("qqq", []) == ""
