"""How often a trial reports, and that nothing is lost between two reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.config.schema import EarlyStopping
from balance_tune.studies.early_stopping.rules import rule_of
from balance_tune.studies.protocol.reporting import EARLIER, MOST, BatchedReporter, epochs_of
from balance_tune.studies.storage.records import read_records
from tests.studies.toy import ToyStudy, toy_config


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def row(epoch: int, state: str = "running", **more: Any) -> dict[str, Any]:
    return {"epoch": epoch, "state": state, "val/accuracy": 0.5, "best_epoch": 1, "device_seconds": epoch, **more}


def epochs(report: dict[str, Any]) -> list[int]:
    return [int(found["epoch"]) for found in epochs_of(report)]


def told(rows: list[dict[str, Any]], judged: list[int]) -> list[list[int]]:
    """Return the epochs of each report when all rows come within a second."""
    reports: list[dict[str, Any]] = []
    gathered = BatchedReporter(reports.append, judged, clock=Clock())
    for one in rows:
        gathered(one)
    return [epochs(report) for report in reports]


def test_rungs_and_the_end_are_told_at_once_and_bring_along_what_came_before() -> None:
    rows = [*(row(epoch) for epoch in range(1, 20)), row(20, "complete")]
    assert told(rows, [3, 9]) == [[1, 2, 3], list(range(4, 10)), list(range(10, 21))]


def test_without_early_stopping_the_end_alone_is_told() -> None:
    assert told([row(1), row(2, "complete")], []) == [[1, 2]]


def test_a_trial_on_a_node_that_goes_away_tells_so_at_once() -> None:
    assert told([row(1), row(2, draining=True)], []) == [[1, 2]]


def test_a_failure_brings_along_the_epochs_before_it_and_is_none_itself() -> None:
    reports: list[dict[str, Any]] = []
    gathered = BatchedReporter(reports.append, [], clock=Clock())
    gathered(row(1))
    gathered(row(1, "failed", reason="why"))
    assert [epochs(report) for report in reports] == [[1]]
    assert reports[0]["reason"] == "why"


def test_after_a_second_of_silence_the_next_epoch_is_told() -> None:
    clock, reports = Clock(), list[dict[str, Any]]()
    gathered = BatchedReporter(reports.append, [], clock=clock)
    for epoch in range(1, 9):
        clock.now += 0.4
        gathered(row(epoch))
    assert [epochs(report) for report in reports] == [[1, 2, 3], [4, 5, 6]]


def test_epochs_longer_than_that_are_told_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, reports = Clock(), list[dict[str, Any]]()
    gathered = BatchedReporter(reports.append, [], clock=clock)
    for epoch in (1, 2):
        clock.now += 60
        gathered(row(epoch))
    assert reports == [row(1), row(2)]
    monkeypatch.setenv("BALANCE_TUNE_REPORT_EVERY_S", "0")
    reports.clear()
    gathered = BatchedReporter(reports.append, [], clock=Clock())
    gathered(row(1))
    assert reports == [row(1)]


def test_workers_report_together_and_only_what_is_told_again_is_held_back() -> None:
    clock, reports = Clock(), list[dict[str, Any]]()
    gathered = BatchedReporter(reports.append, [3], every=0, clock=clock)
    for one in [*(row(epoch, replayed=True) for epoch in range(1, 6)), row(6), row(7)]:
        clock.now += 9.0
        gathered(one)
    assert [epochs(report) for report in reports] == [[1, 2, 3], [4, 5, 6], [7]]


def test_a_report_does_not_grow_without_bound() -> None:
    assert [len(found) for found in told([row(epoch) for epoch in range(1, 251)], [])] == [MOST, MOST]


@pytest.mark.parametrize("min_epochs", [0, 4, 12])
@pytest.mark.parametrize("epochs_", [1, 2, 9, 10, 20])
@pytest.mark.parametrize(
    "settings",
    [
        EarlyStopping(kind="asha", grace=1, reduction=3),
        EarlyStopping(kind="asha", grace=3, reduction=2),
        EarlyStopping(kind="median", grace=3),
        EarlyStopping(kind="none"),
    ],
)
def test_what_is_told_at_once_is_what_the_rule_judges(settings: EarlyStopping, epochs_: int, min_epochs: int) -> None:
    longest = rule_of(settings, epochs=20)
    running = range(1, epochs_)  # the last epoch completes the trial
    judged = [e for e in running if longest.report(0, e, 0.5, min_epochs) is not None]
    assert [e for e in running if e in rule_of(settings, epochs_).rung_epochs(min_epochs)] == judged


def test_epochs_told_together_count_as_if_told_one_by_one(tmp_path: Path) -> None:
    config = toy_config(datasets=["d1"], methods=["joint"], search={"trials": 2, "early_stopping": "none"})
    rows = [row(e, **{"val/accuracy": 0.1 * e, "train/loss": 1.0 / e, "best_epoch": e}) for e in (1, 2, 3)]
    found = []
    for name, reports in (("single", rows), ("together", [{**rows[2], EARLIER: rows[:2]}])):
        study = ToyStudy(tmp_path / name, config)
        given = study.queue.next()
        assert given is not None
        for report in reports:
            study.queue.report(given.key, report)
        assert study.queue.pace["d1"][1] == 3
        study.queue.finish(given.key, "complete")
        (record,) = (r for r in read_records(tmp_path / name) if r.finished)
        found.append((dict(record.curve), record.value, record.attrs["epochs"], record.attrs["metrics"]))
    assert found[0] == found[1]
    assert found[0][0] == pytest.approx({1: 0.1, 2: 0.2, 3: 0.3})


def test_epochs_that_were_trained_but_not_told_count_as_repeated_when_they_are_trained_again(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path / "toy", toy_config())
    study.play(2)
    (folder,) = (run.folder.path for run in study.queue.live.values())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.jsonl").write_text("".join(json.dumps(row(e)) + "\n" for e in range(1, 7)))
    study.reopen()
    again = study.queue.next()
    assert again is not None
    assert again.config["reported"] == 2
    study.queue.report(again.key, {**row(4), EARLIER: [row(3, replayed=True)]})  # it goes on from a state of epoch 3
    assert study.queue.live[again.key].repeated == 3
    study.queue.report(again.key, row(7))
    assert study.queue.live[again.key].repeated == 3
    assert list(study.queue.live[again.key].curve) == [1, 2, 3, 4, 5, 6, 7]
