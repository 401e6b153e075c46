"""Rows of a leaderboard, looked up and made up."""

from __future__ import annotations

from typing import Any

from balance_tune.studies.results.inference import Comparison, estimate
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.results.verdict import verdicts


def row_of(rows: list[LeaderboardRow], arm: str) -> LeaderboardRow:
    return next(row for row in rows if row.arm == arm)


def row_like(method: str, **columns: Any) -> LeaderboardRow:
    common = {"dataset": "toy", "confirmed": True, "val": 0.9, "val_confirm": 0.9, "search_val": 0.9, "saved": 0.5}
    spent = {"trials": 10, "complete": 5, "pruned": 5, "epochs": 100}
    return LeaderboardRow(**{**common, **spent, "method": method, "arm": f"toy/{method}", **columns})


def table_of(deltas: dict[str, list[float]], joint: float = 0.95, **options: Any) -> list[LeaderboardRow]:
    """Return rows as if methods differed from the joint baseline by these amounts, one a seed."""
    tests = {method: estimate(differences) for method, differences in deltas.items()}
    found = verdicts([Comparison(t, None, None) for t in tests.values()], **options)
    rows = [
        row_like(
            method,
            test_mean=joint + (t.mean or 0),
            seeds=tuple(range(t.n)),
            n=t.n,
            delta=t.mean,
            delta_sd=t.sd,
            delta_ci=t.ci,
            p_holm=v.p_holm,
            mde_holm=v.mde_holm,
            outcome=v.outcome,
        )
        for (method, t), v in zip(tests.items(), found, strict=True)
    ]
    return [*rows, row_like("joint", baseline=True, test_mean=joint, seeds=(0,))]
