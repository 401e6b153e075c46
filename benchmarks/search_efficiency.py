"""How many epochs a search needs, replayed on recorded learning curves: our searcher with ASHA against random search.

    python -m benchmarks.search_efficiency

Everything that decides is the study's own code: its queue, its samplers, its judge with ASHA, one trial at a time, the
default first, each search with the same budget in epochs. Only training is replaced: what a sampler proposes is moved
to the nearest recorded point that this search has not used yet (Euclidean distance; every range scaled to [0, 1], on a
log scale where it is searched on one; another choice counts 1), and that point's recorded curve is what its training
gives. So points, values and noise are those of real trainings, none of which a search sees twice. Random search with
full trials goes through the same code.

The goal of a seed is the best value that random search with full trials has found when its budget is spent. A search
has reached it when a trial that ran to its end has that value; all epochs until then count, those of stopped trials
too. A search that does not get there within the same budget counts as infinitely long. Searches with one seed begin
with the same random points; random search with ASHA draws nothing but those of its goal, which no other search can.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.early_stopping.pruning_log import Decision, PruningLog
from balance_tune.studies.protocol.arms import Arm
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.protocol.space import Fixed, Parameter, Space
from balance_tune.studies.search.study_queue import Outcome, StudyQueue
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.tasks import Objective

CURVES = Path(__file__).parent / "curves"
Told = Literal["pruned", "complete"]
Floats = NDArray[np.float64]


class Recorded:
    """Recorded points of one arm: `points` (points, parameters), a choice by its index."""

    def __init__(self, arm: str, parameters: Sequence[Parameter], points: Floats, epochs: int) -> None:
        dataset, _, method = arm.partition("/")
        fixed = {"training.epochs": Fixed(epochs, "as recorded")}
        self.arm = Arm(dataset, method, None, Space(tuple(parameters), fixed))
        self.epochs = epochs
        self._points = points
        self._scaled = np.stack([_scaled(p, points[:, i]) for i, p in enumerate(parameters)], axis=1)

    def nearest(self, params: Mapping[str, Any], used: set[int]) -> int:
        """Return the index of the recorded point nearest to `params` of those not `used`."""
        space = self.arm.space.parameters
        raw = [params[p.name] if p.choices is None else p.choices.index(params[p.name]) for p in space]
        apart = self._scaled - [_scaled(p, np.array([x]))[0] for p, x in zip(space, raw, strict=True)]
        chosen = [i for i, p in enumerate(space) if p.choices is not None]
        apart[:, chosen] = apart[:, chosen] != 0
        distance = (apart**2).sum(1)
        distance[list(used)] = math.inf
        return int(distance.argmin())

    def params(self, index: int) -> dict[str, Any]:
        """Return a recorded point as a trial has it."""
        named = zip(self.arm.space.parameters, self._points[index].tolist(), strict=True)
        return {p.name: x if p.choices is None else p.choices[int(x)] for p, x in named}


class Curves(Recorded):
    """The recorded curves of one arm; `values` (points, epochs) are validation accuracies, NaN where training broke."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            about = json.loads(str(stored["about"]))
            correct, points = stored["correct"].astype(np.float64), stored["points"]
        self.values: Floats = np.where(correct < 0, np.nan, correct / about["validation_rows"])
        super().__init__(str(about["arm"]), [parameter(p) for p in about["space"]], points, self.values.shape[1])


def parameter(stored: Mapping[str, Any]) -> Parameter:
    """Return a parameter as it is stored beside recorded points."""
    choices = stored["choices"]
    return Parameter(**{**stored, "choices": None if choices is None else tuple(choices)})


class OnRecord(BaseSampler):
    """Proposes the unused recorded point nearest to what another sampler proposes; `used` grows by it."""

    def __init__(self, inner: BaseSampler, curves: Recorded, used: set[int]) -> None:
        self._inner, self._curves, self._used = inner, curves, used

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._curves.arm.space.distributions()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        together = self._inner.infer_relative_search_space(study, trial)
        params = self._inner.sample_relative(study, trial, together)
        for name, distribution in search_space.items():
            if name not in params:
                params[name] = self._inner.sample_independent(study, trial, name, distribution)
        index = self._curves.nearest(params, self._used)
        self._used.add(index)
        return self._curves.params(index)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise AssertionError("all parameters are proposed together")

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(study, trial, state, values)


