"""A search that begins with the best points of another study."""

from __future__ import annotations

from pathlib import Path

from balance_tune.studies.protocol.warm_start import warm_points
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from tests.studies.toy import ToyStudy, toy_arm, toy_config

ONE = {"datasets": ["d1"], "methods": ["joint"]}


def test_the_best_points_of_another_study_come_after_the_default_the_best_first(tmp_path: Path) -> None:
    early = {"trials": 6, "sampler": "random", "early_stopping": "none"}
    ToyStudy(tmp_path / "old", toy_config(**ONE, search=early, select={"points": 2, "seeds": 1})).play()
    config = toy_config(**ONE, search={**early, "warm_start": "old"}, select={"points": 2, "seeds": 1}, seed=1)
    new = ToyStudy(tmp_path / "new", config)
    new.queue._warm = warm_points(config, new.arms, StudyFolder(tmp_path))
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
    for warm in warm_points(config, [narrow], StudyFolder(tmp_path))["d1/joint"]:
        assert warm["modulation.x"] <= 0.5
    assert warm_points(config, [toy_arm("d1/joint")], StudyFolder(tmp_path))["d1/joint"]
