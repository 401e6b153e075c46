"""Decides from the records of an arm in one replicate which selection and confirmation trials are due.

It is pure, so that a study resumes.

Select: the best `points` distinct points of the search beside the default, and the default, on the first fresh seed;
on each further one of `select_seeds` the better half of them, and the default. The best mean validation objective of
those on all seeds wins, but the default stays unless it is clearly beaten. Confirm: the
winner on `confirm_seeds` seeds common to all arms, the default on the first `default_seeds` of them; where the default
wins, one set of trials serves both. No test metric is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from balance_tune.errors import UserError
from balance_tune.studies.protocol.keys import seed_offset
from balance_tune.studies.protocol.lead import Lead, lead_of
from balance_tune.studies.storage.records import Phase, TrialRecord
from balance_tune.tasks import Objective

PHASE_SEEDS = 1_000_000  # seeds a phase of one study may use; the phases of one study, and studies, use disjoint ranges
REPLICATE_SEEDS = 10_000  # of them, those of one replicate
PHASES: tuple[Phase, ...] = ("search", "select", "confirm")


def seed_of(study_seed: int, phase: Phase, index: int) -> int:
    """Return the seed of the `index`-th trial (search) or the `index`-th common seed (select, confirm) of a study.

    Study seed s owns [3e6 s, 3e6 (s + 1)): the first million for search, the second for select, the third for confirm.
    So no phase ever trains on a seed another phase has seen, in this study or in one with another seed.
    """
    if study_seed < 0 or not 0 <= index < PHASE_SEEDS:
        raise UserError(f"`seed >= 0` and `0 <= index < {PHASE_SEEDS}` must hold, but got ({study_seed=}, {index=}).")
    return (study_seed * len(PHASES) + PHASES.index(phase)) * PHASE_SEEDS + index


def point_key(params: Mapping[str, Any]) -> str:
    """Return a key of 12 hex digits that is the same for the same parameters in any order, in every process."""
    text = json.dumps(dict(params), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Rule:
    """How much is selected and confirmed, the study's seed, and the objective that decides."""

    points: int = 4
    select_seeds: int = 2
    confirm_seeds: int = 10
    default_seeds: int = 5
    study_seed: int = 0
    objective: Objective = Objective("val/accuracy")
    margin: float = 0.0  # standard errors by which a point must beat the default
    replicate: int = 0
    offset: int = 0  # of the arm's seeds

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Return the rule of a resolved study file, whose entries are named as in YAML."""
        select, confirm = config.get("select") or {}, config.get("confirm") or {}
        settings: dict[str, Any] = {
            "points": select.get("points"),
            "select_seeds": select.get("seeds"),
            "margin": select.get("margin"),
            "confirm_seeds": confirm.get("seeds"),
            "default_seeds": confirm.get("default_seeds"),
            "study_seed": config.get("seed"),
            "objective": Objective(config["objective"]) if config.get("objective") else None,
        }
        return cls(**{name: value for name, value in settings.items() if value is not None})

    def at(self, arm: str, replicate: int) -> Self:
        """Return the rule for an arm in a replicate (0, 1, ...), which has seeds of its own."""
        return replace(self, replicate=replicate, offset=seed_offset(arm))

    def seeds(self, phase: Phase) -> list[int]:
        """Return the seeds of select or confirm in this replicate, the same for every arm but the placebo."""
        count = self.select_seeds if phase == "select" else self.confirm_seeds
        return [
            seed_of(self.study_seed, phase, self.replicate * REPLICATE_SEEDS + self.offset + i) for i in range(count)
        ]


@dataclass(frozen=True)
class Candidate:
    """A point of an arm's space: its parameters and its best search value (None: it never completed)."""

    key: str
    params: Mapping[str, Any]
    default: bool
    value: float | None
    number: int  # of the search trial it was first seen in


@dataclass(frozen=True)
class PendingTrial:
    """A trial that select or confirm still has to run."""

    phase: Phase
    point: str
    params: Mapping[str, Any]
    seed: int
    default: bool


