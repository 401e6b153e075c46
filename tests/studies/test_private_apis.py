"""Ray and Optuna beyond their documented interfaces: where a name is gone, a study goes the plain way and says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.samplers import QMCSampler

from balance_tune.private_api import private, report_missing
from balance_tune.studies import private_apis
from balance_tune.studies.doctor import examination
from balance_tune.studies.execution.trial import _blame
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import open_storage


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, and a process that has reported nothing missing yet."""
    report_missing.cache_clear()
    yield caplog
    report_missing.cache_clear()


def test_a_missing_name_is_said_once(log: pytest.LogCaptureFixture) -> None:
    assert private("os.path", "join", "never") is os.path.join
    for _ in range(2):
        assert private("os.path", "no_such_name", "paths are not joined") is None
        assert private("no_such_module", "x", "nothing happens") is None
    assert log.messages == [
        "This version has no `os.path.no_such_name`: paths are not joined.",
        "This version has no `no_such_module.x`: nothing happens.",
    ]


def test_tune_counts_callbacks_where_it_cannot_be_kept_from_it(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    usage = import_module("ray.air._internal.usage")
    count = usage.tag_callbacks
    with private_apis.without_callback_count():
        assert usage.tag_callbacks([object()]) is False
        assert usage.tag_callbacks is not count
    assert usage.tag_callbacks is count
    monkeypatch.delattr(usage, "tag_callbacks")
    with private_apis.without_callback_count():
        assert not hasattr(usage, "tag_callbacks")
    assert not hasattr(usage, "tag_callbacks")
    assert "ray.air._internal.usage.tag_callbacks" in log.text


def test_ray_takes_its_own_address_where_it_cannot_be_kept_on_loopback(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    constants = import_module("ray._private.ray_constants")
    variable = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    monkeypatch.delenv(variable, raising=False)
    before = constants.ENABLE_RAY_CLUSTER
    with private_apis.on_loopback():
        assert constants.ENABLE_RAY_CLUSTER is False
        assert os.environ[variable] == "0"  # for the processes that Ray starts
    assert constants.ENABLE_RAY_CLUSTER is before
    assert variable not in os.environ
    monkeypatch.delattr(constants, "ENABLE_RAY_CLUSTER")
    with private_apis.on_loopback():
        assert os.environ[variable] == "0"
    assert "ENABLE_RAY_CLUSTER`: Ray listens on the network, with a token" in log.messages[-1]


def test_doctor_says_nothing_of_other_clusters_where_ray_does_not_tell(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    services = import_module("ray._private.services")
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: {"10.0.0.1:6379", "10.0.0.2:6379"})
    assert examination._other_rays("10.0.0.1:6379") == ["10.0.0.2:6379"]
    monkeypatch.delattr(services, "find_gcs_addresses")
    assert private_apis.local_clusters() is None
    assert examination._other_rays("10.0.0.1:6379") is None
    assert "find_gcs_addresses" in log.text


def test_no_node_is_known_to_drain_where_ray_does_not_tell(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    state = import_module("ray._private.state")
    monkeypatch.setattr(state, "state", SimpleNamespace(get_draining_nodes=lambda: {"a": 1}))
    assert private_apis.draining_nodes() == {"a"}
    monkeypatch.setattr(state, "state", SimpleNamespace())
    assert private_apis.draining_nodes() == set()
    assert "ray._private.state.state.get_draining_nodes" in log.text


@pytest.mark.parametrize("gone", ["get_session", "stop_event"])
def test_a_trial_is_stopped_at_its_report_where_tune_has_no_event(
    gone: str, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    session = import_module("ray.train._internal.session")
    event = SimpleNamespace(is_set=lambda: True)
    monkeypatch.setattr(session, "get_session", lambda: SimpleNamespace(stop_event=event))
    assert private_apis.stop_event()()
    if gone == "get_session":
        monkeypatch.delattr(session, "get_session")
    else:
        monkeypatch.setattr(session, "get_session", lambda: SimpleNamespace())
    assert not private_apis.stop_event()()
    assert gone in log.text


def test_a_worker_groups_end_is_the_trials_fault_where_ray_does_not_tell_the_cause(
    log: pytest.LogCaptureFixture,
) -> None:
    wrapper = import_module("ray.train.v2._internal.exceptions").UserExceptionWithTraceback
    failure = wrapper(OSError("the disk went away"), "Traceback ...")
    group: Any = RuntimeError("a worker failed")
    group.worker_failures = {0: failure}
    assert _blame(group) == ("lost", failure._base_exc)
    del failure._base_exc
    assert _blame(group) == ("failed", failure)
    assert log.messages == [
        "This version has no `UserExceptionWithTraceback._base_exc`: "
        "a trial of several workers that breaks counts as failed, whatever broke it."
    ]


def test_a_trial_that_hangs_is_not_ended_where_tune_does_not_name_its_actor(log: pytest.LogCaptureFixture) -> None:
    assert private_apis.actor_of(SimpleNamespace(temporary_state=SimpleNamespace(ray_actor="actor"))) == "actor"
    assert private_apis.actor_of(SimpleNamespace(temporary_state=SimpleNamespace(ray_actor=None))) is None
    assert not log.messages
    assert private_apis.actor_of(SimpleNamespace()) is None
    assert "temporary_state.ray_actor" in log.text


def test_every_line_of_a_journal_is_synced_where_optuna_does_not_tell_which_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append("sync") or fsync(handle))

    def play(folder: Path) -> int:
        folder.mkdir()
        study = optuna.create_study(storage=open_storage(StudyFolder(folder)), study_name="s")
        trial = study.ask()
        synced.clear()
        trial.set_user_attr("a", 1)
        unimportant = len(synced)
        study.tell(trial, 1.0)
        assert len(synced) > unimportant
        return unimportant

    assert play(tmp_path / "known") == 0
    gone = "_gone"  # Optuna itself needs the class
    monkeypatch.setattr(private_apis, "private", lambda module, name, words: private(module + gone, name, words))
    assert play(tmp_path / "unknown") == 1
    assert "JournalOperation" in log.text


def test_optuna_counts_quasi_random_points_where_it_cannot_be_told_which(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    def points(positions: list[int]) -> list[float]:
        study = optuna.create_study()
        found = []
        for position in positions:
            study.sampler = private_apis.qmc_at(position, scramble=True, seed=0, warn_independent_sampling=False)
            study.tell(study.ask(space), 0.0)
            found.append(study.trials[-1].params["x"])
        return found

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}
    in_order = points([0, 0, 1, 2])[1:]  # the first trial has nothing in common with others yet
    assert points([0, 2, 1, 0])[1:] == in_order[::-1]
    monkeypatch.delattr(QMCSampler, "_find_sample_id")
    assert type(private_apis.qmc_at(0, seed=0)) is QMCSampler
    assert "QMCSampler._find_sample_id" in log.text
