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
        "select.points=4",
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
