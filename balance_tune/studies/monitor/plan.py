"""Computes the trials, epochs and time of a study from its configuration and the duration of an epoch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from balance_tune.errors import UserError
from balance_tune.studies.cluster.capacity import REACH, declared_resources
from balance_tune.studies.cluster.ray_cluster import study_resources
from balance_tune.studies.early_stopping.rules import Rung, rule_of
from balance_tune.studies.protocol.selection import select_trainings

if TYPE_CHECKING:
    from balance_tune.studies.config.schema import StudyConfig
    from balance_tune.studies.protocol.arms import Arm

START = 20.0  # seconds: Ray, the first import of torch in every process, stores, report
TRIAL = 0.1  # seconds: what a trial costs beside its epochs
HERE = "this machine"


@dataclass(frozen=True)
class ArmPlan:
    """What one arm would run, in all replicates together.

    Attributes:
        searched: names of the searched parameters.
        epochs: length of a full trial.
        first_judged: finished epochs before which a trial of the default settings is never stopped; None: never.
        search: search trials; None where the budget is in device-seconds.
        select: selection trials; fewer only where a search fails so often, or is so small, that it has not the points.
        confirm, confirm_least: confirmation trials, the fewer where the default wins: the same trials then serve both.
        epochs_most, epochs_expected: of all trials of the arm.
        chain: epochs that are trained one after another in a replicate, however many trials run at a time.
    """

    arm: str
    dataset: str
    searched: tuple[str, ...]
    epochs: int
    first_judged: int | None
    rungs: tuple[Rung, ...]
    search: int | None
    select: int
    confirm: int
    confirm_least: int
    epochs_most: int | None
    epochs_expected: float | None
    chain: float


@dataclass(frozen=True)
class Estimate:
    """A quantity as an upper bound and as expected, early stopping considered; None where no epoch was measured."""

    most: float | None
    expected: float | None


@dataclass(frozen=True)
class Plan:
    """What a study would run and take.

    `trials` by phase, and "total"; of "confirm" and "total" also the "..._least". `epoch_seconds` by arm.
    `slots` is how many trials fit at a time, `fills` how many the study can run at a time. `device_hours` count each
    worker of each trial. `place` is what has so many CPUs and GPUs, in words.
    """

    study: str
    protocol: str
    objective: str
    arms: tuple[ArmPlan, ...]
    trials: Mapping[str, int | None]
    slots: int
    fills: int
    cpus: int
    gpus: int
    place: str
    epochs: Estimate
    epoch_seconds: Mapping[str, float | None]
    wall_seconds: Estimate
    device_hours: Estimate
    price: Estimate | None
    notes: tuple[str, ...]


def plan_of(
    config: StudyConfig,
    arms: Sequence[Arm],
    pace: Mapping[str, float | None],
    machine: tuple[int, int] | None = None,
) -> Plan:
    """Return the plan of a study; `pace` is arm -> seconds of an epoch, `machine` the CPUs and GPUs there are.

    Without `machine` they are those of the cluster in BALANCE_TUNE_REACH, else of this machine.

    Raises:
        UserError: BALANCE_TUNE_REACH is wrong.
    """
    cpus, gpus, place = (*machine, HERE) if machine is not None else _machine()
    try:
        slots, unfit = study_resources(config, {"CPU": cpus, "GPU": gpus})[0].slots, []
    except UserError as error:  # a plan may be made on another machine than the study will run on
        slots, unfit = 0, [f"On {place}: {error}"]
    planned = tuple(_plan(config, arm, pace.get(arm.name)) for arm in arms)
    search = None if config.search.trials is None else sum(a.search or 0 for a in planned)
    select = sum(a.select for a in planned)
    confirm, least = sum(a.confirm for a in planned), sum(a.confirm_least for a in planned)
    trials = {
        "search": search,
        "select": select,
        "confirm_least": least,
        "confirm": confirm,
        "total_least": None if search is None else search + select + least,
        "total": None if search is None else search + select + confirm,
    }
    most = _seconds(planned, pace, [a.epochs_most for a in planned])
    expected = _seconds(planned, pace, [a.epochs_expected for a in planned])
    workers = config.resources.workers
    hours = Estimate(_scaled(most, workers / 3600), _scaled(expected, workers / 3600))
    price = config.price_per_device_hour
    return Plan(
        study=config.name,
        protocol=config.protocol,
        objective=config.objective,
        arms=planned,
        trials=trials,
        slots=slots,
        fills=len(arms) * config.replicates * config.search.parallel,
        cpus=cpus,
        gpus=gpus,
        place=place,
        epochs=Estimate(_sum(a.epochs_most for a in planned), _sum(a.epochs_expected for a in planned)),
        epoch_seconds=dict(pace),
        wall_seconds=Estimate(
            _wall(planned, pace, most, slots, trials["total"]),
            _wall(planned, pace, expected, slots, trials["total"]),
        ),
        device_hours=hours,
        price=None if price is None else Estimate(_scaled(hours.most, price), _scaled(hours.expected, price)),
        notes=(*_notes(config, planned, hours), *_elsewhere(config, place, pace), *unfit),
    )


def _machine() -> tuple[int, int, str]:
    """Return CPUs, GPUs and description of the cluster in BALANCE_TUNE_REACH, else of this machine."""
    size = declared_resources()
    if size is None:
        return (*this_machine(), HERE)
    return int(size.get("CPU", 0)), int(size.get("GPU", 0)), f"the cluster that {REACH} tells"


def this_machine() -> tuple[int, int]:
    """Return the CPUs that this process may use and the GPUs that it sees."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cpus, torch.cuda.device_count()


