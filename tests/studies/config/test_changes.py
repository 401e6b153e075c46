"""A study that has begun can be extended, and nothing else."""

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.config.changes import Changes
from balance_tune.studies.config.reader import read_config

BEGUN = {"name": "a", "datasets": ["d"], "methods": ["joint", "mlb"], "search": {"trials": 10}, "training": {"lr": 0.1}}


def changes(*overrides: str) -> Changes:
    return read_config(BEGUN, overrides).changes(read_config(BEGUN))


def test_the_same_study_has_no_changes() -> None:
    assert not changes()
    changes().check("a")


@pytest.mark.parametrize(
    "override",
    [
        "search.trials=11",
        "methods=[opm, mlb, joint]",
        "datasets=[d, e]",
        "select.seeds=4",
        "confirm.seeds=20",
        "limit.hours=1",
        "resources.max_concurrent=2",
        "runner=isolated",
        "price_per_device_hour=2",
        "mlflow.tracking_uri=https://host",
    ],
)
def test_more_of_the_same_is_an_extension(override: str) -> None:
    found = changes(override)
    assert len(found.extended) == 1
    assert not found.refused
    found.check("a")


@pytest.mark.parametrize(
    "override",
    [
        "search.trials=9",
        "search.sampler=random",
        "search.early_stopping=none",
        "search.space.mlb.alpha=1.0",
        "methods=[joint]",
        "datasets=[e]",
        "select.points=5",
        "confirm.seeds=6",
        "training.lr=0.2",
        "training.epochs=5",
        "model.fusion=sum",
        "objective=val/macro_f1",
        "protocol=paper",
        "seed=1",
        "augment={image: {}}",
        "augment={image: {flip: {p: 0.5}}}",
    ],
)
def test_anything_else_is_refused_in_one_line(override: str) -> None:
    found = changes(override)
    assert len(found.refused) == 1
    with pytest.raises(UserError, match=f"`{override.split('=')[0]}.*changed from .* to ") as caught:
        found.check("a")
    assert len(str(caught.value).splitlines()) == 1


def test_a_new_method_may_bring_its_own_space() -> None:
    assert not changes("methods=[joint, mlb, opm]", "search.space.opm.lam=0.5").refused
    assert changes("search.space.opm.lam=0.5").refused


def test_a_budget_cannot_change_its_unit() -> None:
    assert changes("search.trials=", "search.device_seconds=60").refused


FIXED = "{name: fixed, method: mlb, set: {head: false}}"


def with_arms(before: str, now: str, *overrides: str) -> Changes:
    return read_config(BEGUN, [f"methods={now}", *overrides]).changes(read_config(BEGUN, [f"methods={before}"]))


def test_a_named_arm_extends_a_study_with_a_space_of_its_own() -> None:
    found = with_arms("[joint, mlb]", f"[joint, mlb, {FIXED}]", "search.space.fixed.alpha=1.0")
    assert not found.refused
    assert [phrase.partition(" changed")[0] for phrase in found.extended] == ["`methods`", "`search.space.fixed.alpha`"]


def test_an_arm_of_a_new_method_may_bring_the_space_of_that_method() -> None:
    late = "{name: late, method: ogm, set: {start: 0.2}}"
    assert not with_arms("[joint, mlb]", f"[joint, mlb, {late}]", "search.space.ogm.alpha=0.5").refused
    assert with_arms(f"[joint, {late}]", f"[joint, {late}, ogm]", "search.space.ogm.alpha=0.5").refused
    assert with_arms("[joint, mlb]", f"[joint, mlb, {FIXED}]", "search.space.mlb.alpha=1.0").refused


@pytest.mark.parametrize(
    ("now", "phrase"),
    [
        (
            "[joint, {name: fixed, method: mlb, set: {head: true}}]",
            "`methods.fixed.set.head` changed from `false` to `true`",
        ),
        ("[joint, {name: fixed, method: mlb}]", "`methods.fixed.set.head` changed from `false` to nothing"),
        (
            "[joint, {name: fixed, method: ogm, set: {head: false}}]",
            "`methods.fixed.method` changed from `mlb` to `ogm`",
        ),
        ("[joint, mlb]", "`methods` changed from"),
    ],
)
def test_an_arm_that_has_begun_stays_what_it_is(now: str, phrase: str) -> None:
    found = with_arms(f"[joint, {FIXED}]", now)
    assert any(phrase in refused for refused in found.refused)
