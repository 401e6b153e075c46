"""The study's queue, played through with curves instead of training."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.protocol.space import Fixed, Parameter, Space
from balance_tune.studies.search.study_queue import MAX_LOST, Assignment, StudyQueue
from balance_tune.studies.storage import trial_file
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import JournalFile, open_storage
from tests.studies.toy import EPOCHS, ToyArm, ToyStudy, bowl, toy_arm, toy_config


def told(study: ToyStudy) -> list[tuple[Any, ...]]:
    """Return what Optuna knows of every trial, without times."""
    return [
        (r.arm, r.phase, r.number, r.state, dict(r.params), r.value, dict(r.curve), r.seed)
        for r in read_records(study.folder)
    ]


def test_every_arm_gets_the_same_number_of_search_trials_and_all_end(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, slots=2)
    study.play()
    records = read_records(tmp_path)
    assert Counter(r.arm for r in records if r.phase == "search") == dict.fromkeys([a.name for a in study.arms], 5)
    assert all(r.finished for r in records)
    assert study.queue.is_finished()
    assert {r.state for r in records} == {"complete", "pruned"}


def test_trial_0_of_every_arm_is_its_default_with_its_sources(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path)
    study.play()
    for record in read_records(tmp_path):
        if record.phase == "search" and record.number == 0:
            assert record.attrs["default"] is True
            assert record.params == {"modulation.x": 0.5}
            assert record.attrs["sources"]["modulation.x"] == "a paper"
        elif record.phase == "search":
            assert record.attrs["default"] is False


def test_arms_take_turns(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path)
    study.play()
    searched = [key for key in study.started if key.phase == "search"]
    assert [key.arm for key in searched[:8]] == [a.name for a in study.arms] * 2


def test_select_and_confirm_follow_with_common_seeds(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path)
    study.play()
    confirmed: dict[str, set[int | None]] = {}
    for r in read_records(tmp_path):
        if r.phase == "confirm" and not r.attrs["default"]:
            confirmed.setdefault(r.arm, set()).add(r.seed)
    assert len(confirmed) == 4
    assert len({frozenset(seeds) for seeds in confirmed.values()}) == 1


def test_a_stopped_trial_is_pruned_with_its_curve_and_the_ledger_holds_the_stop(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path)
    study.play()
    pruned = [r for r in read_records(tmp_path) if r.state == "pruned"]
    assert pruned
    for r in pruned:
        stop = study.pruning_log.stop_of(r.arm, r.number)
        assert stop is not None
        assert list(r.curve) == list(range(1, stop.epoch + 1))
        assert r.curve[stop.epoch] == stop.value
        assert r.attrs["epochs"] == stop.epoch


def test_the_same_study_played_twice_with_one_slot_is_identical(tmp_path: Path) -> None:
    config = toy_config(search={"trials": 8, "sampler": "tpe", "early_stopping": {"grace": 1, "reduction": 3}})
    first, second = ToyStudy(tmp_path / "a", config), ToyStudy(tmp_path / "b", config)
    first.play()
    second.play()
    assert first.started == second.started
    assert told(first) == told(second)
    assert (tmp_path / "a/ledger.jsonl").read_text() == (tmp_path / "b/ledger.jsonl").read_text()


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes", "gp"])
def test_a_study_interrupted_anywhere_comes_to_the_same_result(tmp_path: Path, sampler: str) -> None:
    search = {"trials": 7, "sampler": sampler, "early_stopping": {"grace": 1, "reduction": 3}}
    config = toy_config(datasets=["d1"], search=search)
    whole, cut = ToyStudy(tmp_path / "whole", config), ToyStudy(tmp_path / "cut", config)
    whole.play()
    for steps in (3, 14, 30, 41):
        cut.play(steps)
        cut.reopen()
    cut.play()
    assert told(cut) == told(whole)
    assert (tmp_path / "cut/ledger.jsonl").read_text() == (tmp_path / "whole/ledger.jsonl").read_text()


def test_a_finished_trial_is_never_run_again(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path)
    study.play(60)
    ended = set(study.ended)
    study.reopen()
    study.started.clear()
    study.play()
    assert not ended & set(study.started)
    study.reopen()
    assert study.queue.is_finished()
    assert study.queue.next() is None


def test_an_interrupted_trial_goes_on_under_its_number_and_knows_its_earlier_epochs(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path)
    study.play(4)  # epochs 1 to 4 of the first arm's default
    study.reopen()
    given = study.queue.next()
    assert given is not None
    assert given.key == TrialKey("d1/joint", "search", 0)
    row = {"epoch": 5, "val/accuracy": 0.9, "best_epoch": 5, "device_seconds": 5.0}
    study.queue.report(given.key, row)
    assert list(study.queue.live[given.key].curve) == [1, 2, 3, 4, 5]
    study.queue.finish(given.key, "complete")
    (record,) = (r for r in read_records(tmp_path) if r.finished)
    assert (record.value, list(record.curve)) == (0.9, [1, 2, 3, 4, 5])


def just_stopped(folder: Path) -> tuple[ToyStudy, Assignment]:
    """Return a study whose second trial was stopped after an epoch, which nobody was told yet, and that trial."""
    study = ToyStudy(folder, toy_config(datasets=["d1"], methods=["joint"]))
    study.play(EPOCHS)  # the default, to its end
    given = study.queue.next()
    assert given is not None
    study.curve = lambda params, epoch: 0.0
    assert study.pruner.should_prune(given.key.arm, 1, 1, 0.0)
    return study, given


def test_a_crash_between_verdict_and_telling_ends_in_pruned(tmp_path: Path) -> None:
    study, given = just_stopped(tmp_path)
    folder = Path(given.config["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.jsonl").write_text('{"epoch": 1, "val/accuracy": 0.0, "best_epoch": 1, "device_seconds": 1.0}\n')
    study.reopen()
    record = next(r for r in read_records(tmp_path) if r.number == 1)
    assert (record.state, dict(record.curve)) == ("pruned", {1: 0.0})


def test_a_stopped_trial_whose_node_wrote_less_than_its_verdict_gets_there_again(tmp_path: Path) -> None:
    study, given = just_stopped(tmp_path)
    study.reopen()
    assert next(r for r in read_records(tmp_path) if r.number == 1).state == "running"
    study.play(1)
    record = next(r for r in read_records(tmp_path) if r.number == 1)
    assert (record.state, dict(record.curve), record.attrs.get("repeated")) == ("pruned", {1: 0.0}, None)
    assert study.trained[given.key] == [1]


def test_a_trial_without_a_point_of_an_earlier_version_is_replaced(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    study.play(EPOCHS)
    study.queue._studies["d1/joint"].ask()  # a trial without parameters, as versions up to 0.1 left it when killed
    study.reopen()
    study.play()
    search = [r for r in read_records(tmp_path) if r.phase == "search"]
    assert [r.number for r in search if r.superseded] == [1]
    assert sum(not r.superseded for r in search) == 5
    assert all(r.params for r in search if not r.superseded)


def test_a_lost_trial_runs_again_under_its_number_and_is_not_counted(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    key = TrialKey("d1/joint", "search", 0)
    for times in range(MAX_LOST):
        given = study.queue.next()
        assert given is not None
        assert given.key == key, times
        study.queue.finish(key, "lost", "the node is gone")
    study.play()
    records = read_records(tmp_path)
    assert sum(r.phase == "search" for r in records) == 5
    default = next(r for r in records if r.phase == "search" and r.number == 0)
    assert (default.state, default.attrs["lost"]) == ("complete", MAX_LOST)


def test_a_trial_lost_too_often_has_failed(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    for _ in range(MAX_LOST + 1):
        given = study.queue.next()
        assert given is not None
        study.queue.finish(given.key, "lost", "the node is gone")
    (record,) = read_records(tmp_path)
    assert record.state == "failed"
    assert record.attrs["reason"] == "lost 4 times, at last: the node is gone"
    following = study.queue.next()
    assert following is not None
    assert following.key.number == 1


def test_a_trial_that_devices_fail_again_and_again_has_not_failed(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    for _ in range(3 * MAX_LOST):
        given = study.queue.next()
        assert given is not None
        assert given.key.number == 0
        study.queue.finish(given.key, "lost", "DeviceError", by_device=True)
    study.play()
    (default, *_) = [r for r in read_records(tmp_path) if r.number == 0 and r.phase == "search"]
    assert (default.state, default.attrs["lost"]) == ("complete", 3 * MAX_LOST)


def test_lost_times_are_remembered_over_a_restart(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    for _ in range(MAX_LOST + 1):
        given = study.queue.next()
        assert given is not None
        study.queue.finish(given.key, "lost", "the node is gone")
        study.reopen()
    (record,) = read_records(tmp_path)
    assert record.state == "failed"


def row(epoch: int, **more: Any) -> dict[str, Any]:
    return {"epoch": epoch, "val/accuracy": epoch / 10, "best_epoch": epoch, "device_seconds": float(epoch), **more}


def test_a_trial_that_loses_its_node_again_and_again_goes_on_and_what_it_repeats_is_counted(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    key = TrialKey("d1/joint", "search", 0)
    for begin, end in ((1, 3), (3, 4), (5, 6)):  # epoch 3 twice
        given = study.queue.next()
        assert given is not None
        assert given.key == key
        (tmp_path / "trials/d1/joint/search-0000").mkdir(parents=True, exist_ok=True)
        for epoch in range(begin, end + 1):
            study.queue.report(key, row(epoch))
        study.queue.count_preemption(key)
        study.queue.finish(key, "preempted", "its node is gone")
    study.reopen()
    study.play()
    record = next(r for r in read_records(tmp_path) if r.phase == "search" and r.number == 0)
    assert (record.state, record.attrs["preempted"]) == ("complete", 3)
    assert "lost" not in record.attrs
    assert list(record.curve) == list(range(1, EPOCHS + 1))
    assert record.attrs["repeated"] == 1 + 6  # the toy study trains from the beginning again


def test_workers_that_ray_train_starts_elsewhere_repeat_their_reports(tmp_path: Path) -> None:
    config = toy_config(datasets=["d1"], methods=["joint"], resources={"workers": 2})
    study = ToyStudy(tmp_path, config)
    key = TrialKey("d1/joint", "search", 0)
    study.queue.next()
    for told_row in (row(1), row(2, draining=True), row(3, draining=True), row(3), row(4)):
        study.queue.report(key, told_row)
    study.queue.finish(key, "complete")
    (record,) = read_records(tmp_path)
    assert (record.attrs["preempted"], record.attrs["repeated"], list(record.curve)) == (1, 1, [1, 2, 3, 4])
    assert "lost" not in record.attrs


def test_workers_that_died_and_were_started_again_count_as_lost_once(tmp_path: Path) -> None:
    config = toy_config(datasets=["d1"], methods=["joint"], resources={"workers": 2})
    study = ToyStudy(tmp_path, config)
    key = TrialKey("d1/joint", "search", 0)
    study.queue.next()
    for told_row in (row(1), row(2), row(3), row(1, replayed=True), row(2, replayed=True), row(3), row(4)):
        study.queue.report(key, told_row)
    study.queue.finish(key, "complete")
    (record,) = read_records(tmp_path)
    assert (record.attrs["lost"], record.attrs["repeated"], list(record.curve)) == (1, 1, [1, 2, 3, 4])


def test_a_trials_configuration_is_in_its_folder_and_its_host_and_device_in_the_storage(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    given = study.queue.next()
    assert given is not None
    config = trial_file.read(Path(given.config["folder"]))
    assert config == {name: value for name, value in given.config.items() if name not in trial_file.LOCAL}
    study.queue.report(given.key, {**row(1), "hostname": "node-3"})
    (record,) = read_records(tmp_path)
    assert (record.attrs["host"], record.attrs["device"]) == ("node-3", "cpu")
    study.queue.report(given.key, {**row(2), "hostname": "node-4"})
    assert read_records(tmp_path)[0].attrs["host"] == "node-4", "where it goes on after a loss"


def test_epochs_whose_reports_were_cut_off_are_read_from_the_trials_history(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    given = study.queue.next()
    assert given is not None
    folder = Path(given.config["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.jsonl").write_text("".join(json.dumps(row(epoch)) + "\n" for epoch in range(1, 6)))
    for told_row in (row(1), row(2, draining=True), row(5)):
        study.queue.report(given.key, told_row)
    study.queue.finish(given.key, "complete")
    (record,) = read_records(tmp_path)
    assert list(record.curve) == [1, 2, 3, 4, 5]
    assert "repeated" not in record.attrs


def test_a_failed_trial_spends_its_place_and_says_why(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    given = study.queue.next()
    assert given is not None
    study.queue.finish(given.key, "failed", "train/loss is nan in epoch 1")
    study.play()
    searched = [r for r in read_records(tmp_path) if r.phase == "search"]
    assert [r.number for r in searched] == [0, 1, 2, 3, 4]
    assert (searched[0].state, searched[0].attrs["reason"]) == ("failed", "train/loss is nan in epoch 1")


def test_a_trial_whose_objective_was_never_finite_has_failed(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    given = study.queue.next()
    assert given is not None
    study.queue.report(given.key, {"epoch": 1, "val/accuracy": float("nan"), "best_epoch": 1})
    study.queue.finish(given.key, "complete")
    (record,) = read_records(tmp_path)
    assert record.state == "failed"


def late_bloomer(params: Mapping[str, Any], epoch: int) -> float:
    """Flat until epoch 5, then best: for x > 0.5; the default is good at once."""
    if params["modulation.x"] > 0.5:
        return 0.1 if epoch < 5 else 0.95
    return 0.6


@pytest.mark.parametrize(("min_epochs", "wins"), [(5, True), (0, False)])
def test_a_late_bloomer_wins_if_min_epochs_says_so_and_is_lost_without(
    tmp_path: Path, min_epochs: int, wins: bool
) -> None:
    config = toy_config(datasets=["d1"], methods=["joint"])
    study = ToyStudy(tmp_path, config, arms=(toy_arm("d1/joint", min_epochs=min_epochs),), curve=late_bloomer)
    study.play()
    best = study.winner("d1/joint")
    assert best is not None
    assert (best > 0.5) is wins


def test_more_trials_extend_a_finished_study(tmp_path: Path) -> None:
    config = toy_config(datasets=["d1"], methods=["joint"])
    study = ToyStudy(tmp_path, config)
    study.play()
    before = told(study)
    study.config = toy_config(datasets=["d1"], methods=["joint"], search={**config.search.model_dump(), "trials": 9})
    study.reopen()
    study.play()
    after = told(study)
    assert all(row in after for row in before)
    assert sum(row[1] == "search" for row in after) == 9


def test_another_studys_points_are_tried_after_the_default_and_marked(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    study.queue._warm = {"d1/joint": [{"modulation.x": 0.25}]}
    study.play()
    warm = next(r for r in read_records(tmp_path) if r.phase == "search" and r.number == 1)
    assert (warm.params, warm.attrs["warm_start"]) == ({"modulation.x": 0.25}, True)


def test_a_budget_in_device_seconds_ends_each_arms_search_when_it_is_spent(tmp_path: Path) -> None:
    search = {"device_seconds": 40.0, "sampler": "random", "early_stopping": "none"}
    study = ToyStudy(tmp_path, toy_config(search=search))
    study.play()
    for arm in study.arms:
        spent = [r.device_seconds for r in study.queue.records(arm.name) if r.phase == "search"]
        assert sum(spent[:-1]) < 40 <= sum(spent)


def test_the_device_seconds_of_a_study_survive_a_restart(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path)
    study.play()
    spent = study.queue.device_seconds()
    study.reopen()
    assert spent == pytest.approx(study.queue.device_seconds())
    assert isinstance(study.queue, StudyQueue)


def test_an_interrupted_trial_is_told_what_is_known_of_it(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path / "toy", toy_config())
    study.play(2)
    study.reopen()
    again = study.queue.next()
    assert again is not None
    assert again.config["reported"] == 2
    fresh = study.queue.next()
    assert fresh is not None
    assert "reported" not in fresh.config
    seen = {"val/accuracy": 0.5, "best_epoch": 1, "device_seconds": 1.0}
    study.queue.report(again.key, {**seen, "epoch": 3})
    study.queue.report(again.key, {**seen, "epoch": 3, "replayed": True})
    assert study.queue.live[again.key].repeated == 0, "an epoch that is only told again was not trained again"


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes", "gp"])
@pytest.mark.parametrize("writes", [3, 10, 17])
def test_a_crash_at_any_write_changes_no_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, writes: int
) -> None:
    config = toy_config(datasets=["d1"], methods=["joint"], search={"trials": 6, "sampler": sampler})
    x = Parameter("modulation.x", "float", 0.0, 1.0, False, None, 0.5, "a paper")
    y = Parameter("modulation.y", "float", 0.0, 1.0, False, None, 0.5, "a paper")
    arms = (ToyArm("d1", "joint", None, Space((x, y), {"training.epochs": Fixed(EPOCHS, "study file")})),)
    whole, cut = (ToyStudy(tmp_path / name, config, arms) for name in ("whole", "cut"))
    whole.play()
    append, written = JournalFile.append_logs, list[int]()

    def dying(self: JournalFile, logs: list[dict[str, Any]]) -> None:
        written.append(len(logs))
        if len(written) == writes:
            raise KeyboardInterrupt
        append(self, logs)

    with monkeypatch.context() as patch:
        patch.setattr(JournalFile, "append_logs", dying)
        with pytest.raises(KeyboardInterrupt):
            cut.play()
    cut.reopen()
    cut.play()
    assert told(cut) == told(whole)


def outcome(study: ToyStudy) -> list[tuple[Any, ...]]:
    """Return what a study came to, in the order of cells and numbers: never of time."""
    return [
        (r.cell, r.phase, r.number, r.state, r.seed, r.value, tuple(sorted(r.params.items())), r.epochs)
        for r in read_records(study.folder)
    ]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random"])
@pytest.mark.parametrize("parallel", [1, 3])
def test_results_do_not_depend_on_how_many_trials_run_at_a_time_nor_on_kills(
    tmp_path: Path, sampler: str, parallel: int
) -> None:
    config = toy_config(
        datasets=["d1"], methods=["joint", "mlb"], replicates=2,
        search={"trials": 7, "sampler": sampler, "parallel": parallel,
                "early_stopping": {"reduction": 3, "grace": 1}},
    )  # fmt: skip
    alone = ToyStudy(tmp_path / "1", config)
    alone.play()
    many = [ToyStudy(tmp_path / f"{slots}", config, slots=slots) for slots in (2, 5, 12)]
    for study in many:
        study.play()
        assert outcome(study) == outcome(alone)
    killed = ToyStudy(tmp_path / "killed", config, slots=4)
    for steps in (3, 11, 17, 29, 41, 60):
        killed.play(steps)
        killed.reopen()
    killed.play()
    assert outcome(killed) == outcome(alone)


def test_a_batch_is_proposed_only_when_the_one_before_has_ended(tmp_path: Path) -> None:
    config = toy_config(datasets=["d1"], methods=["joint"], search={"trials": 6, "sampler": "tpe", "parallel": 2})
    study = ToyStudy(tmp_path, config)
    first, second = study.queue.next(), study.queue.next()
    assert first is not None
    assert second is not None
    assert study.queue.next() is None  # the next batch waits for both
    study.queue.report(first.key, {"epoch": 1, "val/accuracy": 0.5, "best_epoch": 1, "device_seconds": 1.0})
    study.queue.finish(first.key, "complete")
    assert study.queue.next() is None
    study.queue.finish(second.key, "failed", "broken")
    third = study.queue.next()
    assert third is not None
    assert third.key.number == 2


def test_selection_waits_for_the_last_search_trial_also_where_a_number_is_missing(tmp_path: Path) -> None:
    """A trial that somebody enqueued with Optuna is none of the study's, but it has a number."""
    config = toy_config(datasets=["d1"], methods=["joint"], search={"trials": 3, "sampler": "random"})
    study = ToyStudy(tmp_path, config)
    for _ in range(2):
        assignment = study.queue.next()
        assert assignment is not None
        study.queue.report(assignment.key, {"epoch": 1, "val/accuracy": 0.5, "best_epoch": 1, "device_seconds": 1.0})
        study.queue.finish(assignment.key, "complete")
    optuna.load_study(study_name="d1/joint", storage=open_storage(StudyFolder(tmp_path))).enqueue_trial({})
    study.reopen()
    last = study.queue.next()
    assert last is not None
    assert (last.key.phase, last.key.number) == ("search", 3)
    assert study.queue.next() is None


