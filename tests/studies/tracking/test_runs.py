"""What a run is called in MLflow's tree."""

from __future__ import annotations

import pytest

from balance_tune.studies.tracking.runs import RunKey


@pytest.mark.parametrize(
    ("key", "name", "parent"),
    [
        (RunKey(), "quickstart", None),
        (RunKey("av_digits/mlb"), "mlb / av_digits", "quickstart"),
        (RunKey("av_digits/mlb", replicate=2), "#2 / mlb / av_digits", "mlb / av_digits"),
        (RunKey("av_digits/mlb", "search", 7), "007 / mlb / av_digits", "mlb / av_digits"),
        (
            RunKey("av_digits/mlb", "confirm", 3, 2),
            "003 confirm / #2 / mlb / av_digits",
            "#2 / mlb / av_digits",
        ),
    ],
)
def test_a_name_begins_with_what_differs_below_one_parent(key: RunKey, name: str, parent: str | None) -> None:
    assert key.name("quickstart") == name
    assert (key.parent.name("quickstart") if key.parent else None) == parent
    assert RunKey.of_tags(key.tags()) == key