def _plan(config: StudyConfig, arm: Arm, pace: float | None) -> ArmPlan:
    default = arm.space.defaults()
    epochs = arm.epochs(default)
    min_epochs = arm.min_epochs(default)
    search = config.search
    rule = rule_of(search.early_stopping, epochs)
    rungs: tuple[Rung, ...] = ()
    points = config.select.points if search.trials is None else min(config.select.points, search.trials - 1)
    confirm = config.confirm.seeds + config.confirm.default_seeds
    expected: float | None
    if search.trials is not None:
        expectation = rule.expect(search.trials, min_epochs)
        rungs, expected = expectation.rungs, expectation.epochs
        most: int | None = search.trials * epochs
    else:
        # enough trials to use up the budget: the last one may begin just before its end
        spent = None if pace is None else (search.device_seconds or 0.0) / pace / config.resources.workers
        expected = spent
        most = None if spent is None else math.ceil(spent) + epochs
    if not arm.space.parameters:  # the default is the only point there is
        points = 0
    if points == 0:
        confirm = config.confirm.seeds
    select, replicates = select_trainings(points, config.select.seeds), config.replicates
    later = (select + confirm) * epochs
    steps = 2 * epochs + (0.0 if expected is None else expected / search.parallel)
    return ArmPlan(
        arm=arm.name,
        dataset=arm.dataset,
        searched=tuple(p.name for p in arm.space.parameters),
        epochs=epochs,
        first_judged=min(rule.rung_epochs(min_epochs), default=None),
        rungs=rungs,
        search=None if search.trials is None else search.trials * replicates,
        select=select * replicates,
        confirm=confirm * replicates,
        confirm_least=config.confirm.seeds * replicates,
        epochs_most=None if most is None else (most + later) * replicates,
        epochs_expected=None if expected is None else round((expected + later) * replicates, 1),
        chain=round(steps, 1),
    )


def _seconds(arms: Sequence[ArmPlan], pace: Mapping[str, float | None], epochs: Sequence[float | None]) -> float | None:
    """Return the device-seconds of one worker for so many epochs of each arm."""
    total = 0.0
    for arm, count in zip(arms, epochs, strict=True):
        seconds = pace.get(arm.arm)
        if seconds is None or count is None:
            return None
        total += seconds * count
    return total


def _wall(
    arms: Sequence[ArmPlan], pace: Mapping[str, float | None], seconds: float | None, slots: int, trials: int | None
) -> float | None:
    """Return the wall time: all work over all slots, but at least that of a search batch by batch."""
    if seconds is None or slots < 1:
        return None
    chain = max(arm.chain * (pace[arm.arm] or 0.0) for arm in arms)
    return round(START + max((seconds + TRIAL * (trials or 0)) / slots, chain), 1)


def _notes(config: StudyConfig, arms: Sequence[ArmPlan], hours: Estimate) -> list[str]:
    notes = ["Gains are measured against joint, the baseline, which every study has."]
    if config.replicates == 1:
        notes.append(
            "With one replicate the verdict is about one tuned point on one split; `replicates: 5` makes it one about "
            "methods."
        )
    if config.search.early_stopping.kind != "none":
        never = [a.arm for a in arms if a.first_judged is None]
        if never:
            notes.append(f"Never stopped early, because judged too late: {', '.join(never)}.")
    still = [a.arm for a in arms if not a.searched]
    if still:
        notes.append(f"Nothing is searched in: {', '.join(still)}; their trials differ by seed alone.")
    limit = config.limit.device_hours
    if limit is not None and hours.expected is not None and hours.expected > limit:
        notes.append(f"The limit of {limit:g} device-hours will end it before it is through.")
    if config.protocol == "paper":
        notes.append("Protocol paper: the test set selects, as in publications; not comparable with a sealed study.")
    return notes


def _elsewhere(config: StudyConfig, place: str, pace: Mapping[str, float | None]) -> list[str]:
    if all(seconds is None for seconds in pace.values()):
        return []
    requests = {config.resources.of(name).gpus_per_trial for name in config.datasets}
    needs_gpus = any(gpus not in ("auto", 0.0) for gpus in requests)
    if needs_gpus and not this_machine()[1]:
        return ["The time of an epoch is that of this machine's CPU, not of the GPUs that trials ask for."]
    return [] if place == HERE else [f"The time of an epoch is this machine's, not one of {place}."]


def _sum(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return round(total, 1)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else round(value * factor, 6)
