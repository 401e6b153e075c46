"""A finished study is given more methods, datasets and seeds; nothing is run twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from balance_tune.studies.storage.records import read_records
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