def candidates(records: Iterable[TrialRecord], rule: Rule) -> list[Candidate]:
    """Return the points to select among, best first: `rule.points` of the search beside the default, and the default.

    Completed points rank by value; behind them, since a search may have stopped nearly all, those that early stopping
    ended: by epochs trained, then by their last value. Ties go to the earlier trial. The default is there even if its
    search trial was stopped or failed.
    """
    by_point: dict[str, list[TrialRecord]] = {}
    for r in sorted((r for r in records if r.phase == "search"), key=lambda r: r.number):
        by_point.setdefault(point_key(r.params), []).append(r)
    ranked: list[tuple[_Standing, Candidate]] = []
    default = next((key for key, own in by_point.items() if any(r.attrs.get("default") for r in own)), None)
    for key, own in by_point.items():
        best = min(own, key=lambda r: _rank(r, rule))
        value = best.value if best.state == "complete" else None
        if value is not None or best.state == "pruned" or key == default:
            point = Candidate(key, own[0].params, key == default, value, own[0].number)
            ranked.append((_rank(best, rule), point))
    points = [point for _, point in sorted(ranked, key=lambda r: (r[0], r[1].number))]
    others = [point.key for point in points if not point.default][: rule.points]
    return [point for point in points if point.default or point.key in others]


_Standing = tuple[int, float, float]


def _rank(record: TrialRecord, rule: Rule) -> _Standing:
    """Return the sort key of a search trial, the best first: how it ended, epochs trained, value."""
    if record.value is None or record.state not in ("complete", "pruned"):
        return 2, 0.0, 0.0
    if record.state == "complete":
        return 0, 0.0, -rule.objective.gain(record.value)
    return 1, -float(record.epochs), -rule.objective.gain(record.value)


def winner(records: Sequence[TrialRecord], rule: Rule) -> Candidate | None:
    """Return the point that selection chooses; None while that is not known, and None if all of it failed.

    Of the points on all selection seeds the one with the best mean validation objective wins if it is ahead of the
    default by more than `rule.margin` standard errors (see `protocol.lead`), else the default. A point that failed on a
    selection seed ranks behind every point that did not. Ties go to the better search value, then to the earlier trial.
    With no selection seeds the best of the search wins.
    """
    best = best_by_selection(records, rule)
    choice = advantage(records, rule, best)
    if choice is None or choice[1].exceeds(rule.margin):
        return best
    return choice[0]


def advantage(records: Sequence[TrialRecord], rule: Rule, best: Candidate | None) -> tuple[Candidate, Lead] | None:
    """Return the default and the lead of `best`, the best point by selection, over it; None without such a choice.

    There is none without selection seeds, where the default is the best, or where it failed on one of the seeds.
    """
    points = candidates(records, rule)
    default = next((p for p in points if p.default), None)
    if best is None or best.default or default is None or rule.select_seeds == 0:
        return None
    trials = {p.key: [r for r in selected(records, rule, p) if r.state == "complete"] for p in points}
    if len(trials[default.key]) < rule.select_seeds:
        return None
    values = {key: [rule.objective.gain(r.value) for r in own if r.value is not None] for key, own in trials.items()}
    units = {key: [r.attrs.get("val_units") for r in own] for key, own in trials.items()}
    return default, lead_of(best.key, default.key, values, units)


def best_by_selection(records: Sequence[TrialRecord], rule: Rule) -> Candidate | None:
    """Return the best point by selection, whether or not it beats the default clearly; None while it is not known."""
    points = candidates(records, rule)
    if rule.select_seeds == 0:
        return next((p for p in points if p.value is not None), None)
    if _selection_due(records, rule, points) != []:
        return None
    seeds = rule.seeds("select")
    last = [p for p in points if len(_of(records, "select", p.key, seeds)) == len(seeds)]
    return next((p for p in _ranked(records, rule, last, seeds) if _values(records, p, seeds)), None)


