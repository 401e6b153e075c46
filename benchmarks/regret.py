"""How far from the best point a search ends: true regret, replayed on multi-seed recordings of learning curves.

    python -m benchmarks.regret              the short form, as in `make bench`
    python -m benchmarks.regret --long       40 seeds, all searches

Samplers, early stopping and selection are the product's own. A training is the recorded curve of the nearest recorded
point that the search has not used yet. Selection trains on two recorded seeds that all points share, as in a study, and
every search trial on one of the others, drawn at random (where a point has no others, on one that it has). The truth of
a point is its mean over further seeds, which no search sees, so that a lucky epoch or seed gains nothing:

    regret = truth of the best recorded point - truth of the point that selection chooses, in points of accuracy

The best point is the best by some of these seeds, and its truth is its mean over the others (`recorded.Recording`).
Searches with one seed see the same noise. Intervals are bootstrapped over seeds, the same resample for both searches of
a ratio.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler
from optuna.trial import TrialState

from balance_tune.studies.config.schema import EarlyStopping, Select
from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.early_stopping.pruning_log import Decision, PruningLog
from balance_tune.studies.early_stopping.rules import Asha
from balance_tune.studies.protocol.selection import Candidate, Rule, due, winner
from balance_tune.studies.search.samplers import sampler_for
from balance_tune.studies.storage.records import Phase, State, TrialRecord
from balance_tune.tasks import Objective
from benchmarks.recorded import CURVES, Floats, OnRecord, Recording
from benchmarks.replicate import hits
from benchmarks.table import Table, show

BUDGETS = (12, 20, 32)
FIRST = 100  # seed of the first search: smaller ones were used when the sampler's constants were chosen
MARGIN = Select().margin
FULL = {"kind": "none"}
ASHA = {"kind": "asha", "grace": 3, "reduction": 3}
OBJECTIVE = Objective("val/accuracy")
STATES: dict[State, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class Search:
    """A sampler by its name in a study file, or one made by `sampler`, and early stopping as in a study file."""

    kind: str
    early_stopping: Mapping[str, Any] = field(default_factory=dict)
    sampler: Callable[..., BaseSampler] = sampler_for


def optuna_gp(kind: str, *, study_seed: int, number: int, trials: int, **_: Any) -> BaseSampler:
    """Return Optuna's own Gaussian process, as `sampler_for` returns ours."""
    seed = study_seed * 1000 + number
    return GPSampler(seed=seed, n_startup_trials=max(4, trials // 4), warn_independent_sampling=False)


class Hyperband(Asha):
    """Asynchronous Hyperband: ASHA in brackets, each with its first rung one reduction later; trials take turns."""

    name = "hyperband"

    def __init__(self, epochs: int, *, grace: int, reduction: float) -> None:
        super().__init__(epochs, grace=grace, reduction=reduction)
        rungs = self.rung_epochs()
        self._brackets = [Asha(epochs, grace=rung, reduction=reduction) for rung in rungs]

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        bracket = self._brackets[number % len(self._brackets)]
        if epoch not in bracket.rung_epochs():
            return Decision(number, epoch, value, None, 1, 1, stop=False)
        return bracket.decide(number, epoch, value)


BANDS = {"kind": "benchmarks.regret:Hyperband", "grace": 1}
SEARCHES = {
    "random": Search("random", FULL),
    "random + ASHA": Search("random", ASHA),
    "TPE + ASHA": Search("tpe", ASHA),
    "CMA-ES + ASHA": Search("cmaes", ASHA),
    "Optuna's GP + ASHA": Search("gp", ASHA, optuna_gp),
    "random + Hyperband": Search("random", BANDS),
    "TPE + Hyperband (as BOHB)": Search("tpe", BANDS),
    "gp + ASHA": Search("gp", ASHA),
}
BASELINE, OURS = "TPE + ASHA", "gp + ASHA"
SHORT = ("random + ASHA", BASELINE, OURS)


@dataclass
class Outcome:
    """What became of one search.

    Attributes:
        chosen: index of the point with the best mean over the selection seeds.
        cautious: index of the point that a study takes, which is the default unless that is clearly beaten.
        spent: epochs of all search trials.
        reached: for every search trial that ran to its end, the epochs spent by then and the point.
        tried: points of all search trials.
        candidates: points that selection trained.
    """

    chosen: int
    cautious: int
    spent: int
    reached: list[tuple[int, int]]
    tried: list[int]
    candidates: list[int]


class Replay:
    """One search on a recording, with the selection that follows it."""

    def __init__(self, recording: Recording, search: Search, trials: int, seed: int, folder: Path) -> None:
        self._recording, self._search, self._trials, self._seed = recording, search, trials, seed
        log = _InMemoryLog(folder / "none.jsonl")
        settings = EarlyStopping(**search.early_stopping)
        self._pruner = Pruner(settings, {recording.arm.name: recording.epochs}, log, OBJECTIVE)
        self._rule = Rule(study_seed=seed)
        self._seeds = np.random.default_rng([seed, 1]).permutation(recording.val.shape[1]).tolist()
        self.records: list[TrialRecord] = []
        self.reached: list[tuple[int, int]] = []

    def run(self) -> Outcome:
        """Search, select, and return what was chosen."""
        self.search()
        spent = sum(r.epochs for r in self.records)
        rule = self._rule
        while (best := winner(self.records, rule)) is None:
            waiting = due(self.records, rule)
            if not waiting:
                break
            for number, trial in enumerate(waiting, start=len(self.records)):
                index = self._recording.nearest(trial.params, set())
                attrs = {"default": trial.default, "point": trial.point}
                self._train(index, number, trial.seed, "select", attrs)
        cautious = winner(self.records, replace(rule, margin=MARGIN))
        points = {
            phase: sorted({self._recording.nearest(r.params, set()) for r in self.records if r.phase == phase})
            for phase in ("search", "select")
        }
        chosen = self._index(best), self._index(cautious)
        return Outcome(*chosen, spent, self.reached, points["search"], points["select"])

    def _index(self, point: Candidate | None) -> int:
        return self._recording.default if point is None else self._recording.nearest(point.params, set())

    def search(self) -> None:
        recording, used = self._recording, {self._recording.default}
        space = recording.arm.space
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
        study.enqueue_trial(recording.params(recording.default))
        for number in range(self._trials):
            made = self._search.sampler(
                self._search.kind,
                study_seed=self._seed,
                arm=recording.arm.name,
                number=number,
                trials=self._trials,
                searched=space,
            )
            study.sampler = OnRecord(made, recording, used) if number else made
            trial = study.ask(space.distributions())
            index = recording.nearest(trial.params, set()) if number else recording.default
            record = self._train(index, number, number, "search", {"default": number == 0})
            for epoch, value in record.curve.items():
                trial.report(value, epoch)
            if record.state == "complete":
                study.tell(trial, record.value)
                self.reached.append((sum(r.epochs for r in self.records), index))
            else:
                study.tell(trial, state=STATES[record.state])

    def _train(self, index: int, number: int, seed: int, phase: Phase, attrs: dict[str, Any]) -> TrialRecord:
        """Play one trial; return its record, which is added to the others."""
        curve = self._recording.val[index, self._recorded_seed(index, number, seed, phase)].tolist()
        state: State = "complete"
        shown: dict[int, float] = {}
        for epoch, value in enumerate(curve, start=1):
            if math.isnan(value):
                state = "failed"
                break
            shown[epoch] = value
            judged = phase == "search" and epoch < len(curve)
            if judged and self._pruner.should_prune(self._recording.arm.name, number, epoch, value):
                state = "pruned"
                break
        value = None if state == "failed" else max(shown.values()) if state == "complete" else shown[max(shown)]
        if phase == "select" and value is not None:
            attrs["val_units"] = hits(value, self._seed, number)
        arm = self._recording.arm
        record = TrialRecord(
            arm=arm.name,
            dataset=arm.dataset,
            method=arm.method,
            phase=phase,
            number=number,
            state=state,
            params=self._recording.params(index),
            seed=seed,
            value=value,
            curve=shown,
            attrs={**attrs, "epochs": max(1, len(shown))},
        )
        self.records.append(record)
        return record

    def _recorded_seed(self, index: int, number: int, seed: int, phase: Phase) -> int:
        """Return the recorded seed of a trial at a point: in selection the same for all points that have it."""
        kept = self._rule.select_seeds
        if phase == "select":
            turn = self._rule.seeds("select").index(seed)
            order = [*self._seeds[turn:kept], *self._seeds[:turn], *self._seeds[kept:]]
        else:
            others = np.random.default_rng([self._seed, 2, number]).permutation(self._seeds[kept:]).tolist()
            order = [*others, *self._seeds[:kept]]
        own = self._recording.seeds[index]
        return int(next(s for s in order if s in own))


class _InMemoryLog(PruningLog):
    def append(self, arm: str, decision: Decision) -> None:
        self._remember(arm, decision)


def outcomes(recording: Recording, search: Search, trials: int, seeds: Sequence[int]) -> list[Outcome]:
    """Return what became of one search per seed."""
    with tempfile.TemporaryDirectory() as name:
        return [Replay(recording, search, trials, seed, Path(name)).run() for seed in seeds]


def regrets(recording: Recording, points: Sequence[int]) -> Floats:
    """Return the regret of each chosen point in points of accuracy."""
    return 100 * (recording.best - recording.truth[list(points)])


def goal(recording: Recording, trials: int = 20, draws: int = 500) -> float:
    """Return the median truth of the best of so many random points, over independent draws."""
    rng = np.random.default_rng(0)
    best = [recording.truth[rng.choice(len(recording.truth), trials, replace=False)].max() for _ in range(draws)]
    return float(np.median(best))


def epochs_to(recording: Recording, target: float, outcome: Outcome) -> float:
    """Return the epochs spent until a trial at a point as good as `target` had run to its end; else infinity."""
    return next((float(spent) for spent, i in outcome.reached if recording.truth[i] >= target), math.inf)


def ratio(ours: Sequence[Floats], theirs: Sequence[Floats], draws: int = 2000) -> tuple[float, float, float]:
    """Return the ratio of the mean regrets over tasks, and its 95 % interval from a bootstrap over seeds.

    Args:
        ours: task -> (seeds,) regrets.
        theirs: the same of the other search, with the same seeds.
    """
    rng = np.random.default_rng(0)
    mean = sum(r.mean() for r in ours) / sum(r.mean() for r in theirs)
    drawn = []
    for _ in range(draws):
        above = below = 0.0
        for a, b in zip(ours, theirs, strict=True):
            picked = rng.integers(len(a), size=len(a))
            above, below = above + a[picked].mean(), below + b[picked].mean()
        drawn.append(above / below)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(mean), float(low), float(high)


Found = Mapping[tuple[str, int], Sequence[Sequence[Outcome]]]  # (search, trials) -> task -> seed


def measure(recordings: Sequence[Recording], searches: Sequence[str], budgets: Sequence[int], seeds: int) -> Found:
    """Return what became of every search at every budget."""
    found: dict[tuple[str, int], list[list[Outcome]]] = {}
    for name in searches:
        for trials in budgets:
            found[name, trials] = [outcomes(r, SEARCHES[name], trials, range(FIRST, FIRST + seeds)) for r in recordings]
        print(f"{name}: {len(recordings)} tasks, {seeds} seeds", file=sys.stderr, flush=True)
    return found


def regret_table(recordings: Sequence[Recording], found: Found) -> Table:
    """Return mean regrets over the tasks, and their ratios to the baseline's."""
    rows = []
    for (name, trials), tasks in found.items():
        own = [regrets(r, [o.chosen for o in task]) for r, task in zip(recordings, tasks, strict=True)]
        base = [
            regrets(r, [o.chosen for o in task]) for r, task in zip(recordings, found[BASELINE, trials], strict=True)
        ]
        cautious = [regrets(r, [o.cautious for o in task]).mean() for r, task in zip(recordings, tasks, strict=True)]
        mean, low, high = ratio(own, base)
        epochs = statistics.fmean(outcome.spent for task in tasks for outcome in task)
        rows.append(
            [
                str(trials),
                name,
                " / ".join(f"{r.mean():.2f}" for r in own),
                f"{np.mean([r.mean() for r in own]):.3f}",
                "1" if name == BASELINE else f"{mean:.2f} [{low:.2f}, {high:.2f}]",
                f"{np.mean(cautious):.3f}",
                f"{epochs:.0f}",
            ]
        )
    rows.sort(key=lambda row: int(row[0]))
    seeds = len(next(iter(found.values()))[0])
    tasks_text = ", ".join(f"{r.arm.name} ({len(r.arm.space.parameters)})" for r in recordings)
    default = " / ".join(f"{regrets(r, [r.default])[0]:.2f}" for r in recordings)
    return Table(
        "True regret of a search",
        f"Points of accuracy between the best recorded point and the chosen one, on seeds that no search sees; "
        f"{seeds} searches each. Tasks (parameters): {tasks_text}; the regret of their defaults: {default}. "
        "`study`: where the default stays unless clearly beaten, as in a study. Ratio of the mean regrets to those "
        f"of {BASELINE}, with a 95 % interval.",
        ("trials", "search", "regret by task", "mean", "ratio", "study", "epochs"),
        rows,
    )


def sources_table(recordings: Sequence[Recording], found: Found) -> Table:
    """Return which step of a search each part of the regret comes from, in the mean over tasks and seeds."""

    def least(step: Callable[[Outcome], Sequence[int]], tasks: Sequence[Sequence[Outcome]]) -> float:
        by_task = [
            statistics.fmean(regrets(r, step(o)).min() if step(o) else regrets(r, [r.default])[0] for o in task)
            for r, task in zip(recordings, tasks, strict=True)
        ]
        return statistics.fmean(by_task)

    steps: tuple[Callable[[Outcome], Sequence[int]], ...] = (
        lambda o: o.tried,
        lambda o: [i for _, i in o.reached],
        lambda o: o.candidates,
        lambda o: [o.chosen],
        lambda o: [o.cautious],
    )
    rows = [
        [str(trials), name, *(f"{least(step, tasks):.3f}" for step in steps)]
        for (name, trials), tasks in sorted(found.items(), key=lambda item: item[0][1])
    ]
    return Table(
        "Where the regret comes from",
        "The regret of the best point that was tried, that ran to its end, that selection trained, of the point that "
        "selection chose, and of the choice where the default stays unless clearly beaten; means over tasks. The first "
        "is the sampler's, what the second adds is early stopping's, and the rest is the noise of few selection seeds.",
        ("trials", "search", "tried", "ran to its end", "candidates", "chosen", "study"),
        rows,
    )


def epochs_table(recordings: Sequence[Recording], found: Found, trials: int) -> Table:
    """Return the epochs that searches of so many trials need until a point is as good as the goal."""
    rows = []
    for (name, budget), tasks in found.items():
        if budget == trials:
            medians = [
                statistics.median(epochs_to(r, goal(r), outcome) for outcome in task)
                for r, task in zip(recordings, tasks, strict=True)
            ]
            rows.append([name, *("-" if math.isinf(m) else f"{m:.0f}" for m in medians)])
    return Table(
        "Epochs to a fixed target",
        "Median epochs of all trials until one had run to its end at a point that is as good as the best of 20 random "
        f"points (the median of such bests over independent draws); -: not by half of the searches in {trials} trials.",
        ("search", *(f"{r.arm.name} ({len(r.arm.space.parameters)})" for r in recordings)),
        rows,
    )


def tasks() -> list[Recording]:
    """Return the recordings on which searches are replayed, those with fewer parameters first."""
    return sorted(map(Recording, sorted(CURVES.glob("*.npz"))), key=lambda r: len(r.arm.space.parameters))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="all searches and budgets, 40 seeds; an hour")
    parser.add_argument("--seeds", type=int)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    recordings = tasks()
    searches, budgets = (tuple(SEARCHES), BUDGETS) if args.long else (SHORT, (BUDGETS[0], BUDGETS[-1]))
    found = measure(recordings, searches, budgets, args.seeds or (40 if args.long else 10))
    show(
        regret_table(recordings, found), sources_table(recordings, found), epochs_table(recordings, found, BUDGETS[-1])
    )


if __name__ == "__main__":
    main()
