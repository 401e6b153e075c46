"""Caveats of a study's data and tuning that a reader of the leaderboard must know, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from balance_tune.studies.results.findings import by_table
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.results.report.charts import number
from balance_tune.studies.results.report.sources import Sources
from balance_tune.studies.storage.records import Range

MAX_LISTED = 6  # items a sentence holds
ONE_SIDED = 1.645  # standard errors of a one-sided test at 5 %
EDGE = 0.02  # a value within this share of a range's width is at its bound


def cautions(sources: Sources) -> list[str]:
    """Return a sentence for each modality at chance, modality as good as the fused model, tie on validation, unreadable
    samples, and tuned value at the bound of its range.
    """
    return [
        text
        for rows in by_table(sources.rows).values()
        for manifest in [sources.manifests.get(rows[0].dataset, {})]
        for text in (*_modalities(rows, manifest), *_tie(rows), *_unreadable(manifest), *_bounds(sources, rows))
    ]


def _modalities(rows: Sequence[LeaderboardRow], manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield what single modalities of the joint baseline reach, if that is chance, or as much as the fused model."""
    row = next((row for row in rows if row.baseline and row.test_by_modality), None)
    if row is None or not row.test_by_modality:
        return
    metric, scores = row.metric.by_modality, row.test_by_modality
    counts = [int(n) for n in ((manifest.get("counts") or {}).get("test") or {}).values()]
    total = sum(counts)
    if metric == "accuracy" and len(counts) > 1 and total > 0:
        chance = max(counts) / total
        for name, score in scores.items():
            if score <= chance + ONE_SIDED * math.sqrt(chance * (1 - chance) / total):
                yield (
                    f"On {row.dataset}, {name} alone is at chance in joint training: its test accuracy is "
                    f"{metric.text_with_unit(score)}, and the largest class has {metric.text_with_unit(chance)} of the "
                    "test rows."
                )
    if row.metric == metric and row.test_ci is not None:
        best = max(scores, key=lambda name: metric.gain(scores[name]))
        if metric.gain(scores[best]) >= min(map(metric.gain, row.test_ci)):
            yield (
                f"On {row.dataset}, {best} alone reaches {metric.text_with_unit(scores[best])} in joint training, "
                f"within the 95 % interval of the fused model ({metric.text(row.test_ci[0])} to "
                f"{metric.text_with_unit(row.test_ci[1])}): the other modalities add little that balancing could use."
            )


def _tie(rows: Sequence[LeaderboardRow]) -> Iterator[str]:
    """Yield which arms have the same validation score as the best one, with the digits that the table shows."""
    best = next((row for row in rows if row.chosen and row.val_confirm is not None), None)
    if best is None:
        return
    shown = best.objective.text_with_unit(best.val_confirm)
    level = [r.method for r in rows if r.objective.text_with_unit(r.val_confirm) == shown and not r.diagnostic]
    if len(level) > 1:
        yield f"On {best.dataset}, {_list(level)} tie on validation ({shown}): which of them is named best is chance."


def _unreadable(manifest: Mapping[str, Any]) -> Iterator[str]:
    skipped = manifest.get("skipped") or []
    if skipped:
        dataset = (manifest.get("identity") or {}).get("dataset")
        names = _list([f"{entry['sample']} ({entry['reason']})" for entry in skipped])
        count = f"{len(skipped)} sample{'s' if len(skipped) > 1 else ''}"
        yield f"{count} of {dataset} could not be read and {'are' if len(skipped) > 1 else 'is'} in no part: {names}."


def _bounds(sources: Sources, rows: Sequence[LeaderboardRow]) -> Iterator[str]:
    """Yield which tuned values lie at the bound of the range that was searched."""
    ends = []
    for row in rows:
        own = sources.arm(row)
        space = {name: range_ for r in own for name, range_ in r.space.items()}
        default = next((r.params for r in own if r.phase == "search" and r.attrs.get("default")), {})
        for name, value in (row.params or {}).items():
            if name in space and value != default.get(name) and _at_bound(value, space[name]):
                span = f"{number(space[name].low or 0)} to {number(space[name].high or 0)}"
                ends.append(f"{row.arm} {name} {number(value)} of {span}")
    if ends:
        yield (
            f"Tuning ended at the bound of a range ({_list(ends)}): better values may lie beyond it, and "
            "`search.space` sets it."
        )


def _at_bound(value: Any, range_: Range) -> bool:
    low, high = range_.low, range_.high
    if low is None or high is None or not high > low or isinstance(value, bool | str):
        return False
    if range_.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return not EDGE < (value - low) / (high - low) < 1 - EDGE


def _list(items: Sequence[str]) -> str:
    more = len(items) - MAX_LISTED + 1
    shown = list(items) if len(items) <= MAX_LISTED else [*items[: MAX_LISTED - 1], f"{more} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
