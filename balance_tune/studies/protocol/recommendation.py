"""The recommended hyperparameters of an arm, from validation in all replicates; no test metric is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from balance_tune.studies.protocol.selection import Candidate, Rule, candidates, confirmed, winner
from balance_tune.studies.storage.records import TrialRecord


@dataclass(frozen=True)
class Recommendation:
    """A point and why.

    Attributes:
        point: the recommended point.
        chosen: in how many of the replicates it was chosen.
        default_kept: in how many of them the default was kept.
        replicates: that have chosen a point.
        lead: its mean lead over the default on the validation rows of the replicates that chose it, on confirmation
            seeds, larger is better; None of the default, and where the default was not trained on these seeds.
    """

    point: Candidate
    chosen: int
    default_kept: int
    replicates: int
    lead: float | None = None


def recommend(cells: Mapping[int, Sequence[TrialRecord]], rule: Rule) -> Recommendation | None:
    """Return the recommended point of an arm; None while no replicate has chosen one.

    Where more than half of the replicates kept the default, it is recommended. Else the chosen point with the largest
    mean lead over the default on validation, measured on confirmation seeds, which had no part in its choice.

    Args:
        cells: replicate -> all trials of the arm in it.
        rule: the study's.
    """
    rules = {k: rule.at(own[0].arm, k) for k, own in cells.items() if own}
    choices = {k: point for k in rules if (point := winner(cells[k], rules[k])) is not None}
    if not choices:
        return None
    with_default = [point for point in choices.values() if point.default]
    if 2 * len(with_default) > len(choices):
        return Recommendation(with_default[0], len(with_default), len(with_default), len(choices))
    leads: dict[str, list[float]] = {}
    for k, point in choices.items():
        if not point.default:
            lead = _lead(cells[k], rules[k], point)
            leads.setdefault(point.key, []).extend([] if lead is None else [lead])
    best = max(leads, key=lambda key: fmean(leads[key]) if leads[key] else float("-inf"))
    own = [point for point in choices.values() if point.key == best]
    mean = fmean(leads[best]) if leads[best] else None
    return Recommendation(own[0], len(own), len(with_default), len(choices), mean)


def _lead(records: Sequence[TrialRecord], rule: Rule, point: Candidate) -> float | None:
    """Return the mean lead of a point over the default on validation, over the confirmation seeds of both."""
    default = next((c for c in candidates(records, rule) if c.default), None)
    if default is None:
        return None
    ours, theirs = (
        {r.seed: rule.objective.gain(r.value) for r in confirmed(records, rule, c) if r.value is not None}
        for c in (point, default)
    )
    common = ours.keys() & theirs.keys()
    return fmean(ours[seed] - theirs[seed] for seed in common) if common else None
