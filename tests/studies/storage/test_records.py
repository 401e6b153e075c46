"""Records say what the storage says, whoever wrote it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from balance_tune.errors import UserError
from balance_tune.studies.storage.records import Range, TrialRecord, read_records
from tests.studies.made_study import Made, make_study


def _live_study(folder: Path) -> None:
    """Write a small study as a search does: ask, report, tell, one trial of every state."""
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    study = optuna.create_study(study_name="toy/mlb", storage=storage, direction="maximize")
    space = {
        "training.lr": FloatDistribution(0.01, 0.2, log=True),
        "modulation.times": IntDistribution(1, 4),
        "modulation.score": CategoricalDistribution(["purity", "accuracy"]),
    }
    for state, values in [("COMPLETE", [0.5, 0.9]), ("PRUNED", [0.2]), ("FAIL", [])]:
        trial = study.ask(space)
        trial.set_user_attr("seed", 7)
        trial.set_user_attr("phase", "search")
        for epoch, value in enumerate(values, start=1):
            trial.report(value, epoch)
        study.tell(trial, max(values) if state == "COMPLETE" else None, state=optuna.trial.TrialState[state])
    study.ask(space)
    study.enqueue_trial({"training.lr": 0.1}, user_attrs={"phase": "search"})
    confirm = optuna.create_study(study_name="toy/mlb/confirm", storage=storage, direction="maximize")
    confirm.tell(confirm.ask(space), 0.8)


@pytest.fixture
def live(tmp_path: Path) -> list[TrialRecord]:
    _live_study(tmp_path)
    return read_records(tmp_path)


def test_every_state_is_told_as_it_is(live: list[TrialRecord]) -> None:
    states = [r.state for r in live if r.phase == "search"]
    assert states == ["complete", "pruned", "failed", "running", "waiting"]


def test_a_stopped_trial_keeps_its_curve(live: list[TrialRecord]) -> None:
    assert dict(live[1].curve) == {1: 0.2}
    assert dict(live[0].curve) == {1: 0.5, 2: 0.9}


def test_arm_dataset_and_method_come_from_the_name_of_the_study(live: list[TrialRecord]) -> None:
    assert {(r.arm, r.dataset, r.method) for r in live} == {("toy/mlb", "toy", "mlb")}
    assert [r.phase for r in live].count("confirm") == 1


def test_an_enqueued_trial_shows_the_point_it_will_try(live: list[TrialRecord]) -> None:
    assert dict(live[4].params) == {"training.lr": 0.1}


def test_ranges_are_plain_data(live: list[TrialRecord]) -> None:
    assert live[0].space["training.lr"] == Range(0.01, 0.2, log=True)
    assert live[0].space["modulation.times"] == Range(1, 4, integer=True)
    assert live[0].space["modulation.score"] == Range(choices=("purity", "accuracy"))


def test_a_lost_trial_that_was_queued_again_is_part_of_no_budget(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="toy/opm", storage=f"sqlite:///{tmp_path / 'toy.db'}")
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    study.enqueue_trial({}, user_attrs={"requeued_from": 0})
    study.tell(study.ask(), 0.5)
    lost, again = read_records(f"sqlite:///{tmp_path / 'toy.db'}")
    assert (lost.superseded, again.superseded) == (True, False)


def test_counts_agree_with_optuna(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint", "mlb"]))
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    for arm in ("av_digits/joint", "av_digits/mlb"):
        theirs = Counter(t.state.name for t in optuna.load_study(study_name=arm, storage=storage).trials)
        ours = Counter(r.state for r in read_records(folder) if r.arm == arm and r.phase == "search")
        assert (ours["complete"], ours["pruned"], ours["failed"]) == tuple(
            theirs[s] for s in ("COMPLETE", "PRUNED", "FAIL")
        )


def test_a_missing_study_is_one_line_and_nothing_is_created(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a study must exist to be read") as caught:
        read_records(tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_reading_loads_neither_ray_nor_torch_nor_what_is_slow(tmp_path: Path) -> None:
    make_study(tmp_path, Made(datasets=["watch"], methods=["joint", "opm"]))
    slow = ("ray", "torch", "mlflow", "sklearn", "scipy.stats", "pydantic", "jinja2")
    code = f"""
import sys
from balance_tune.studies.results import leaderboard
leaderboard.build({str(tmp_path / "quickstart")!r})
print([name for name in {slow!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("line", ['{"op_code": 5}', "not JSON", "[]", '{"op_code": 99}'])
def test_a_damaged_line_in_the_middle_is_one_line(tmp_path: Path, line: str) -> None:
    journal = make_study(tmp_path, Made(datasets=["watch"], methods=["joint"])) / "optuna.journal"
    lines = journal.read_text().splitlines()
    lines[len(lines) // 2] = line
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="must be readable") as caught:
        read_records(journal.parent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["/somewhere/else", "../other/trials/x", "trials/../../x", 3])
def test_a_trial_cannot_name_a_folder_outside_of_its_study(folder: object) -> None:
    study = optuna.create_study(study_name="d/joint")
    trial = study.ask()
    trial.set_user_attr("folder", folder)
    with pytest.raises(UserError, match="must lie in its study"):
        read_records(study._storage)