@dataclass(frozen=True)
class Search:
    """How a budget is spent: which sampler, which early stopping, and what Optuna is told of a stopped trial."""

    sampler: str = "tpe"
    early_stopping: Mapping[str, Any] = field(default_factory=dict)
    told: Told = "pruned"


RANDOM = Search("random", {"kind": "none"})


def replay(
    curves: Curves, search: Search, *, trials: int, seed: int, goal: float = math.inf
) -> list[tuple[int, float]]:
    """Return (epochs spent so far, value) of each trial that ran to its end.

    The search ends when it has spent as many epochs as so many full trials have, or when the goal is reached.
    """
    config = config_of(curves, search, trials, seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pruning_log = _PruningLog(folder / "ledger.jsonl")
        pruner = Pruner(
            config.search.early_stopping, {curves.arm.name: curves.epochs}, pruning_log, Objective(config.objective)
        )
        made = _Queue if search.told == "pruned" else _ToldComplete
        queue = made(config, curves, pruning_log, folder)
        done: list[tuple[int, float]] = []
        spent = 0
        while queue.searching(curves.arm.name) and (not done or done[-1][1] < goal):
            given = queue.next()
            assert given is not None
            epochs, value = _train(queue, pruner, given.key, curves.values[given.config["curve"]])
            spent += epochs
            if value is not None:
                done.append((spent, value))
        return done


def config_of(curves: Curves, search: Search, trials: int, seed: int) -> StudyConfig:
    """Return a study whose search may spend the epochs of so many full trials; an epoch takes one device-second."""
    settings = {"device_seconds": float(trials * curves.epochs), "sampler": search.sampler}
    return read_config(
        {
            "name": "replay",
            "datasets": [curves.arm.dataset],
            "methods": [curves.arm.method],
            "search": {**settings, "early_stopping": dict(search.early_stopping)},
            "seed": seed,
        }
    )


def _train(queue: StudyQueue, pruner: Pruner, key: TrialKey, curve: Floats) -> tuple[int, float | None]:
    """Play one trial; return its epochs, and its value if it ran to its end."""
    min_epochs = queue.live[key].min_epochs
    best = 0
    for epoch, value in enumerate(curve.tolist(), start=1):
        if math.isnan(value):
            queue.finish(key, "failed", "its loss was not finite")
            return epoch, None
        best = epoch if epoch == 1 or value > curve[best - 1] else best
        stop = epoch < len(curve) and pruner.should_prune(key.arm, key.number, epoch, value, min_epochs)
        row = {"epoch": epoch, "val/accuracy": value, "best_epoch": best, "device_seconds": float(epoch)}
        queue.report(key, row)
        if stop:
            queue.finish(key, "pruned")
            return epoch, None
    queue.finish(key, "complete")
    return len(curve), float(curve[best - 1])


class _PruningLog(PruningLog):
    """A pruning log in memory."""

    def append(self, arm: str, decision: Decision) -> None:
        self._remember(arm, decision)


class _Queue(StudyQueue):
    """A study's queue in memory that proposes recorded points only."""

    def __init__(self, config: StudyConfig, curves: Curves, pruning_log: PruningLog, folder: Path) -> None:
        self._curves, self._used = curves, {0}  # the default is the first recorded point
        super().__init__(
            config,
            [curves.arm],
            optuna.storages.InMemoryStorage(),
            pruning_log,
            StudyFolder(folder),
            configure=lambda arm, params, phase, number, seed, replicate: {
                "folder": str(folder / str(number)),
                "curve": int(curves.nearest(params, set())),  # its index: a configuration is written as JSON
            },
        )

    def _sampler(self, arm: str, number: int) -> BaseSampler:
        return OnRecord(super()._sampler(arm, number), self._curves, self._used)


class _ToldComplete(_Queue):
    """Tells a stopped trial as complete, with the value of its last epoch, as Ray's own OptunaSearch does."""

    def finish(self, key: TrialKey, outcome: Outcome, reason: str = "") -> None:
        if outcome == "pruned":
            run = self.live[key]
            run.best_epoch, outcome = run.epochs, "complete"
        super().finish(key, outcome, reason)


@dataclass(frozen=True)
class Efficiency:
    """Epochs until the goal, seed by seed; infinite where it was not reached within `budget` epochs.

    `ours`: searcher and ASHA; `as_complete`: the same, stopped trials told as COMPLETE; `random_stopped`: random search
    with ASHA; `random`: random search with full trials, which set the goal.
    """

    ours: tuple[float, ...]
    as_complete: tuple[float, ...]
    random_stopped: tuple[float, ...]
    random: tuple[float, ...]
    budget: int

    @property
    def share(self) -> float:
        """Median epochs of searcher and ASHA over the budget of random search."""
        return statistics.median(self.ours) / self.budget

    @property
    def against_complete(self) -> float:
        """Median epochs when stopped trials are told as PRUNED over those when they are told as COMPLETE."""
        return statistics.median(self.ours) / statistics.median(self.as_complete)

    @property
    def reached(self) -> int:
        return sum(math.isfinite(epochs) for epochs in self.ours)


def measure(
    curves: Curves, *, trials: int, seeds: Sequence[int], early_stopping: Mapping[str, Any] | None = None
) -> Efficiency:
    """Compare the searches on the curves of one arm, seed by seed; `early_stopping` as in a study file."""
    found: dict[str, list[float]] = {"ours": [], "as_complete": [], "random_stopped": [], "random": []}
    asha = early_stopping or {}
    searches = {
        "ours": Search("tpe", asha),
        "as_complete": Search("tpe", asha, "complete"),
        "random_stopped": Search("random", asha),
    }
    for seed in seeds:
        full = replay(curves, RANDOM, trials=trials, seed=seed)
        goal = max(value for _, value in full)
        found["random"].append(_epochs_to(goal, full))
        for name, search in searches.items():
            found[name].append(_epochs_to(goal, replay(curves, search, trials=trials, seed=seed, goal=goal)))
    return Efficiency(**{name: tuple(epochs) for name, epochs in found.items()}, budget=trials * curves.epochs)


def _epochs_to(goal: float, done: Sequence[tuple[int, float]]) -> float:
    return next((float(spent) for spent, value in done if value >= goal), math.inf)


def _scaled(p: Parameter, x: Floats) -> Floats:
    if p.choices is not None:
        return x
    low, high = float(p.low or 0), float(p.high or 0)
    if p.log:
        return np.log(x / low) / math.log(high / low)
    return (x - low) / (high - low)


def summary(curves: Curves, trials: int, found: Efficiency) -> str:
    """Return the figures of one comparison in a few lines."""
    median = {f.name: statistics.median(getattr(found, f.name)) for f in fields(found) if f.name != "budget"}
    return (
        f"{curves.arm.name}, {len(curves.values)} recorded points; random search with {trials} full trials: "
        f"{found.budget} epochs\n"
        f"  searcher + ASHA reaches its best after {median['ours']:.0f} epochs = {found.share:.2f} of them "
        f"(median; {found.reached} of {len(found.ours)} seeds reach it)\n"
        f"  stopped trials told as COMPLETE, not PRUNED: {median['as_complete']:.0f} epochs "
        f"(PRUNED / COMPLETE {found.against_complete:.2f})\n"
        f"  random search + ASHA: {median['random_stopped']:.0f} epochs; random search itself had it after "
        f"{median['random']:.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[20, 40], help="full trials of random search")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--grace", type=int, help="ASHA's first rung (default: a study's own default)")
    parser.add_argument("--reduction", type=int, help="ASHA's reduction (default: a study's own default)")
    args = parser.parse_args()
    asha = {name: getattr(args, name) for name in ("grace", "reduction") if getattr(args, name) is not None}
    shares: dict[int, list[float]] = {trials: [] for trials in args.trials}
    for path in sorted(CURVES.glob("*.npz")):
        curves = Curves(path)
        for trials in args.trials:
            found = measure(curves, trials=trials, seeds=range(args.seeds), early_stopping=asha)
            shares[trials] += [epochs / found.budget for epochs in found.ours]
            print(summary(curves, trials, found), flush=True)
    for trials, all_arms in shares.items():
        within = statistics.fmean(share <= 1 / 3 for share in all_arms)
        print(
            f"all arms, {trials} full trials: {statistics.median(all_arms):.2f} of the epochs in the median; "
            f"{within:.0%} of the searches need at most a third of them"
        )


if __name__ == "__main__":
    main()
