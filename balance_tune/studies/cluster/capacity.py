"""The largest size that a growing cluster may reach. Trials ask for all of it at once, before its nodes exist."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from balance_tune.errors import UserError
from balance_tune.studies.wording import shown

REACH = "BALANCE_TUNE_REACH"
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # where `ray up` puts the cluster's own file on its head


def reach(now: Mapping[str, float]) -> dict[str, float]:
    """Return the largest resources of a cluster that has `now`; a resource that is not known to grow stays as it is.

    BALANCE_TUNE_REACH, as '{"CPU": 64, "GPU": 8}', comes first; then the file of `ray up`, on the head.

    Raises:
        UserError: BALANCE_TUNE_REACH is not such a mapping.
    """
    most = declared_resources()
    if most is None:
        most = largest(_bootstrap())
    return {name: max(now.get(name, 0.0), most.get(name, 0.0)) for name in {**now, **most}}


def largest(config: Mapping[str, Any]) -> dict[str, float]:
    """Return the sum of the resources of all nodes that a launcher file allows, the head included."""
    capacity: dict[str, float] = {}
    limit = config.get("max_workers", 2)
    for name, kind in (config.get("available_node_types") or {}).items():
        count = 1 if name == config.get("head_node_type") else min(kind.get("max_workers", limit), limit)
        for resource, amount in (kind.get("resources") or {}).items():
            capacity[resource] = capacity.get(resource, 0.0) + count * float(amount)
    return capacity


def declared_resources() -> dict[str, float] | None:
    """Return the resources in BALANCE_TUNE_REACH; None where it is not set.

    Raises:
        UserError: as `reach`.
    """
    text = os.environ.get(REACH)
    if not text:
        return None
    try:
        value = json.loads(text)
        most = {str(name): float(amount) for name, amount in value.items()}
        if all(math.isfinite(amount) and amount >= 0 for amount in most.values()):
            return most
    except (ValueError, TypeError, AttributeError):
        pass
    raise UserError(f'{REACH} must look like \'{{"CPU": 64, "GPU": 8}}\', but got {shown(text)}.')


def _bootstrap() -> Mapping[str, Any]:
    try:
        settings = yaml.safe_load(BOOTSTRAP.expanduser().read_text())
    except (OSError, RuntimeError, yaml.YAMLError):  # not on a head of `ray up`
        return {}
    return settings if isinstance(settings, Mapping) else {}