def _selection_due(
    records: Sequence[TrialRecord], rule: Rule, points: Sequence[Candidate]
) -> list[PendingTrial] | None:
    """Return the select trials of the round under way that have not begun; None while it waits for running ones."""
    seeds, live = rule.seeds("select"), list(points)
    for i, seed in enumerate(seeds):
        if i:
            others = _ranked(records, rule, [p for p in live if not p.default], seeds[:i])
            live = others[: in_round(rule.points, i)] + [p for p in live if p.default]
        missing = _missing(records, "select", live, [seed])
        if missing:
            return missing
        if not all(r.finished for p in live for r in _of(records, "select", p.key, [seed])):
            return None
    return []


def in_round(points: int, index: int) -> int:
    """Return how many of so many points are trained, beside the default, on the `index`-th selection seed (0, 1, ...).

    All are on the first, and the better half of the rest on each further one: sequential halving (Karnin, Koren and
    Somekh, ICML 2013), which finds the best of many noisy points with fewer trainings than all points on all seeds.
    """
    return math.ceil(points / (1 << index))


def select_trainings(points: int, seeds: int) -> int:
    """Return how many trainings select among so many points and the default."""
    return sum(in_round(points, i) + 1 for i in range(seeds))


def _ranked(
    records: Sequence[TrialRecord], rule: Rule, points: Sequence[Candidate], seeds: Sequence[int]
) -> list[Candidate]:
    """Return points, best first by their mean over selection seeds; those that failed on one are behind."""

    def rank(p: Candidate) -> tuple[int, float, float, int]:
        values = _values(records, p, seeds)
        mean = rule.objective.gain(sum(values) / len(values)) if values else -math.inf
        search_gain = rule.objective.gain(p.value) if p.value is not None else -math.inf
        return len(seeds) - len(values), -mean, -search_gain, p.number

    return sorted(points, key=rank)


def _values(records: Sequence[TrialRecord], point: Candidate, seeds: Sequence[int]) -> list[float]:
    own = _of(records, "select", point.key, seeds)
    return [r.value for r in own if r.state == "complete" and r.value is not None]


def due(records: Sequence[TrialRecord], rule: Rule) -> list[PendingTrial]:
    """Return the select trials of an arm whose search is over that have not begun, or else its confirm trials.

    `records` are all of that arm's. A trial counts as started in any state: a failed one is done, with failure, unless
    it was lost with its machine. Empty: wait for the running ones; if nothing runs either, the arm is done.
    """
    points = candidates(records, rule)
    pending = _selection_due(records, rule, points)
    if pending != []:
        return pending or []
    best = winner(records, rule)
    if best is None:
        return []
    seeds = rule.seeds("confirm")
    default = next((p for p in points if p.default and p.key != best.key), None)
    rest = _missing(records, "confirm", [default], seeds[: rule.default_seeds]) if default else []
    return _missing(records, "confirm", [best], seeds) + rest


def is_decided(records: Sequence[TrialRecord], rule: Rule) -> bool:
    """Return whether no select or confirm trial is due or running, so that the arm can be reported."""
    return not due(records, rule) and all(r.finished for r in records if r.phase != "search")


def failures(records: Sequence[TrialRecord], config: Mapping[str, Any]) -> dict[str, str]:
    """Return arm -> why it has nothing to compare: each of its replicates is through without a finished confirmation.

    Args:
        records: all of a study's trials.
        config: the study as plain data.
    """
    reasons = cell_failures(records, config)
    arms: dict[str, dict[str, None]] = {}
    for r in records:
        arms.setdefault(r.arm, {})[r.cell] = None
    expected = config.get("replicates") or 1
    return {
        arm: reasons[list(cells)[-1]]
        for arm, cells in arms.items()
        if len(cells) >= expected and all(cell in reasons for cell in cells)
    }


def cell_failures(records: Sequence[TrialRecord], config: Mapping[str, Any]) -> dict[str, str]:
    """Return cell -> why it has nothing to compare, for those that are through without a finished confirmation.

    Args:
        records: all of a study's trials.
        config: the study as plain data.
    """
    rule, search = Rule.of(config), config.get("search") or {}
    cells: dict[str, list[TrialRecord]] = {}
    for r in records:
        cells.setdefault(r.cell, []).append(r)
    reasons = {}
    for name, own in cells.items():
        reason = _failure([r for r in own if not r.superseded], rule.at(own[0].arm, own[0].replicate), search)
        if reason is not None:
            reasons[name] = reason
    return reasons