def test_no_replicate_learns_from_another(tmp_path: Path) -> None:
    config = toy_config(datasets=["d1"], methods=["joint"], replicates=3, search={"trials": 7, "sampler": "tpe"})
    study = ToyStudy(tmp_path / "a", config)
    study.play()

    def other(params: dict[str, Any], epoch: int) -> float:  # the first replicate is another problem now
        return bowl({"modulation.x": 1 - params["modulation.x"]} if "#" not in params["folder"] else params, epoch)

    changed = ToyStudy(tmp_path / "b", config, curve=other)
    changed.play()
    later = [[row for row in outcome(s) if row[0] != "d1/joint"] for s in (study, changed)]
    assert later[0] == later[1]
    assert [r for r in outcome(study) if r[0] == "d1/joint"] != [r for r in outcome(changed) if r[0] == "d1/joint"]


def test_replicates_share_no_seed_and_arms_share_those_of_confirmation(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], replicates=2, placebo=True), (
        toy_arm("d1/joint"), toy_arm("d1/mlb"), toy_arm("d1/placebo")
    ))  # fmt: skip
    study.play()
    seeds: dict[tuple[int, str], dict[str, set[int | None]]] = {}
    for r in read_records(tmp_path):
        seeds.setdefault((r.replicate, r.phase), {}).setdefault(r.method, set()).add(r.seed)
    assert seeds[0, "confirm"]["joint"] == seeds[0, "confirm"]["mlb"]
    assert not seeds[0, "confirm"]["joint"] & seeds[0, "confirm"]["placebo"]
    every = [own for key, by_method in seeds.items() for own in [set.union(*by_method.values())]]
    assert sum(map(len, every)) == len(set.union(*every))  # no phase and no replicate has a seed of another


def test_a_study_is_extended_by_replicates(tmp_path: Path) -> None:
    one = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    one.play()
    before = outcome(one)
    one.config = toy_config(datasets=["d1"], methods=["joint"], replicates=3)
    one.reopen()
    one.play()
    assert [row for row in outcome(one) if row[0] == "d1/joint"] == before
    assert {row[0] for row in outcome(one)} == {"d1/joint", "d1/joint#2", "d1/joint#3"}
