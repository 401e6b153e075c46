"""One Tune run over a toy study: trials that break in every way, in real actors."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
from balance_tune.studies import scheduler  # noqa: E402
from balance_tune.studies.cluster import Shape  # noqa: E402
from balance_tune.studies.records import TrialRecord, read_records  # noqa: E402
from balance_tune.studies.run import run_trials  # noqa: E402
from tests.studies.toy import EPOCHS, ToyStudy, bowl, toy_config  # noqa: E402

pytestmark = pytest.mark.ray


def train(config: dict[str, Any]) -> None:
    """Report the toy curve; trial 1 breaks after its second epoch as `break` says, every time or only once."""
    from ray import tune

    folder = Path(config["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    broken = folder / "broken"
    for epoch in range(1, EPOCHS + 1):
        if config["number"] == 1 and epoch == 3 and not (broken.exists() and config["once"]):
            broken.touch()
            BREAK[config["break"]]()
        state = "complete" if epoch == EPOCHS else "running"
        value = bowl(config, epoch)
        tune.report({"epoch": epoch, "val/accuracy": value, "best_epoch": epoch, "state": state, "pid": os.getpid()})


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    os._exit(3)


def leave_thread() -> None:
    raise SystemExit(4)


def raise_error() -> None:
    raise ValueError("the hook is broken\nand more")


def hang() -> None:
    time.sleep(3600)


BREAK = {"kill": kill, "exit": leave, "thread": leave_thread, "raise": raise_error, "hang": hang}


class Broken(ToyStudy):
    """A toy study of one arm whose trial 1 breaks."""

    how = "kill"
    once = True

    def configure(self, *args: Any) -> dict[str, Any]:
        return {**super().configure(*args), "break": self.how, "once": self.once}


def study_of(folder: Path, **changes: Any) -> Broken:
    search = {"trials": 4, "sampler": "random", "early_stopping": "none"}
    return Broken(folder / "toy", toy_config(datasets=["d1"], methods=["joint"], search=search, **changes))


def run(study: ToyStudy, folder: Path, slots: int = 2, **options: Any) -> str:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return run_trials(study.queue, study.judge, Shape(1, 0.0, 1, slots), scratch, trainable=train, **options)


def searched(study: ToyStudy) -> list[TrialRecord]:
    return [r for r in read_records(study.folder) if r.phase == "search"]


@pytest.mark.parametrize("how", ["kill", "exit", "thread", "raise"])
def test_a_trial_whose_process_breaks_once_runs_again_and_nothing_is_lost(
    tmp_path: Path, cluster: None, how: str
) -> None:
    study = study_of(tmp_path)
    study.how = how
    assert run(study, tmp_path) == ""
    assert study.queue.finished()
    records = searched(study)
    assert [(r.number, r.state) for r in records] == [(n, "complete") for n in range(4)]
    assert [r.attrs.get("lost") for r in records] == [None, 1, None, None]
    assert records[1].attrs["reason"]


def test_a_trial_that_always_breaks_has_failed_and_the_study_goes_on(tmp_path: Path, cluster: None) -> None:
    study = study_of(tmp_path)
    study.how, study.once = "raise", False
    assert run(study, tmp_path) == ""
    records = searched(study)
    assert Counter(r.state for r in records) == {"complete": 3, "failed": 1}
    assert "ValueError" in records[1].attrs["reason"]
    assert "the hook is broken" in records[1].attrs["reason"]


def test_a_hung_trial_is_ended_recorded_and_run_again(
    tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "SILENCE", 4.0)
    study = study_of(tmp_path)
    study.how = "hang"
    assert run(study, tmp_path) == ""
    records = searched(study)
    assert [(r.state, r.attrs.get("lost")) for r in records][1] == ("complete", 1)
    assert "no report for" in records[1].attrs["reason"]


def test_actors_are_used_again_from_trial_to_trial_also_after_a_stop(tmp_path: Path, cluster: None) -> None:
    search = {"trials": 12, "sampler": "random", "early_stopping": {"grace": 1, "reduction": 3}}
    config = toy_config(datasets=["d1"], methods=["joint"], search=search)
    study = Broken(tmp_path / "toy", config)
    study.once = True
    (tmp_path / "toy/trials/d1/joint/search-0001").mkdir(parents=True)
    (tmp_path / "toy/trials/d1/joint/search-0001/broken").touch()
    pids: set[int] = set()
    original = study.queue.report
    study.queue.report = lambda key, row: (pids.add(row["pid"]), original(key, row))[1]  # type: ignore[method-assign]
    run(study, tmp_path, slots=1)
    assert len(pids) == 1
    assert {r.state for r in searched(study)} == {"complete", "pruned"}


def test_with_one_slot_the_run_is_the_one_that_the_queue_alone_gives(tmp_path: Path, cluster: None) -> None:
    search = {"trials": 6, "sampler": "tpe", "early_stopping": {"grace": 1, "reduction": 3}}
    config = toy_config(datasets=["d1"], search=search)
    in_ray, alone = Broken(tmp_path / "ray", config), ToyStudy(tmp_path / "alone", config)
    for arm in in_ray.arms:
        (tmp_path / f"ray/trials/{arm.name}/search-0001").mkdir(parents=True)
        (tmp_path / f"ray/trials/{arm.name}/search-0001/broken").touch()
        (tmp_path / f"ray/trials/{arm.name}/confirm-0001").mkdir(parents=True)
        (tmp_path / f"ray/trials/{arm.name}/confirm-0001/broken").touch()
    run(in_ray, tmp_path, slots=1)
    alone.play()
    assert [(r.arm, r.number, r.state, dict(r.params), dict(r.curve), r.seed) for r in read_records(in_ray.folder)] == [
        (r.arm, r.number, r.state, dict(r.params), dict(r.curve), r.seed) for r in read_records(alone.folder)
    ]
    assert (in_ray.folder / "ledger.jsonl").read_text() == (alone.folder / "ledger.jsonl").read_text()


def test_an_exhausted_limit_leaves_running_trials_open(tmp_path: Path, cluster: None) -> None:
    study = study_of(tmp_path)
    reason = run(study, tmp_path, exhausted=lambda: "limit.hours = 1 is used up" if len(study.ended) >= 2 else "")
    assert reason == "limit.hours = 1 is used up"
    assert {r.state for r in read_records(study.folder)} <= {"complete", "running"}
    study.reopen()
    study.once = True
    assert run(study, tmp_path) == ""
    assert [(r.number, r.state) for r in searched(study)] == [(n, "complete") for n in range(4)]
