"""Tune runs over toy studies in real actors: trials that break in every way, actors used again, limits."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from balance_tune.studies.cluster.ray_cluster import TrialResources
from balance_tune.studies.execution import scheduler
from balance_tune.studies.execution.tune_run import run_trials
from balance_tune.studies.storage.records import TrialRecord, read_records
from tests.studies.toy import EPOCHS, ToyStudy, bowl, toy_config

pytestmark = pytest.mark.ray

ASHA = {"grace": 1, "reduction": 3}
BREAKS = {1: "killed", 2: "exits", 3: "leaves its thread", 4: "raises", 5: "hangs", 6: "raises always"}


def train(config: dict[str, Any]) -> None:
    """Report the toy curve; a trial that breaks does so after its second epoch, once or always."""
    folder = Path(config["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    gave_up = folder / "broken"
    for epoch in range(1, EPOCHS + 1):
        if epoch == 3 and config["breaks"] and ("always" in config["breaks"] or not gave_up.exists()):
            gave_up.touch()
            break_down(config["breaks"])
        state = "complete" if epoch == EPOCHS else "running"
        value = bowl(config, epoch)
        tune.report({"epoch": epoch, "val/accuracy": value, "best_epoch": epoch, "state": state, "pid": os.getpid()})


def break_down(how: str) -> None:
    match how.split()[0]:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits":
            os._exit(3)
        case "leaves":
            raise SystemExit(4)
        case "hangs":
            time.sleep(3600)
        case _:
            raise ValueError("the hook is broken\nand more")


class Pids(tune.Callback):  # type: ignore[misc]  # ray is not typed
    """Collects the processes that reported."""

    def __init__(self, found: set[int]) -> None:
        self.found = found

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        self.found.add(result["pid"])


class Breaking(ToyStudy):
    """A toy study whose search trials break as `breaks` says, by number."""

    breaks: dict[int, str]

    def configure(self, *args: Any) -> dict[str, Any]:
        config = super().configure(*args)
        how = getattr(self, "breaks", {}).get(config["number"], "") if config["phase"] == "search" else ""
        return {**config, "breaks": how}


def study_of(folder: Path, methods: tuple[str, ...] = ("joint",), **search: Any) -> Breaking:
    search = {"trials": 4, "sampler": "random", "early_stopping": "none", **search}
    return Breaking(folder, toy_config(datasets=["d1"], methods=list(methods), search=search))


def run(study: ToyStudy, slots: int = 2, **options: Any) -> str:
    scratch = study.folder / ".tune"
    scratch.mkdir(exist_ok=True)
    return run_trials(study.queue, study.pruner, TrialResources(1, 0.0, 1, slots), scratch, trainable=train, **options)


def searched(study: ToyStudy) -> list[TrialRecord]:
    return [r for r in read_records(study.folder) if r.phase == "search"]


def test_whatever_breaks_a_trial_it_runs_again_uncounted_until_it_has_failed_for_good(
    tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "SILENCE", 20.0)
    study = study_of(tmp_path, trials=8)
    study.breaks = BREAKS
    assert run(study) == ""
    assert study.queue.is_finished()
    records = searched(study)
    assert [r.number for r in records] == list(range(8))
    assert [r.state for r in records] == ["complete"] * 6 + ["failed", "complete"]
    assert [r.attrs.get("lost") for r in records] == [None, 1, 1, 1, 1, 1, 4, None]
    assert records[4].attrs["lost_reason"] == "ValueError: the hook is broken"
    assert "no report for" in records[5].attrs["lost_reason"]
    assert records[6].attrs["reason"] == "lost 4 times, at last: ValueError: the hook is broken"
    assert all(list(r.curve) == list(range(1, EPOCHS + 1)) for r in records if r.state == "complete")


def test_actors_are_used_again_from_trial_to_trial_also_after_a_stop(tmp_path: Path, cluster: None) -> None:
    study = study_of(tmp_path, trials=12, early_stopping=ASHA)
    pids: set[int] = set()
    run(study, slots=1, callbacks=[Pids(pids)])
    assert len(pids) == 1
    assert {r.state for r in searched(study)} == {"complete", "pruned"}


def test_without_warmth_every_trial_has_a_process_of_its_own(tmp_path: Path, cluster: None) -> None:
    study = study_of(tmp_path, trials=3)
    pids: set[int] = set()
    run(study, slots=1, callbacks=[Pids(pids)], warm=False)
    assert len(pids) == len(study.ended)


def test_with_one_slot_the_run_is_the_one_that_the_queue_alone_gives(tmp_path: Path, cluster: None) -> None:
    search = {"trials": 6, "sampler": "tpe", "early_stopping": ASHA}
    in_ray = study_of(tmp_path / "ray", ("joint", "mlb"), **search)
    alone = ToyStudy(tmp_path / "alone", in_ray.config)
    run(in_ray, slots=1)
    alone.play()
    assert [(r.arm, r.number, r.state, dict(r.params), dict(r.curve), r.seed) for r in read_records(in_ray.folder)] == [
        (r.arm, r.number, r.state, dict(r.params), dict(r.curve), r.seed) for r in read_records(alone.folder)
    ]
    assert (in_ray.folder / "ledger.jsonl").read_text() == (alone.folder / "ledger.jsonl").read_text()


def test_an_exhausted_limit_leaves_running_trials_open_and_the_next_run_ends_them(
    tmp_path: Path, cluster: None
) -> None:
    study = study_of(tmp_path)
    reason = run(study, exhausted=lambda: "limit.hours = 1 is used up" if len(study.ended) >= 2 else "")
    assert reason == "limit.hours = 1 is used up"
    assert {r.state for r in read_records(study.folder)} <= {"complete", "running"}
    study.reopen()
    assert run(study) == ""
    assert [(r.number, r.state) for r in searched(study)] == [(n, "complete") for n in range(4)]