def _failure(records: Sequence[TrialRecord], rule: Rule, search: Mapping[str, Any]) -> str | None:
    if not records or not all(r.finished for r in records):
        return None
    searched = [r for r in records if r.phase == "search"]
    if search.get("trials") is not None:
        through = len(searched) >= search["trials"]
    else:
        through = sum(r.device_seconds for r in searched) >= (search.get("device_seconds") or math.inf)
    if not through or due(records, rule):
        return None
    best = winner(records, rule)
    if best is not None and any(r.state == "complete" for r in confirmed(records, rule, best)):
        return None
    all_failed = all(r.state == "failed" for r in searched)
    failed = [r for r in (searched if all_failed else records) if r.state == "failed"]
    if not failed:
        return None
    what = {"search": "search", "select": "selection", "confirm": "confirmation"}[failed[-1].phase]
    same = [r for r in failed if r.phase == failed[-1].phase]
    trials = f"{len(same)} {what} trial{'s' if len(same) > 1 else ''}"
    return f"{trials} failed, the last with: {failed[-1].attrs.get('reason') or 'no reason recorded'}"


def confirmed(
    records: Iterable[TrialRecord], rule: Rule, point: Candidate, seeds: int | None = None
) -> list[TrialRecord]:
    """Return a point's finished confirm trials on the first `seeds` common seeds (default: all), in their order."""
    own_seeds = rule.seeds("confirm")[:seeds]
    return [r for r in _of(records, "confirm", point.key, own_seeds) if r.finished]


def selected(records: Iterable[TrialRecord], rule: Rule, point: Candidate) -> list[TrialRecord]:
    """Return a point's finished select trials, in the order of seeds."""
    return [r for r in _of(records, "select", point.key, rule.seeds("select")) if r.finished]


def _of(records: Iterable[TrialRecord], phase: Phase, key: str, seeds: Sequence[int]) -> list[TrialRecord]:
    place = {seed: i for i, seed in enumerate(seeds)}
    by_seed: dict[int, TrialRecord] = {}
    for r in records:
        same = r.phase == phase and r.seed in place and not r.superseded and _point(r) == key
        if same and r.seed is not None:
            by_seed.setdefault(r.seed, r)
    return sorted(by_seed.values(), key=lambda r: place[r.seed or 0])


def _point(record: TrialRecord) -> str:
    return str(record.attrs.get("point") or point_key(record.params))


def _missing(
    records: Sequence[TrialRecord], phase: Phase, points: Sequence[Candidate], seeds: Sequence[int]
) -> list[PendingTrial]:
    started = {(_point(r), r.seed) for r in records if r.phase == phase and not r.superseded}
    return [
        PendingTrial(phase, p.key, p.params, seed, p.default)
        for seed in seeds
        for p in points
        if (p.key, seed) not in started
    ]


def best_trial(
    records: Sequence[TrialRecord], arm: str, params: Mapping[str, Any] | None, objective: Objective
) -> TrialRecord | None:
    """Return the trial whose checkpoint represents an arm: of the chosen point, the seed that is best by validation.

    Confirmation trials come first, then selection, then the search, as far as the study has got.

    Args:
        records: trials, of other arms too.
        arm: the arm's name.
        params: the chosen point; None while nothing is chosen.
        objective: what decides.
    """
    own = [r for r in records if r.arm == arm and r.state == "complete" and r.value is not None]
    if params is not None:
        chosen = point_key(params)
        own = [r for r in own if (r.attrs.get("point") or point_key(r.params)) == chosen] or own
    for phase in ("confirm", "select", "search"):
        best = objective.best_of((r for r in own if r.phase == phase), lambda r: r.value or 0.0)
        if best is not None:
            return best
    return None
