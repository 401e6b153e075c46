"""What the report says in words of data and tuning."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.results.report.cautions import cautions
from balance_tune.studies.results.report.sources import Sources, gather
from tests.studies.results.rows import row_of


@pytest.fixture
def sources(study: Path) -> Sources:
    """A study of which nothing is to be said."""
    sources = gather(study)
    rows = [dataclasses.replace(row, params={}) for row in sources.rows]
    return dataclasses.replace(sources, rows=[r for r in rows if r.dataset == "multiple_features"])


def changed(sources: Sources, method: str, **columns: Any) -> Sources:
    rows = [dataclasses.replace(r, **columns) if r.method == method else r for r in sources.rows]
    return dataclasses.replace(sources, rows=rows)


def test_of_a_sound_study_there_is_nothing_to_say(sources: Sources) -> None:
    assert cautions(sources) == []


def test_a_modality_at_chance_is_named_with_the_share_of_the_largest_class(sources: Sources) -> None:
    """With 700 rows of 10 even classes 5 % of guesses are above 10 + 1.645 x 1.134 = 11.9 %."""
    for score, said in ((0.118, True), (0.12, False), (0.02, True)):
        text = cautions(changed(sources, "joint", test_by_modality={"fourier": 0.8, "zernike": score}))
        assert bool(text) == said
        if said:
            assert "zernike alone is at chance" in text[0]
            assert "the largest class has 10.0 % of the test rows" in text[0]


def test_a_modality_as_good_as_the_fused_model_is_named(sources: Sources) -> None:
    joint = row_of(list(sources.rows), "multiple_features/joint")
    assert joint.test_ci is not None
    for score, said in ((joint.test_ci[0] + 1e-6, True), (joint.test_ci[0] - 1e-6, False)):
        text = cautions(changed(sources, "joint", test_by_modality={"fourier": 0.8, "zernike": score}))
        assert bool(text) == said
        assert not said or text[0].startswith("On multiple_features, zernike alone reaches ")


def test_arms_that_tie_on_validation_are_named(sources: Sources) -> None:
    best = next(row for row in sources.rows if row.chosen)
    (text,) = cautions(changed(sources, "opm", val_confirm=best.val_confirm))
    assert text.startswith(f"On multiple_features, {best.method} and opm tie on validation (")


def test_unreadable_samples_are_counted_and_named(sources: Sources) -> None:
    manifest = {**sources.manifests["multiple_features"]}
    for count in (1, 9):
        manifest["skipped"] = [{"sample": f"s{k}", "file": "x.wav", "reason": "empty"} for k in range(count)]
        (text,) = cautions(dataclasses.replace(sources, manifests={"multiple_features": manifest}))
        assert text.startswith(f"{count} sample{'s' if count > 1 else ''} of multiple_features could not be read")
        assert text.endswith("s0 (empty)." if count == 1 else "s4 (empty) and 4 others.")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("training.lr", 0.2, True),
        ("training.lr", 0.011, False),  # in a logarithmic range 3 % from the bound
        ("training.lr", 0.0105, True),
        ("training.weight_decay", 1e-4, False),
        ("modulation.auxiliary_weight", 1.0, False),  # the default
        ("modulation.alpha", 0.1, True),
    ],
)
def test_tuned_values_at_the_bound_of_their_range_are_named(
    sources: Sources, name: str, value: float, said: bool
) -> None:
    text = cautions(changed(sources, "mlb", params={name: value}))
    assert bool(text) == said
    assert not said or f"multiple_features/mlb {name} " in text[0]
