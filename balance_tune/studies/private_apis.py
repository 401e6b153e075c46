"""All uses of undocumented interfaces of Ray and Optuna; where one is gone, the documented way is taken."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from balance_tune.private_api import private, report_missing

if TYPE_CHECKING:
    from optuna.samplers import QMCSampler


# Ray ------------------------------------------------------------------------------------------------------------------
@contextmanager
def without_callback_count() -> Iterator[None]:
    """Keep Tune from counting whose callbacks a run has, for which it imports MLflow, Comet and W&B (1 s)."""
    otherwise = "Tune imports MLflow, Comet and W&B when a search starts, which takes 1 s"
    count = private("ray.air._internal.usage", "tag_callbacks", otherwise)
    if count is None:
        yield
        return
    from ray.air._internal import usage

    usage.tag_callbacks = lambda callbacks: False
    try:
        yield
    finally:
        usage.tag_callbacks = count


@contextmanager
def on_loopback() -> Iterator[None]:
    """Have Ray take 127.0.0.1 for this node's address, here and in the processes that are started in the block.

    Otherwise Ray replaces 127.0.0.1 by an address that other machines reach: it listens there, or looks for a cluster
    there. The environment variable reaches processes, the constant this one, which may have imported Ray before.
    """
    variable, name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "ENABLE_RAY_CLUSTER"
    before = os.environ.get(variable)
    constant = private("ray._private.ray_constants", name, "Ray listens on the network, with a token")
    os.environ[variable] = "0"
    try:
        if constant is None:
            yield
            return
        from ray._private import ray_constants

        setattr(ray_constants, name, False)
        try:
            yield
        finally:
            setattr(ray_constants, name, constant)
    finally:
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before


def local_clusters() -> set[str] | None:
    """Return the addresses of the Ray clusters with a process on this host; None where Ray's function is gone."""
    addresses = private(
        "ray._private.services", "find_gcs_addresses", "`doctor` cannot see other Ray clusters on this host"
    )
    if addresses is None:
        return None
    if hasattr(addresses, "cache_clear"):  # it is looked up once per process
        addresses.cache_clear()
    return set(addresses())


def draining_nodes() -> set[str]:
    """Return the ids of the nodes that Ray drains; none where Ray's private function is gone."""
    question = private(
        "ray._private.state",
        "state.get_draining_nodes",
        "trials are not saved before their node is taken away; they go on from the last saved state",
    )
    return set() if question is None else set(question())


def stop_event() -> Callable[[], bool]:
    """Return Tune's own flag for a function that it wants back before its next report, so that its actor can go on."""
    otherwise = "a trial that is stopped ends at its next report"
    session = private("ray.train._internal.session", "get_session", otherwise)
    event = None if session is None else getattr(session(), "stop_event", None)
    if event is None:
        report_missing("ray.train._internal.session.get_session().stop_event", otherwise)
        return lambda: False
    is_set: Callable[[], bool] = event.is_set
    return is_set


def cause_of(failure: Exception) -> Exception:
    """Return the exception that user code raised in a worker of Ray Train, or the failure itself, where it is Ray's."""
    if type(failure).__name__ != "UserExceptionWithTraceback":
        return failure
    cause = getattr(failure, "_base_exc", None)
    if isinstance(cause, Exception):
        return cause
    otherwise = "a trial of several workers that breaks counts as failed, whatever broke it"
    report_missing("UserExceptionWithTraceback._base_exc", otherwise)
    return failure


def actor_of(trial: Any) -> Any:
    """Return the actor of a trial of Tune; None where it has none, or Tune's attribute is gone."""
    try:
        return trial.temporary_state.ray_actor
    except AttributeError:
        report_missing("ray.tune.experiment.Trial.temporary_state.ray_actor", "a trial that hangs is not ended")
        return None


# Optuna ---------------------------------------------------------------------------------------------------------------
def is_lasting(operation: int) -> bool:
    """Return whether an operation of Optuna's journal begins or ends a trial, after which everything is on disk."""
    otherwise = "every line of a study's journal is synced to disk, which is slower"
    operations = [
        private("optuna.storages.journal._storage", f"JournalOperation.{name}", otherwise)
        for name in ("CREATE_TRIAL", "SET_TRIAL_STATE_VALUES")
    ]
    return None in operations or operation in operations


def qmc_at(position: int, **settings: Any) -> QMCSampler:
    """Return Optuna's QMC sampler for the point at `position` of its sequence.

    Optuna's own counts its points in the storage as it draws them: of a trial that a crash cut off between two
    parameters the rest would be drawn from the next point.

    Args:
        position: of the point, from 0.
        settings: of `QMCSampler`.
    """
    from optuna.samplers import QMCSampler

    class Qmc(QMCSampler):
        def _find_sample_id(self, study: Any, search_space: Any) -> int:
            return position

    otherwise = "Optuna counts the points of `sampler: qmc`, so a study that is interrupted may skip one"
    function = private("optuna.samplers", "QMCSampler._find_sample_id", otherwise)
    return (QMCSampler if function is None else Qmc)(**settings)
