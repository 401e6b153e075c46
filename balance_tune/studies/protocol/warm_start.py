"""The points of an earlier study that a search tries first (`search.warm_start`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.protocol.arms import Arm
from balance_tune.studies.protocol.selection import Rule, candidates
from balance_tune.studies.storage.files import DATABASE
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder


def warm_points(config: StudyConfig, arms: Sequence[Arm], root: StudyFolder) -> dict[str, list[Mapping[str, Any]]]:
    """Return the best points of another study for the same arms that lie in the spaces of this one."""
    other = config.search.warm_start
    if other is None:
        return {}
    rule = Rule.of(config.as_dict())
    (root / other).download_file(DATABASE)
    points: dict[str, list[Mapping[str, Any]]] = {}
    records = read_records(root.path / other)
    for arm in arms:
        ranked = candidates([r for r in records if r.arm == arm.name], rule)
        points[arm.name] = [
            p.params for p in ranked if not p.default and p.value is not None and arm.space.contains(p.params)
        ]
    return points
