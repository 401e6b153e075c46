"""Every sampler runs a search of its own kind, and proposes what follows from (study seed, arm, number) alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from balance_tune.studies.protocol.space import Fixed, Parameter, Space
from balance_tune.studies.search.gp_sampler import GpSampler
from balance_tune.studies.search.samplers import GP_TRIALS, sampler_for
from balance_tune.studies.storage.records import read_records
from tests.studies.toy import EPOCHS, ToyArm, ToyStudy, toy_config

KINDS = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "gp": GpSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "qmc": optuna.samplers.QMCSampler,
}
SPACE = Space(
    (
        Parameter("training.lr", "float", 0.001, 1.0, True, None, 0.5, "a recipe"),
        Parameter("modulation.x", "float", 0.0, 1.0, False, None, 0.1, "a paper"),
        Parameter("modulation.count", "int", 1, 9, False, None, 8, "a paper"),
        Parameter("modulation.mode", "categorical", None, None, False, ("a", "b"), "a", "a paper"),
    ),
    {"training.epochs": Fixed(EPOCHS, "study file")},
)


def far(params: Mapping[str, Any]) -> float:
    """Return how far a point is from the best one, lr = 0.03, x = 0.7, count = 4, mode = b."""
    lr, x, count = params["training.lr"], params["modulation.x"], params["modulation.count"]
    return float(
        abs(lr**0.5 - 0.03**0.5) + abs(x - 0.7) + abs(count - 4) / 8 + 0.2 * (params["modulation.mode"] == "a")
    )


def searched(folder: Path, sampler: str, *, trials: int = 10, seed: int = 0, arm: str = "d1/joint") -> list[Any]:
    """Search one arm over four parameters without early stopping; return the trials' points in order."""
    dataset, _, method = arm.partition("/")
    search = {"trials": trials, "sampler": sampler, "early_stopping": "none"}
    config = toy_config(datasets=[dataset], methods=[method], search=search, seed=seed)
    arms = (ToyArm(dataset, method, None, SPACE),)
    ToyStudy(folder, config, arms=arms, curve=lambda params, epoch: 1 - far(params) / 4 - 0.5**epoch).play()
    return [dict(r.params) for r in read_records(folder) if r.phase == "search"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_sampler_is_the_one_asked_for(kind: str) -> None:
    assert isinstance(sampler(kind, number=3), KINDS[kind])


def test_beyond_some_hundred_trials_tpe_takes_over_from_the_gaussian_process() -> None:
    assert isinstance(sampler("gp", number=GP_TRIALS - 1), GpSampler)
    assert isinstance(sampler("gp", number=GP_TRIALS), optuna.samplers.TPESampler)


def sampler(kind: str, *, number: int) -> optuna.samplers.BaseSampler:
    return sampler_for(kind, study_seed=0, arm="d/m", number=number, trials=20, searched=SPACE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_sampler_searches_inside_the_space_without_repeating_itself(tmp_path: Path, kind: str) -> None:
    points = searched(tmp_path, kind)
    assert len(points) == 10
    assert all(SPACE.contains(point) for point in points)
    assert all(a != b for a, b in itertools.combinations(points, 2))
    assert {point["modulation.mode"] for point in points} == {"a", "b"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_points_follow_from_the_studys_seed_and_the_arm(tmp_path: Path, kind: str) -> None:
    first, again = searched(tmp_path / "a", kind, trials=6), searched(tmp_path / "b", kind, trials=6)
    assert first == again
    assert searched(tmp_path / "c", kind, trials=6, seed=1)[1:] != first[1:]


def test_arms_do_not_draw_the_same_points(tmp_path: Path) -> None:
    first = searched(tmp_path / "a", "random", arm="d1/joint")
    assert not [p for p in searched(tmp_path / "b", "random", arm="d2/joint")[1:] if p in first]


@pytest.mark.parametrize("kind", ["tpe", "gp"])
def test_a_sampler_that_learns_ends_nearer_to_the_best_point_than_it_began(tmp_path: Path, kind: str) -> None:
    points = searched(tmp_path, kind, trials=24)
    assert sum(map(far, points[-6:])) < 0.6 * sum(map(far, points[:6]))


def test_cmaes_learns_from_the_storage_although_every_trial_has_a_sampler_of_its_own(tmp_path: Path) -> None:
    study = ToyStudy(
        tmp_path,
        toy_config(
            datasets=["d1"], methods=["joint"], search={"trials": 16, "sampler": "cmaes", "early_stopping": "none"}
        ),
        arms=(ToyArm("d1", "joint", None, SPACE),),
        curve=lambda params, epoch: 1 - far(params) / 4 - 0.5**epoch,
    )
    study.play()
    trials = study.queue._studies["d1/joint"].get_trials()
    guided = [t.number for t in trials if any(name.startswith("cma:generation") for name in t.system_attrs)]
    assert guided == list(range(4, 16))
