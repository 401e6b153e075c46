"""A finished study is given more methods, datasets and seeds, or another study's points; nothing is run twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from balance_tune.studies.engine import _warm_points
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from tests.studies.toy import ToyStudy, names_of, toy_arm, toy_config

ONE = {"datasets": ["d1"], "methods": ["joint"]}


def told(folder: Path) -> list[tuple[Any, ...]]:
    return [(r.arm, r.phase, r.number, r.state, dict(r.params), r.value, r.seed) for r in read_records(folder)]


def extended(folder: Path, **more: Any) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Play a study of one arm to its end, extend it, play on; return what was told before, and what came to it."""
    study = ToyStudy(folder, toy_config(**ONE))
    study.play()
    before = told(folder)
    study.config = toy_config(**{**ONE, **more})
    study.arms = tuple(toy_arm(f"{d}/{m}") for d in study.config.datasets for m in names_of(study.config))
    study.reopen()
    study.play()
    assert study.queue.is_finished()
    after = told(folder)
    assert all(trial in after for trial in before)
    return before, [trial for trial in after if trial not in before]


def test_another_method_is_searched_and_confirmed_and_the_old_arm_left_alone(tmp_path: Path) -> None:
    before, new = extended(tmp_path, methods=["joint", "mlb"])
    assert {arm for arm, *_ in new} == {"d1/mlb"}
    assert Counter(phase for _, phase, *_ in new)["search"] == 5
    seeds = [{t[6] for t in trials if t[1] == "confirm"} for trials in (before, new)]
    assert seeds[0] == seeds[1], "confirmed on the seeds of the arms that were there"


def test_another_dataset_brings_all_methods_there(tmp_path: Path) -> None:
    _, new = extended(tmp_path, datasets=["d1", "d2"])
    assert {arm for arm, *_ in new} == {"d2/joint"}


def test_more_confirmation_seeds_add_the_new_ones_only(tmp_path: Path) -> None:
    before, new = extended(tmp_path, confirm={"seeds": 4, "default_seeds": 1})
    assert Counter(phase for _, phase, *_ in new) == {"confirm": 2}
    assert not {t[6] for t in new} & {t[6] for t in before}


def test_more_selection_seeds_may_find_another_winner_and_confirm_it(tmp_path: Path) -> None:
    _, new = extended(tmp_path, select={"points": 1, "seeds": 3})
    assert Counter(phase for _, phase, *_ in new)["select"] == 4


def test_more_device_seconds_go_on_with_the_search(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(**ONE, search={"device_seconds": 30.0, "early_stopping": "none"}))
    study.play()
    spent = [r.device_seconds for r in read_records(tmp_path) if r.phase == "search"]
    study.config = toy_config(**ONE, search={"device_seconds": 60.0, "early_stopping": "none"})
    study.reopen()
    study.play()
    more = [r.device_seconds for r in read_records(tmp_path) if r.phase == "search"]
    assert more[: len(spent)] == spent
    assert sum(more[:-1]) < 60 <= sum(more)


def test_the_best_points_of_another_study_come_after_the_default_the_best_first(tmp_path: Path) -> None:
    early = {"trials": 6, "sampler": "random", "early_stopping": "none"}
    ToyStudy(tmp_path / "old", toy_config(**ONE, search=early, select={"points": 2, "seeds": 1})).play()
    config = toy_config(**ONE, search={**early, "warm_start": "old"}, select={"points": 2, "seeds": 1}, seed=1)
    new = ToyStudy(tmp_path / "new", config)
    new.queue._warm = _warm_points(config, new.arms, StudyFolder(tmp_path))
    new.play()
    old = [r for r in read_records(tmp_path / "old") if r.phase == "search" and r.number > 0]
    best = [r.params for r in sorted(old, key=lambda r: -(r.value or 0.0))[:2]]
    searched = [r for r in read_records(tmp_path / "new") if r.phase == "search"]
    assert [r.params for r in searched[1:3]] == best
    assert [bool(r.attrs.get("warm_start")) for r in searched] == [False, True, True, False, False, False]


def test_points_outside_a_narrower_space_are_not_taken_over(tmp_path: Path) -> None:
    early = {"trials": 6, "sampler": "random", "early_stopping": "none"}
    ToyStudy(tmp_path / "old", toy_config(**ONE, search=early)).play()
    config = toy_config(**ONE, search={**early, "warm_start": "old"})
    arm = toy_arm("d1/joint")
    (x,) = arm.space.parameters
    narrow = type(arm)("d1", "joint", None, type(arm.space)((type(x)(**{**vars(x), "high": 0.5}),), arm.space.fixed))
    for warm in _warm_points(config, [narrow], StudyFolder(tmp_path))["d1/joint"]:
        assert warm["modulation.x"] <= 0.5
    assert _warm_points(config, [toy_arm("d1/joint")], StudyFolder(tmp_path))["d1/joint"]
